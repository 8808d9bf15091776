//! Reading pages of rows.

use larkauth_storage::transfer::{
    ApiKeyRecord, ApplicationRecord, AuditRecord, ProcessedEventRecord, ProfileRecord, Record, RowKey,
    SessionRecord, Table, TokenRecord,
};
use sqlx::{SqliteConnection, query_as};

use super::records::{records, rows};
use crate::columns::{Id, JsonValue, Micros, OptionalId, OptionalMicros, OptionalTexts, Texts};

pub(super) async fn export(
    db: &mut SqliteConnection,
    table: Table,
    after: Option<&RowKey>,
    limit: u32,
) -> sqlx::Result<Vec<Record>> {
    let part = |n| RowKey::part(after, n);
    Ok(match table {
        Table::Applications => {
            let key_0 = part(0);
            rows!(db, Applications, "where app_id > ?1 order by app_id limit ?2", key_0, limit)
        }
        Table::Tokens => {
            let key_0 = part(0);
            let key_1 = part(1);
            let key_2 = part(2);
            rows!(
                db,
                Tokens,
                "where (app_id, open_id, kind) > (?1, ?2, ?3) order by app_id, open_id, kind limit ?4",
                key_0,
                key_1,
                key_2,
                limit
            )
        }
        Table::Profiles => {
            let key_0 = part(0);
            let key_1 = part(1);
            rows!(
                db,
                Profiles,
                "where (app_id, open_id) > (?1, ?2) order by app_id, open_id limit ?3",
                key_0,
                key_1,
                limit
            )
        }
        Table::Sessions => {
            let key_0 = part(0);
            rows!(db, Sessions, "where session_id > ?1 order by session_id limit ?2", key_0, limit)
        }
        Table::ApiKeys => {
            let key_0 = part(0);
            rows!(db, ApiKeys, "where key_id > ?1 order by key_id limit ?2", key_0, limit)
        }
        Table::ProcessedEvents => {
            let key_0 = part(0);
            let key_1 = part(1);
            rows!(
                db,
                ProcessedEvents,
                "where (consumer, event_id) > (?1, ?2) order by consumer, event_id limit ?3",
                key_0,
                key_1,
                limit
            )
        }
        Table::Audit => {
            let key_0 = part(0);
            rows!(db, Audit, "where audit_id > ?1 order by audit_id limit ?2", key_0, limit)
        }
    })
}
