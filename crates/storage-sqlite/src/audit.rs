use async_trait::async_trait;
use larkauth_models::{AppId, AuditAction, Timestamp};
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{
    Audit, AuditCursor, AuditEntry, AuditFilter, Result,
    transfer::{Record, Transfer},
};
use sqlx::{
    Connection, Sqlite, SqliteConnection, Transaction, query, query_as, sqlite::SqliteQueryResult,
    types::Json,
};

use crate::{
    columns::{Id, Micros, OptionalId, micros},
    store::SqliteStore,
};

/// Selects audit records. The arguments are the condition that the index serves, and its parameters. The first nine
/// parameters are the same for all conditions.
macro_rules! select_audit {
    ($condition:tt, $filter:expr $(, $parameter:expr)*) => {{
        let Page { at, id, since, until, app_ids, app_id, person, action, limit } = $filter;
        query_as!(
            AuditEntry,
            r#"select audit_id as "id!: Id", at as "at!: Micros", actor_kind, actor_id, actor_name, action, app_id, person,
                      session_id as "session_id!: OptionalId", key_id as "key_id!: OptionalId", address, request_id,
                      trace_id, outcome, reason, count as "count!: i32", encryption_key
               from audit_log
               where "# + $condition + r#" (at, audit_id) < (?1, ?2) and at >= ?3 and at < ?4
                 and (?5 = '[]' or app_id in (select value from json_each(?5)))
                 and (?6 is null or app_id = ?6) and (?7 is null or person = ?7) and (?8 is null or action = ?8)
               order by at desc, audit_id desc limit ?9"#,
            at,
            id,
            since,
            until,
            app_ids,
            app_id,
            person,
            action,
            limit
            $(, $parameter)*
        )
    }};
}

/// Parameters of every list.
struct Page<'a> {
    at: i64,
    id: String,
    since: i64,
    until: i64,
    app_ids: Json<&'a Vec<String>>,
    app_id: Option<&'a str>,
    person: Option<&'a str>,
    action: Option<&'static str>,
    limit: u32,
}

#[async_trait]
impl Audit for SqliteStore {
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<()> {
        let rows: Vec<_> = entries.iter().map(Record::from).collect();
        self.import(&rows).await.map(drop)
    }

    async fn list_audit(
        &self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>> {
        self.read("listing audit records", async |db| list(db, filter, after, limit).await).await
    }

    async fn pseudonymize_audit(
        &self,
        app_id: &AppId,
        ids: &[String],
        pseudonym: &str,
        limit: u32,
    ) -> Result<u64> {
        self.write("replacing a person in audit records", async |db| {
            // The sign `+` keeps the index by application out, which would lead to most of the log.
            let about = query!(
                "update audit_log set person = ?3
                 where audit_id in (
                     select audit_id from audit_log
                     where person in (select value from json_each(?2)) and +app_id = ?1 limit ?4)",
                app_id.as_str(),
                Json(ids),
                pseudonym,
                limit
            )
            .execute(&mut *db)
            .await?;
            let by = query!(
                "update audit_log set actor_id = ?3
                 where audit_id in (
                     select audit_id from audit_log
                     where actor_id in (select value from json_each(?2)) and actor_kind = 'person' and +app_id = ?1
                     limit ?4)",
                app_id.as_str(),
                Json(ids),
                pseudonym,
                limit
            )
            .execute(db)
            .await?;
            Ok(about.rows_affected() + by.rows_affected())
        })
        .await
    }

    async fn purge_audit(&self, before: Timestamp, limit: u32) -> Result<u64> {
        self.write("purging audit records", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            query!(
                "update audit_retention set deletable_before = ?1 where deletable_before < ?1",
                before.timestamp_micros()
            )
            .execute(&mut *tx)
            .await?;
            let done = query!(
                "delete from audit_log where audit_id in (
                     select audit_id from audit_log where at < ?1 order by at, audit_id limit ?2)",
                before.timestamp_micros(),
                limit
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(done.rows_affected())
        })
        .await
    }
}

/// Reads one page. Each kind of filter has its own statement, which uses its own index.
async fn list(
    db: &mut SqliteConnection,
    filter: &AuditFilter,
    after: Option<AuditCursor>,
    limit: u32,
) -> sqlx::Result<Vec<AuditEntry>> {
    let page = Page {
        // Without a cursor the page starts before every record.
        at: after.map_or(i64::MAX, |cursor| micros(cursor.at)),
        id: after.map(|cursor| cursor.id.hyphenated().to_string()).unwrap_or_default(),
        since: filter.since.map_or(i64::MIN, micros),
        until: filter.until.map_or(i64::MAX, micros),
        app_ids: Json(&filter.app_ids),
        app_id: filter.app_id.as_ref().map(AppId::as_str),
        person: filter.person.as_deref(),
        action: filter.action.map(AuditAction::as_str),
        limit,
    };
    match (filter.actor.as_deref(), page.person, page.action, page.app_id) {
        (Some(actor), ..) => select_audit!("actor_id = ?10 and", page, actor).fetch_all(db).await,
        (None, Some(_), ..) => select_audit!("person = ?7 and", page).fetch_all(db).await,
        (None, None, Some(_), _) => select_audit!("action = ?8 and", page).fetch_all(db).await,
        (None, None, None, Some(_)) => select_audit!("app_id = ?6 and", page).fetch_all(db).await,
        (None, None, None, None) => select_audit!("", page).fetch_all(db).await,
    }
}

/// Writes the record of a change and commits both, if the change was made. Returns whether it was.
pub(crate) async fn recorded(
    mut tx: Transaction<'_, Sqlite>,
    done: SqliteQueryResult,
    entry: &AuditEntry,
) -> sqlx::Result<bool> {
    if done.rows_affected() == 0 {
        tx.rollback().await?;
        return Ok(false);
    }
    record(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(true)
}

/// Writes a record in the transaction of the change that it is about.
pub(crate) async fn record(db: &mut SqliteConnection, entry: &AuditEntry) -> sqlx::Result<()> {
    query!(
        "insert into audit_log (audit_id, at, actor_kind, actor_id, actor_name, action, app_id, person, session_id,
                                key_id, address, request_id, trace_id, outcome, reason, count, encryption_key)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        entry.id.hyphenated(),
        micros(entry.at),
        &entry.actor_kind,
        &entry.actor_id,
        entry.actor_name.as_deref(),
        &entry.action,
        entry.app_id.as_deref(),
        entry.person.as_deref(),
        entry.session_id.map(|id| id.hyphenated()),
        entry.key_id.map(|id| id.hyphenated()),
        entry.address.as_deref(),
        entry.request_id.as_deref(),
        entry.trace_id.as_deref(),
        &entry.outcome,
        entry.reason.as_deref(),
        entry.count,
        entry.encryption_key.as_deref()
    )
    .execute(db)
    .await?;
    Ok(())
}
