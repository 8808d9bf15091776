use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, CallRequest};
use larkauth_storage::{CallBudgets, GrantedCalls, MAX_CALL_LEAD, Result, backend::claims::micros};
use sqlx::{PgConnection, query, query_as};

use crate::store::PgStore;

struct Granted {
    calls: i64,
    lead: i64,
}

#[async_trait]
impl CallBudgets for PgStore {
    async fn grant_calls(&self, app_id: &AppId, class: &str, request: &CallRequest) -> Result<GrantedCalls> {
        let granted = self
            .call("taking calls out of a budget", async |db| {
                if let Some(granted) = grant(db, app_id, class, request).await? {
                    return Ok(granted);
                }
                query!(
                    "insert into call_budgets (app_id, class, granted_until) values ($1, $2, clock_timestamp())
                     on conflict do nothing",
                    app_id.as_str(),
                    class
                )
                .execute(&mut *db)
                .await?;
                grant(db, app_id, class, request).await?.ok_or(sqlx::Error::RowNotFound)
            })
            .await?;
        Ok(GrantedCalls {
            calls: granted.calls.try_into().unwrap_or(0),
            lead: Duration::from_micros(granted.lead.try_into().unwrap_or(0)),
        })
    }

    async fn hold_calls(&self, app_id: &AppId, class: &str, lead: Duration) -> Result<()> {
        self.call("holding the calls of a budget", async |db| {
            query!(
                "insert into call_budgets (app_id, class, granted_until)
                 values ($1, $2, clock_timestamp() + $3::bigint * interval '1 microsecond')
                 on conflict (app_id, class) do update set
                     granted_until = greatest(call_budgets.granted_until, excluded.granted_until)",
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

/// Does in one statement what `CallRequest::granted` says. `None`: the budget has no row yet.
async fn grant(
    db: &mut PgConnection,
    app_id: &AppId,
    class: &str,
    request: &CallRequest,
) -> sqlx::Result<Option<Granted>> {
    query_as!(
        Granted,
        r#"with budget as (
               select (extract(epoch from granted_until - clock_timestamp()) * 1000000)::bigint as lead
               from call_budgets where app_id = $1 and class = $2 for update),
           now as (select case when lead between 0 and $6::bigint then lead else 0 end as lead from budget),
           granted as materialized (
               select lead, least($3::bigint, greatest($5::bigint - lead, 0) / $4::bigint) as calls from now),
           taken as (
               update call_budgets b set
                   granted_until = clock_timestamp() + (g.lead + g.calls * $4) * interval '1 microsecond'
               from granted g where b.app_id = $1 and b.class = $2 and g.calls > 0)
           select calls as "calls!", lead as "lead!" from granted"#,
        app_id.as_str(),
        class,
        i64::from(request.calls),
        micros(request.interval).max(1),
        micros(request.max_lead),
        micros(MAX_CALL_LEAD)
    )
    .fetch_optional(db)
    .await
}
