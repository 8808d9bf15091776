//! Deliveries under a lease: claimed, renewed, settled.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use larkauth_contracts::topology::{DEAD_LETTER_QUEUE, Queue};
use larkauth_messaging::{Delivery, ReplyAddress, backend::Incoming};
use larkauth_models::{EventId, Timestamp};
use sqlx::{SqliteConnection, query, query_as, query_scalar};

use crate::{
    publishing::{Capacity, after, is_full},
    writer::Change,
};

/// Wait of a message that could not be dead-lettered because the dead letters are full, 10 s.
const DEAD_LETTERS_FULL: Duration = Duration::from_secs(10);
/// The queue of the copies of dead letters.
const NOTICES: Queue = Queue::DeadLetterNotices;

/// A row of a message.
#[derive(Debug)]
pub(crate) struct Row {
    seq: i64,
    event_id: String,
    r#type: String,
    routing_key: String,
    headers: String,
    body: Vec<u8>,
    attempt: u32,
    deliveries: u32,
    published_at: Option<i64>,
    reply_to: Option<String>,
    correlation_id: Option<String>,
}

impl Row {
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn event_id(&self) -> &str {
        &self.event_id
    }

    /// Returns how many consumers crashed while they handled it alone, before this delivery. The first delivery was beside
    /// others.
    pub(crate) fn crashes(&self) -> u32 {
        self.deliveries.saturating_sub(2)
    }

    /// Returns the delivery for the handler.
    ///
    /// # Errors
    /// The reason for the dead letter: an invalid id, which only another program can have written.
    pub(crate) fn read(self) -> Result<Incoming, String> {
        let id = EventId::new(self.event_id).map_err(|error| format!("its id is not valid: {error}"))?;
        let reply_to = self
            .reply_to
            .zip(self.correlation_id)
            .map(|(reply_to, correlation_id)| ReplyAddress { reply_to, correlation_id });
        Ok(Incoming {
            delivery: Delivery {
                id,
                routing_key: self.routing_key,
                r#type: self.r#type,
                body: Bytes::from(self.body),
                headers: parse_headers(&self.headers),
                attempt: self.attempt,
                redelivered: self.deliveries > 1,
                reply_to,
            },
            published_at: self.published_at.and_then(Timestamp::from_timestamp_micros),
        })
    }
}

/// Parses headers; empty when a value is not a text, which only another program can have written.
pub(crate) fn parse_headers(json: &str) -> BTreeMap<String, String> {
    serde_json::from_str(json).unwrap_or_default()
}

/// The lease of one delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    seq: i64,
    token: i64,
}

/// Claims due messages that have no lease, so that they did not crash their consumer.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) queue: Queue,
    /// Time of the request. A lease that expires while the claim waits may be renewed right after it.
    pub(crate) asked_at: i64,
    pub(crate) limit: u32,
    /// Random token of this claim.
    pub(crate) token: i64,
    pub(crate) duration: Duration,
}

/// Result of a claim.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) messages: Vec<(Lease, Row)>,
    /// Time until another message is due, if the queue has one.
    pub(crate) next_in: Option<Duration>,
}

#[async_trait]
impl Change for Claim {
    type Output = Claimed;

    const AFTER_RELEASES: bool = true;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<Claimed> {
        let mut rows = query_as!(
            Row,
            r#"update bus_messages set lease = ?1, visible_at = ?2, deliveries = deliveries + 1
               where seq in (select seq from bus_messages
                             where place = ?3 and visible_at <= ?4 and lease is null
                             order by visible_at, seq limit ?5)
               returning seq as "seq!: i64", event_id, type, routing_key, headers, body, attempt as "attempt: u32",
                         deliveries as "deliveries: u32", published_at, reply_to, correlation_id"#,
            self.token,
            after(now, self.duration),
            self.queue.name(),
            self.asked_at,
            self.limit
        )
        .fetch_all(&mut *db)
        .await?;
        rows.sort_unstable_by_key(|row| row.seq);
        let next = query_scalar!(
            r#"select min(visible_at) as "next?: i64" from bus_messages where place = ?1 and visible_at > ?2"#,
            self.queue.name(),
            self.asked_at
        )
        .fetch_one(db)
        .await?;
        let messages = rows.into_iter().map(|row| (Lease { seq: row.seq, token: self.token }, row)).collect();
        let next_in = next.map(|next| Duration::from_micros(u64::try_from(next - now).unwrap_or(0)));
        Ok(Claimed { messages, next_in })
    }
}

/// Claims the message whose lease has expired and that has the fewest deliveries, to be handled alone.
#[derive(Debug)]
pub(crate) struct ClaimExpired {
    pub(crate) queue: Queue,
    /// See [`Claim::asked_at`].
    pub(crate) asked_at: i64,
    pub(crate) token: i64,
    pub(crate) duration: Duration,
}

#[async_trait]
impl Change for ClaimExpired {
    type Output = Option<(Lease, Row)>;

    const AFTER_RELEASES: bool = true;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<Self::Output> {
        let row = query_as!(
            Row,
            r#"update bus_messages set lease = ?1, visible_at = ?2, deliveries = deliveries + 1
               where seq = (select seq from bus_messages
                            where +place = ?3 and visible_at <= ?4 and lease is not null
                            order by deliveries, visible_at, seq limit 1)
               returning seq as "seq!: i64", event_id, type, routing_key, headers, body, attempt as "attempt: u32",
                         deliveries as "deliveries: u32", published_at, reply_to, correlation_id"#,
            self.token,
            after(now, self.duration),
            self.queue.name(),
            self.asked_at
        )
        .fetch_optional(db)
        .await?;
        Ok(row.map(|row| (Lease { seq: row.seq, token: self.token }, row)))
    }
}

/// Returns when the first lease of a queue expires. The plus sign keeps SQLite from the index by place, where the messages
/// without a lease are.
pub(crate) async fn next_expiry(db: &mut SqliteConnection, queue: Queue) -> sqlx::Result<Option<i64>> {
    query_scalar!(
        r#"select min(visible_at) as "next?: i64" from bus_messages where lease is not null and +place = ?1"#,
        queue.name()
    )
    .fetch_one(db)
    .await
}

/// Renews a lease.
#[derive(Debug)]
pub(crate) struct Renew {
    pub(crate) lease: Lease,
    pub(crate) duration: Duration,
}

#[async_trait]
impl Change for Renew {
    type Output = ();

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
        query!(
            "update bus_messages set visible_at = ?3 where seq = ?1 and lease = ?2",
            self.lease.seq,
            self.lease.token,
            after(now, self.duration)
        )
        .execute(db)
        .await?;
        Ok(())
    }
}

/// Releases deliveries without counting them: their handlers were not called.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) queue: Queue,
    pub(crate) leases: Vec<Lease>,
}

#[async_trait]
impl Change for Release {
    type Output = ();

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
        for lease in &self.leases {
            query!(
                "update bus_messages set lease = null, visible_at = ?3, deliveries = max(deliveries - 1, 0)
                 where seq = ?1 and lease = ?2",
                lease.seq,
                lease.token,
                now
            )
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }

    fn touches(&self) -> Vec<Queue> {
        vec![self.queue]
    }
}

/// Deletes a handled message. The output of this and of the next two changes is whether the lease was still valid.
#[derive(Debug)]
pub(crate) struct Done(pub(crate) Lease);

#[async_trait]
impl Change for Done {
    type Output = bool;

    async fn apply(&self, db: &mut SqliteConnection, _: i64) -> sqlx::Result<bool> {
        let done = query!("delete from bus_messages where seq = ?1 and lease = ?2", self.0.seq, self.0.token)
            .execute(db)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// Schedules the next attempt.
#[derive(Debug)]
pub(crate) struct Retry {
    pub(crate) lease: Lease,
    pub(crate) queue: Queue,
    pub(crate) attempt: u32,
    pub(crate) wait: Duration,
    pub(crate) keeps_reply_to: bool,
}

#[async_trait]
impl Change for Retry {
    type Output = bool;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<bool> {
        let done = query!(
            "update bus_messages set
                 lease = null, attempt = ?3, deliveries = 0, visible_at = ?4, published_at = null,
                 reply_to = iif(?5, reply_to, null), correlation_id = iif(?5, correlation_id, null)
             where seq = ?1 and lease = ?2",
            self.lease.seq,
            self.lease.token,
            self.attempt,
            after(now, self.wait),
            self.keeps_reply_to
        )
        .execute(db)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    fn touches(&self) -> Vec<Queue> {
        vec![self.queue]
    }
}

/// Moves a message to the dead letters, and a copy to their notices.
#[derive(Debug)]
pub(crate) struct Reject {
    pub(crate) lease: Lease,
    pub(crate) queue: Queue,
    pub(crate) reason: String,
    pub(crate) capacity: Capacity,
}

#[async_trait]
impl Change for Reject {
    type Output = bool;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<bool> {
        let bytes = query_scalar!(
            r#"select length(body) as "bytes!: i64" from bus_messages where seq = ?1 and lease = ?2"#,
            self.lease.seq,
            self.lease.token
        );
        let Some(bytes) = bytes.fetch_optional(&mut *db).await? else { return Ok(false) };
        if is_full(db, DEAD_LETTER_QUEUE, self.capacity, bytes).await? {
            tracing::error!("the dead letters are full; a message that should become one is retried");
            query!(
                "update bus_messages set lease = null, deliveries = 0, visible_at = ?3
                 where seq = ?1 and lease = ?2",
                self.lease.seq,
                self.lease.token,
                after(now, DEAD_LETTERS_FULL)
            )
            .execute(db)
            .await?;
            return Ok(false);
        }
        let done = query!(
            "update bus_messages set place = 'dead-letters', died_in = place, reason = ?3, visible_at = ?4,
                                     lease = null, reply_to = null, correlation_id = null
             where seq = ?1 and lease = ?2",
            self.lease.seq,
            self.lease.token,
            self.reason,
            now
        )
        .execute(&mut *db)
        .await?;
        let is_dead = done.rows_affected() == 1;
        if is_dead && NOTICES.takes_dead_letters_of(self.queue) {
            if is_full(db, NOTICES.name(), self.capacity, bytes).await? {
                tracing::error!(queue = %NOTICES, "the queue is full; a dead letter ends no session");
                return Ok(true);
            }
            query!(
                "insert into bus_messages (place, event_id, type, routing_key, headers, body, attempt, visible_at)
                 select ?2, event_id, type, routing_key, headers, body, 1, ?3 from bus_messages where seq = ?1",
                self.lease.seq,
                NOTICES.name(),
                now
            )
            .execute(db)
            .await?;
        }
        Ok(is_dead)
    }

    fn touches(&self) -> Vec<Queue> {
        vec![self.queue, NOTICES]
    }
}
