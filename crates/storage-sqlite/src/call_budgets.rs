use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, CallRequest};
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{CallBudgets, GrantedCalls, MAX_CALL_LEAD, Result, backend::claims::micros};
use sqlx::{Connection, query, query_scalar};

use crate::store::SqliteStore;

#[async_trait]
impl CallBudgets for SqliteStore {
    async fn grant_calls(&self, app_id: &AppId, class: &str, request: &CallRequest) -> Result<GrantedCalls> {
        self.write("taking calls out of a budget", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let lead = query_scalar!(
                r#"select granted_until - cast(unixepoch('subsec') * 1000000 as integer) as "lead!: i64"
                   from call_budgets where app_id = ?1 and class = ?2"#,
                app_id.as_str(),
                class
            )
            .fetch_optional(&mut *tx)
            .await?;
            let lead = Duration::from_micros(lead.and_then(|lead| lead.try_into().ok()).unwrap_or(0));
            let lead = if lead > MAX_CALL_LEAD { Duration::ZERO } else { lead };
            let calls = request.granted(lead);
            if calls > 0 {
                query!(
                    "insert into call_budgets (app_id, class, granted_until)
                     values (?1, ?2, cast(unixepoch('subsec') * 1000000 as integer) + ?3)
                     on conflict (app_id, class) do update set granted_until = excluded.granted_until",
                    app_id.as_str(),
                    class,
                    micros(lead + request.interval * calls)
                )
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(GrantedCalls { calls, lead })
        })
        .await
    }

    async fn hold_calls(&self, app_id: &AppId, class: &str, lead: Duration) -> Result<()> {
        self.write("holding the calls of a budget", async |db| {
            query!(
                "insert into call_budgets (app_id, class, granted_until)
                 values (?1, ?2, cast(unixepoch('subsec') * 1000000 as integer) + ?3)
                 on conflict (app_id, class) do update set
                     granted_until = max(call_budgets.granted_until, excluded.granted_until)",
                app_id.as_str(),
                class,
                micros(lead.min(MAX_CALL_LEAD))
            )
            .execute(db)
            .await
        })
        .await?;
        Ok(())
    }
}
