//! Export and import of whole rows.

mod export;
mod find;
mod insert;
mod records;

use async_trait::async_trait;
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{
    Result,
    transfer::{Record, RowKey, Table, Transfer},
};
use sqlx::{Connection, query_scalar};

use self::{export::export, find::find, insert::insert};
use crate::{encryption_keys::note_imported, store::SqliteStore};

#[async_trait]
impl Transfer for SqliteStore {
    async fn export(&self, table: Table, after: Option<&RowKey>, limit: u32) -> Result<Vec<Record>> {
        self.read("exporting rows", async |db| export(db, table, after, limit).await).await
    }

    async fn find(&self, table: Table, keys: &[RowKey]) -> Result<Vec<Record>> {
        self.read("finding rows", async |db| find(db, table, keys).await).await
    }

    async fn import(&self, rows: &[Record]) -> Result<u64> {
        self.write("importing rows", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let mut written = 0;
            for row in rows {
                written += insert(&mut tx, row).await?;
            }
            note_imported(&mut tx, rows).await?;
            tx.commit().await?;
            Ok(written)
        })
        .await
    }

    async fn count(&self, table: Table) -> Result<u64> {
        let count = self
            .read("counting rows", async |db| match table {
                Table::Applications => {
                    query_scalar!(r#"select count(*) as "n!: i64" from applications"#).fetch_one(db).await
                }
                Table::Tokens => {
                    query_scalar!(r#"select count(*) as "n!: i64" from access_tokens"#).fetch_one(db).await
                }
                Table::Profiles => {
                    query_scalar!(r#"select count(*) as "n!: i64" from user_profiles"#).fetch_one(db).await
                }
                Table::Sessions => {
                    query_scalar!(r#"select count(*) as "n!: i64" from user_auth_sessions"#)
                        .fetch_one(db)
                        .await
                }
                Table::ApiKeys => {
                    query_scalar!(r#"select count(*) as "n!: i64" from api_keys"#).fetch_one(db).await
                }
                Table::ProcessedEvents => {
                    query_scalar!(r#"select count(*) as "n!: i64" from processed_events"#).fetch_one(db).await
                }
                Table::Audit => {
                    query_scalar!(r#"select count(*) as "n!: i64" from audit_log"#).fetch_one(db).await
                }
            })
            .await?;
        Ok(count.unsigned_abs())
    }
}
