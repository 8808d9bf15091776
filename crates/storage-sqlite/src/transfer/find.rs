//! Reading rows by their keys.

use larkauth_storage::transfer::{
    ApiKeyRecord, ApplicationRecord, AuditRecord, ProcessedEventRecord, ProfileRecord, Record, RowKey,
    SessionRecord, Table, TokenRecord,
};
use sqlx::{SqliteConnection, query_as, types::Json};

use super::records::{records, rows};
use crate::columns::{Id, JsonValue, Micros, OptionalId, OptionalMicros, OptionalTexts, Texts};

pub(super) async fn find(
    db: &mut SqliteConnection,
    table: Table,
    keys: &[RowKey],
) -> sqlx::Result<Vec<Record>> {
    let keys = Json(keys.iter().map(|key| &key.0).collect::<Vec<_>>());
    Ok(match table {
        Table::Applications => {
            rows!(db, Applications, "where app_id in (select value ->> 0 from json_each(?1))", keys)
        }
        Table::Tokens => rows!(
            db,
            Tokens,
            "where (app_id, open_id, kind) in (select value ->> 0, value ->> 1, value ->> 2 from json_each(?1))",
            keys
        ),
        Table::Profiles => rows!(
            db,
            Profiles,
            "where (app_id, open_id) in (select value ->> 0, value ->> 1 from json_each(?1))",
            keys
        ),
        Table::Sessions => {
            rows!(db, Sessions, "where session_id in (select value ->> 0 from json_each(?1))", keys)
        }
        Table::ApiKeys => rows!(db, ApiKeys, "where key_id in (select value ->> 0 from json_each(?1))", keys),
        Table::ProcessedEvents => rows!(
            db,
            ProcessedEvents,
            "where (consumer, event_id) in (select value ->> 0, value ->> 1 from json_each(?1))",
            keys
        ),
        Table::Audit => rows!(db, Audit, "where audit_id in (select value ->> 0 from json_each(?1))", keys),
    })
}
