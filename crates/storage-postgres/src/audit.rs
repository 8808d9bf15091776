use async_trait::async_trait;
use larkauth_models::{AppId, AuditAction, Timestamp};
use larkauth_storage::{Audit, AuditCursor, AuditEntry, AuditFilter, Result};
use sqlx::{Connection, PgConnection, Postgres, Transaction, postgres::PgQueryResult, query, query_as};
use uuid::Uuid;

use crate::store::PgStore;

#[async_trait]
impl Audit for PgStore {
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<()> {
        // One statement, so that a distant server costs one round trip.
        self.call("writing audit records", async |db| {
            query!(
                "insert into audit_log (audit_id, at, actor_kind, actor_id, actor_name, action, app_id, person, session_id,
                                        key_id, address, request_id, trace_id, outcome, reason, count, encryption_key)
                 select * from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[],
                                      $7::text[], $8::text[], $9::uuid[], $10::uuid[], $11::text[], $12::text[],
                                      $13::text[], $14::text[], $15::text[], $16::integer[], $17::text[])
                 on conflict (audit_id) do nothing",
                &column(entries, |entry| entry.id),
                &column(entries, |entry| entry.at),
                &column(entries, |entry| entry.actor_kind.clone()),
                &column(entries, |entry| entry.actor_id.clone()),
                &column(entries, |entry| entry.actor_name.clone()) as &[Option<String>],
                &column(entries, |entry| entry.action.clone()),
                &column(entries, |entry| entry.app_id.clone()) as &[Option<String>],
                &column(entries, |entry| entry.person.clone()) as &[Option<String>],
                &column(entries, |entry| entry.session_id) as &[Option<Uuid>],
                &column(entries, |entry| entry.key_id) as &[Option<Uuid>],
                &column(entries, |entry| entry.address.clone()) as &[Option<String>],
                &column(entries, |entry| entry.request_id.clone()) as &[Option<String>],
                &column(entries, |entry| entry.trace_id.clone()) as &[Option<String>],
                &column(entries, |entry| entry.outcome.clone()),
                &column(entries, |entry| entry.reason.clone()) as &[Option<String>],
                &column(entries, |entry| entry.count),
                &column(entries, |entry| entry.encryption_key.clone()) as &[Option<String>]
            )
            .execute(db)
            .await
        })
        .await
        .map(drop)
    }

    async fn list_audit(
        &self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>> {
        self.call("listing audit records", async |db| {
            // Each call gets a plan for its own filters. A generic plan would use no index for most of them.
            let mut tx = db.begin().await?;
            query!("set local plan_cache_mode = force_custom_plan").execute(&mut *tx).await?;
            let entries = query_as!(
                AuditEntry,
                "select audit_id as id, at, actor_kind, actor_id, actor_name, action, app_id, person, session_id, key_id,
                        address, request_id, trace_id, outcome, reason, count, encryption_key
                 from audit_log
                 where ($1::text is null or app_id = $1)
                   and ($2::text[] = '{}' or app_id = any($2))
                   and ($3::text is null or person = $3)
                   and ($4::text is null or actor_id = $4)
                   and ($5::text is null or action = $5)
                   and ($6::timestamptz is null or at >= $6)
                   and ($7::timestamptz is null or at < $7)
                   and ($8::timestamptz is null or (at, audit_id) < ($8, $9))
                 order by at desc, audit_id desc limit $10",
                filter.app_id.as_ref().map(AppId::as_str),
                &filter.app_ids,
                filter.person.as_deref(),
                filter.actor.as_deref(),
                filter.action.map(AuditAction::as_str),
                filter.since,
                filter.until,
                after.map(|cursor| cursor.at),
                after.map(|cursor| cursor.id),
                i64::from(limit)
            )
            .fetch_all(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(entries)
        })
        .await
    }

    async fn pseudonymize_audit(
        &self,
        app_id: &AppId,
        ids: &[String],
        pseudonym: &str,
        limit: u32,
    ) -> Result<u64> {
        self.call("replacing a person in audit records", async |db| {
            let about = query!(
                "update audit_log set person = $3
                 where audit_id = any(array(
                     select audit_id from audit_log where person = any($2) and app_id = $1 limit $4))",
                app_id.as_str(),
                ids,
                pseudonym,
                i64::from(limit)
            )
            .execute(&mut *db)
            .await?;
            let by = query!(
                "update audit_log set actor_id = $3
                 where audit_id = any(array(
                     select audit_id from audit_log
                     where actor_id = any($2) and actor_kind = 'person' and app_id = $1 limit $4))",
                app_id.as_str(),
                ids,
                pseudonym,
                i64::from(limit)
            )
            .execute(db)
            .await?;
            Ok(about.rows_affected() + by.rows_affected())
        })
        .await
    }

    async fn purge_audit(&self, before: Timestamp, limit: u32) -> Result<u64> {
        self.call("purging audit records", async |db| {
            let mut tx = db.begin().await?;
            query!("update audit_retention set deletable_before = $1 where deletable_before < $1", before)
                .execute(&mut *tx)
                .await?;
            let done = query!(
                "delete from audit_log where audit_id = any(array(
                     select audit_id from audit_log where at < $1
                     order by at, audit_id limit $2 for update skip locked))",
                before,
                i64::from(limit)
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(done.rows_affected())
        })
        .await
    }
}

/// Returns the values of one column.
fn column<T>(entries: &[AuditEntry], value: impl Fn(&AuditEntry) -> T) -> Vec<T> {
    entries.iter().map(value).collect()
}

/// Writes the record of a change and commits both, if the change was made. Returns whether it was.
pub(crate) async fn recorded(
    mut tx: Transaction<'_, Postgres>,
    done: PgQueryResult,
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
pub(crate) async fn record(db: &mut PgConnection, entry: &AuditEntry) -> sqlx::Result<()> {
    query!(
        "insert into audit_log (audit_id, at, actor_kind, actor_id, actor_name, action, app_id, person, session_id,
                                key_id, address, request_id, trace_id, outcome, reason, count, encryption_key)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        entry.id,
        entry.at,
        entry.actor_kind,
        entry.actor_id,
        entry.actor_name.as_deref(),
        entry.action,
        entry.app_id.as_deref(),
        entry.person.as_deref(),
        entry.session_id,
        entry.key_id,
        entry.address.as_deref(),
        entry.request_id.as_deref(),
        entry.trace_id.as_deref(),
        entry.outcome,
        entry.reason.as_deref(),
        entry.count,
        entry.encryption_key.as_deref()
    )
    .execute(db)
    .await?;
    Ok(())
}
