//! Adding messages to queues.

use std::time::Duration;

use async_trait::async_trait;
use larkauth_contracts::topology::{DEAD_LETTER_QUEUE, Queue};
use larkauth_messaging::{BusError, Outgoing, ReplyAddress};
use sqlx::{SqliteConnection, query};

use crate::writer::Change;

/// A message to publish.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) message: Outgoing,
    /// Either all of them get the message, or none.
    pub(crate) queues: Vec<Queue>,
    /// Whether the dead letters get the message too.
    pub(crate) dead_on_arrival: bool,
    /// Wait before delivery, which does not count as lag.
    pub(crate) delay: Option<Duration>,
    pub(crate) reply_to: Option<ReplyAddress>,
    /// What a place holds at most.
    pub(crate) capacity: Capacity,
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
        let bytes = size(&self.message.body);
        for place in self.places() {
            if is_full(db, place, self.capacity, bytes).await? {
                return Ok(Err(full(self.message.routing_key, place)));
            }
        }
        let published_at = self.delay.is_none().then_some(now);
        let visible_at = after(now, self.delay.unwrap_or_default());
        let headers = serde_json::to_string(&self.message.headers).unwrap_or_else(|_| "{}".to_owned());
        let (reply_to, correlation_id) =
            self.reply_to.as_ref().map(|address| (&*address.reply_to, &*address.correlation_id)).unzip();
        for place in self.places() {
            query!(
                "insert into bus_messages (place, event_id, type, routing_key, headers, body, attempt, visible_at,
                                           published_at, reply_to, correlation_id)
                 values (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10)",
                place,
                self.message.id.as_str(),
                self.message.r#type,
                self.message.routing_key,
                headers,
                &self.message.body[..],
                visible_at,
                published_at,
                reply_to,
                correlation_id
            )
            .execute(&mut *db)
            .await?;
        }
        Ok(Ok(()))
    }

    fn touches(&self) -> Vec<Queue> {
        self.queues.clone()
    }
}

/// What a queue or the dead letters hold at most, delayed and unacknowledged messages included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Number of messages.
    pub(crate) messages: u32,
    /// Size of all bodies, in bytes.
    pub(crate) bytes: i64,
}

/// Returns whether a place has no room for one more message of this size.
pub(crate) async fn is_full(
    db: &mut SqliteConnection,
    place: &str,
    capacity: Capacity,
    bytes: i64,
) -> sqlx::Result<bool> {
    let held =
        query!("select messages, bytes from bus_lengths where place = ?1", place).fetch_optional(db).await?;
    let (held, held_bytes) = held.map_or((0, 0), |held| (held.messages, held.bytes));
    Ok(held >= capacity.messages.into() || held_bytes.saturating_add(bytes) > capacity.bytes)
}

/// Returns the size of a body in bytes.
fn size(body: &[u8]) -> i64 {
    i64::try_from(body.len()).unwrap_or(i64::MAX)
}

/// Returns the refusal of a full place.
pub(crate) fn full(routing_key: &str, place: &str) -> BusError {
    BusError::Refused { routing_key: routing_key.to_owned(), message: format!("`{place}` is full") }
}

/// Returns the time `wait` after `now`, in microseconds.
pub(crate) fn after(now: i64, wait: Duration) -> i64 {
    now.saturating_add(micros(wait))
}

/// Returns a duration in microseconds.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
