//! Changes that bring messages into queues.

use std::time::Duration;

use async_trait::async_trait;
use larkauth_contracts::topology::{DEAD_LETTER_QUEUE, Queue};
use larkauth_models::EventId;
use sqlx::{SqliteConnection, query, query_as, query_scalar};

use super::writer::Change;
use crate::{BusError, Outgoing, ReplyAddress, routing};

/// A message on its way in.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) message: Outgoing,
    /// All of them take it, or none does.
    pub(super) queues: Vec<Queue>,
    /// Whether the dead letters take it too.
    pub(super) dead_on_arrival: bool,
    /// It is handed out after this wait, which does not count as lag.
    pub(super) delay: Option<Duration>,
    pub(super) reply_to: Option<ReplyAddress>,
    /// A place that holds so many messages takes no more.
    pub(super) max_length: u32,
}

impl Publish {
    fn places(&self) -> impl Iterator<Item = &'static str> {
        let dead = self.dead_on_arrival.then_some(DEAD_LETTER_QUEUE);
        self.queues.iter().map(|queue| queue.name()).chain(dead)
    }
}

#[async_trait]
impl Change for Publish {
    type Output = Result<(), BusError>;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<Self::Output> {
        for place in self.places() {
            if is_full(db, place, self.max_length).await? {
                return Ok(Err(full(self.message.routing_key, place)));
            }
        }
        let published_at = self.delay.is_none().then_some(now);
        let visible_at = after(now, self.delay.unwrap_or_default());
        let headers = serde_json::to_string(&self.message.headers).unwrap_or_else(|_| "{}".to_owned());
        for place in self.places() {
            query(
                "insert into bus_messages (place, event_id, type, routing_key, headers, body, attempt, visible_at,
                                           published_at, reply_to, correlation_id)
                 values (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10)",
            )
            .bind(place)
            .bind(self.message.id.as_str())
            .bind(self.message.r#type)
            .bind(self.message.routing_key)
            .bind(&headers)
            .bind(&self.message.body[..])
            .bind(visible_at)
            .bind(published_at)
            .bind(self.reply_to.as_ref().map(|address| &address.reply_to))
            .bind(self.reply_to.as_ref().map(|address| &address.correlation_id))
            .execute(&mut *db)
            .await?;
        }
        Ok(Ok(()))
    }

    fn touches(&self) -> Vec<Queue> {
        self.queues.clone()
    }
}

/// Puts a dead letter back to where it came from.
#[derive(Debug)]
pub(super) struct Requeue {
    pub(super) id: EventId,
    pub(super) max_length: u32,
}

#[async_trait]
impl Change for Requeue {
    /// `false` when there is none.
    type Output = Result<bool, BusError>;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<Self::Output> {
        let Some((seq, died_in, routing_key)) = query_as::<_, (i64, Option<String>, String)>(
            "select seq, died_in, routing_key from bus_messages
             where place = 'dead-letters' and event_id = ?1 order by visible_at, seq limit 1",
        )
        .bind(self.id.as_str())
        .fetch_optional(&mut *db)
        .await?
        else {
            return Ok(Ok(false));
        };
        let queues = match died_in.as_deref().and_then(routing::queue_named) {
            Some(queue) => vec![queue],
            None => routing::queues(&routing_key).collect(),
        };
        if queues.is_empty() {
            return Ok(Err(routing::leads_nowhere(routing_key)));
        }
        for queue in &queues {
            if is_full(db, queue.name(), self.max_length).await? {
                return Ok(Err(full(&routing_key, queue.name())));
            }
        }
        for queue in queues {
            query(
                "insert into bus_messages (place, event_id, type, routing_key, headers, body, attempt, visible_at)
                 select ?2, event_id, type, routing_key, headers, body, 1, ?3 from bus_messages where seq = ?1",
            )
            .bind(seq)
            .bind(queue.name())
            .bind(now)
            .execute(&mut *db)
            .await?;
        }
        query("delete from bus_messages where seq = ?1").bind(seq).execute(db).await?;
        Ok(Ok(true))
    }

    fn touches(&self) -> Vec<Queue> {
        // Which one it was is in the file only.
        Queue::ALL.to_vec()
    }
}

/// Forgets a dead letter.
#[derive(Debug)]
pub(super) struct Forget(pub(super) EventId);

#[async_trait]
impl Change for Forget {
    /// `false` when there is none.
    type Output = bool;

    async fn apply(&self, db: &mut SqliteConnection, _: i64) -> sqlx::Result<bool> {
        let done = query(
            "delete from bus_messages where seq =
                 (select seq from bus_messages where place = 'dead-letters' and event_id = ?1
                  order by visible_at, seq limit 1)",
        )
        .bind(self.0.as_str())
        .execute(db)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}

/// Forgets the dead letters that nobody looked after in time.
#[derive(Debug)]
pub(super) struct Purge {
    pub(super) older_than: Duration,
    /// At most, so that others have their turn.
    pub(super) most: u32,
}

#[async_trait]
impl Change for Purge {
    /// How many there were.
    type Output = u64;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<u64> {
        let done = query(
            "delete from bus_messages where seq in
                 (select seq from bus_messages where place = 'dead-letters' and visible_at <= ?1 limit ?2)",
        )
        .bind(now.saturating_sub(micros(self.older_than)))
        .bind(self.most)
        .execute(db)
        .await?;
        Ok(done.rows_affected())
    }
}

pub(super) async fn is_full(db: &mut SqliteConnection, place: &str, max_length: u32) -> sqlx::Result<bool> {
    let length: Option<i64> = query_scalar("select messages from bus_lengths where place = ?1")
        .bind(place)
        .fetch_optional(db)
        .await?;
    Ok(length.unwrap_or(0) >= max_length.into())
}

fn full(routing_key: &str, place: &str) -> BusError {
    BusError::Refused { routing_key: routing_key.to_owned(), message: format!("`{place}` is full") }
}

/// A time in microseconds, so much later.
pub(super) fn after(now: i64, wait: Duration) -> i64 {
    now.saturating_add(micros(wait))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
