//! Changes as rows of the table `changes`, which the triggers of `migrations/sqlite/0018_changes_and_repeats.sql` fill.

use async_trait::async_trait;
use larkauth_storage::{Change, ChangeFeed, Changes, Result};
use sqlx::{query_as, query_scalar};

use crate::store::SqliteStore;

const DURING: &str = "following changes";

#[async_trait]
impl Changes for SqliteStore {
    async fn change_feed(&self) -> Result<Option<Box<dyn ChangeFeed>>> {
        let last = self
            .read(DURING, async |db| {
                query_scalar!(r#"select coalesce(max(change_id), 0) as "id!: i64" from changes"#)
                    .fetch_one(db)
                    .await
            })
            .await?;
        Ok(Some(Box::new(SqliteFeed { store: self.clone(), last })))
    }
}

struct SqliteFeed {
    store: SqliteStore,
    /// Number of the last change that was returned.
    last: i64,
}

struct Row {
    change_id: i64,
    subject: String,
    app_id: Option<String>,
    open_id: Option<String>,
}

#[async_trait]
impl ChangeFeed for SqliteFeed {
    async fn next(&mut self) -> Result<Vec<Change>> {
        let last = self.last;
        let rows = self
            .store
            .read(DURING, async |db| {
                query_as!(
                    Row,
                    "select change_id, subject, app_id, open_id from changes where change_id > ?1 order by change_id",
                    last
                )
                .fetch_all(db)
                .await
            })
            .await?;
        let Some(newest) = rows.last().map(|row| row.change_id) else { return Ok(Vec::new()) };
        self.last = newest;
        // A number is missing when many changes displaced it, or an erasure removed it.
        if usize::try_from(newest - last) != Ok(rows.len()) {
            return Ok(vec![Change::Everything]);
        }
        let mut changes: Vec<_> = rows.into_iter().map(change).collect();
        changes.dedup();
        Ok(changes)
    }

    async fn arrived(&mut self) {
        std::future::pending::<()>().await;
    }
}

fn change(row: Row) -> Change {
    match (row.subject.as_str(), row.app_id, row.open_id) {
        ("token", Some(app_id), Some(open_id)) => Change::Token { app_id, open_id },
        ("applications", ..) => Change::Applications,
        ("api_keys", ..) => Change::ApiKeys,
        _ => Change::Everything,
    }
}
