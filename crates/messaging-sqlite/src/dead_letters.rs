//! Reading, requeueing and deleting dead letters.

use std::time::Duration;

use async_trait::async_trait;
use larkauth_contracts::topology::Queue;
use larkauth_messaging::{BusError, DeadLetter, backend::routing};
use larkauth_models::{EventId, Timestamp};
use sqlx::{SqliteConnection, query, query_as};

use crate::{
    lease::parse_headers,
    publishing::{Capacity, full, is_full, micros},
    writer::Change,
};

/// A row of a dead letter.
struct Row {
    event_id: String,
    r#type: String,
    routing_key: String,
    headers: String,
    body: Vec<u8>,
    attempt: u32,
    died_in: Option<String>,
    reason: Option<String>,
    visible_at: i64,
}

impl Row {
    /// Returns the dead letter; `None` for an invalid id, which only another program can have written.
    fn read(self) -> Option<DeadLetter> {
        Some(DeadLetter {
            id: EventId::new(self.event_id).ok()?,
            r#type: self.r#type,
            routing_key: self.routing_key,
            queue: self.died_in,
            reason: self.reason,
            attempt: self.attempt,
            died_at: Timestamp::from_timestamp_micros(self.visible_at),
            body: self.body.into(),
            headers: parse_headers(&self.headers),
        })
    }
}

/// Returns the oldest dead letters.
pub(crate) async fn oldest(db: &mut SqliteConnection, limit: u32) -> sqlx::Result<Vec<DeadLetter>> {
    let rows = query_as!(
        Row,
        r#"select event_id, type, routing_key, headers, body, attempt as "attempt: u32", died_in, reason, visible_at
           from bus_messages where place = 'dead-letters' order by visible_at, seq limit ?1"#,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(Row::read).collect())
}

/// Returns a dead letter to the queue it came from.
#[derive(Debug)]
pub(crate) struct Requeue {
    pub(crate) id: EventId,
    pub(crate) capacity: Capacity,
}

#[async_trait]
impl Change for Requeue {
    /// `false` when no dead letter has the id.
    type Output = Result<bool, BusError>;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<Self::Output> {
        let Some(letter) = query!(
            r#"select seq as "seq!: i64", died_in, routing_key, length(body) as "bytes!: i64" from bus_messages
               where place = 'dead-letters' and event_id = ?1 order by visible_at, seq limit 1"#,
            self.id.as_str()
        )
        .fetch_optional(&mut *db)
        .await?
        else {
            return Ok(Ok(false));
        };
        let queues = match letter.died_in.as_deref().and_then(routing::queue_named) {
            Some(queue) => vec![queue],
            None => routing::queues(&letter.routing_key).collect(),
        };
        if queues.is_empty() {
            return Ok(Err(routing::unroutable_dead_letter(letter.routing_key)));
        }
        for queue in &queues {
            if is_full(db, queue.name(), self.capacity, letter.bytes).await? {
                return Ok(Err(full(&letter.routing_key, queue.name())));
            }
        }
        for queue in queues {
            query!(
                "insert into bus_messages (place, event_id, type, routing_key, headers, body, attempt, visible_at)
                 select ?2, event_id, type, routing_key, headers, body, 1, ?3 from bus_messages where seq = ?1",
                letter.seq,
                queue.name(),
                now
            )
            .execute(&mut *db)
            .await?;
        }
        query!("delete from bus_messages where seq = ?1", letter.seq).execute(db).await?;
        Ok(Ok(true))
    }

    fn touches(&self) -> Vec<Queue> {
        // The queue is known only to the statement.
        Queue::ALL.to_vec()
    }
}

/// Deletes a dead letter.
#[derive(Debug)]
pub(crate) struct Delete {
    pub(crate) id: EventId,
}

#[async_trait]
impl Change for Delete {
    /// `false` when no dead letter has the id.
    type Output = bool;

    async fn apply(&self, db: &mut SqliteConnection, _: i64) -> sqlx::Result<bool> {
        let done = query!(
            "delete from bus_messages where seq =
                 (select seq from bus_messages where place = 'dead-letters' and event_id = ?1
                  order by visible_at, seq limit 1)",
            self.id.as_str()
        )
        .execute(db)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}

/// Deletes the dead letters past their time to live.
#[derive(Debug)]
pub(crate) struct Purge {
    pub(crate) older_than: Duration,
    /// Largest number of rows in one transaction, so that other changes do not wait long.
    pub(crate) limit: u32,
}

#[async_trait]
impl Change for Purge {
    /// Number of deleted dead letters.
    type Output = u64;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<u64> {
        let done = query!(
            "delete from bus_messages where seq in
                 (select seq from bus_messages where place = 'dead-letters' and visible_at <= ?1 limit ?2)",
            now.saturating_sub(micros(self.older_than)),
            self.limit
        )
        .execute(db)
        .await?;
        Ok(done.rows_affected())
    }
}
