//! Changes around a delivery: handed out under a lease, kept, settled.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use larkauth_contracts::topology::{DEAD_LETTER_QUEUE, Queue};
use larkauth_models::{EventId, Timestamp};
use sqlx::{FromRow, SqliteConnection, query, query_as, query_scalar};

use super::{
    publishing::{after, is_full},
    writer::Change,
};
use crate::{Delivery, ReplyAddress, dispatch::Incoming};

/// Before a message is tried again that found the dead letters full.
const DEAD_LETTERS_FULL: Duration = Duration::from_secs(10);

/// A message as the table has it.
#[derive(Debug, FromRow)]
pub(super) struct Row {
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
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// As it goes to the handler.
    ///
    /// # Errors
    /// Why nobody could handle it: somebody else's program wrote it.
    pub(super) fn read(self) -> Result<Incoming, String> {
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
                headers: read_headers(&self.headers),
                attempt: self.attempt,
                redelivered: self.deliveries > 1,
                reply_to,
            },
            published_at: self.published_at.and_then(Timestamp::from_timestamp_micros),
        })
    }
}

/// Without those that are no texts; we write none.
pub(super) fn read_headers(json: &str) -> BTreeMap<String, String> {
    serde_json::from_str(json).unwrap_or_default()
}

/// One delivery in hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    seq: i64,
    lease: i64,
}

/// Hands out what is due.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) queue: Queue,
    /// When this was asked. A lease that ended while the claim waited for its turn may be renewed right after it.
    pub(super) asked_at: i64,
    pub(super) most: u32,
    /// Drawn for this claim.
    pub(super) lease: i64,
    pub(super) lease_lasts: Duration,
    pub(super) delivery_limit: u32,
}

/// What a claim gave.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) messages: Vec<(Hold, Row)>,
    /// How long to wait until something else is due, if anything is there.
    pub(super) next_in: Option<Duration>,
}

#[async_trait]
impl Change for Claim {
    type Output = Claimed;

    const TAKES: bool = true;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<Claimed> {
        let mut rows: Vec<Row> = query_as(
            "update bus_messages set lease = ?1, visible_at = ?2, deliveries = deliveries + 1
             where seq in (select seq from bus_messages
                           where place = ?3 and visible_at <= ?4 and deliveries <= ?5
                           order by visible_at, seq limit ?6)
             returning seq, event_id, type, routing_key, headers, body, attempt, deliveries, published_at,
                       reply_to, correlation_id",
        )
        .bind(self.lease)
        .bind(after(now, self.lease_lasts))
        .bind(self.queue.name())
        .bind(self.asked_at)
        .bind(self.delivery_limit)
        .bind(self.most)
        .fetch_all(&mut *db)
        .await?;
        rows.sort_unstable_by_key(|row| row.seq);
        let next: Option<i64> =
            query_scalar("select min(visible_at) from bus_messages where place = ?1 and visible_at > ?2")
                .bind(self.queue.name())
                .bind(self.asked_at)
                .fetch_one(db)
                .await?;
        let messages = rows.into_iter().map(|row| (Hold { seq: row.seq, lease: self.lease }, row)).collect();
        let next_in = next.map(|next| Duration::from_micros(u64::try_from(next - now).unwrap_or(0)));
        Ok(Claimed { messages, next_in })
    }
}

/// Says that it is still in hand.
#[derive(Debug)]
pub(super) struct Renew {
    pub(super) hold: Hold,
    pub(super) lease_lasts: Duration,
}

#[async_trait]
impl Change for Renew {
    type Output = ();

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
        query("update bus_messages set visible_at = ?3 where seq = ?1 and lease = ?2")
            .bind(self.hold.seq)
            .bind(self.hold.lease)
            .bind(after(now, self.lease_lasts))
            .execute(db)
            .await?;
        Ok(())
    }
}

/// Lets go of deliveries that were not begun.
#[derive(Debug)]
pub(super) struct GiveBack {
    pub(super) queue: Queue,
    pub(super) holds: Vec<Hold>,
}

#[async_trait]
impl Change for GiveBack {
    type Output = ();

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
        for hold in &self.holds {
            query(
                "update bus_messages set lease = null, visible_at = ?3, deliveries = max(deliveries - 1, 0)
                 where seq = ?1 and lease = ?2",
            )
            .bind(hold.seq)
            .bind(hold.lease)
            .bind(now)
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }

    fn touches(&self) -> Vec<Queue> {
        vec![self.queue]
    }
}

/// Takes a handled message off. The output of this and the next two is whether it was still in hand.
#[derive(Debug)]
pub(super) struct Done(pub(super) Hold);

#[async_trait]
impl Change for Done {
    type Output = bool;

    async fn apply(&self, db: &mut SqliteConnection, _: i64) -> sqlx::Result<bool> {
        let done = query("delete from bus_messages where seq = ?1 and lease = ?2")
            .bind(self.0.seq)
            .bind(self.0.lease)
            .execute(db)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// Lets it come again.
#[derive(Debug)]
pub(super) struct Retry {
    pub(super) hold: Hold,
    pub(super) queue: Queue,
    pub(super) attempt: u32,
    pub(super) wait: Duration,
    pub(super) answerable: bool,
}

#[async_trait]
impl Change for Retry {
    type Output = bool;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<bool> {
        let done = query(
            "update bus_messages set
                 lease = null, attempt = ?3, deliveries = 0, visible_at = ?4, published_at = null,
                 reply_to = iif(?5, reply_to, null), correlation_id = iif(?5, correlation_id, null)
             where seq = ?1 and lease = ?2",
        )
        .bind(self.hold.seq)
        .bind(self.hold.lease)
        .bind(self.attempt)
        .bind(after(now, self.wait))
        .bind(self.answerable)
        .execute(db)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    fn touches(&self) -> Vec<Queue> {
        vec![self.queue]
    }
}

/// Moves it to the dead letters.
#[derive(Debug)]
pub(super) struct Die {
    pub(super) hold: Hold,
    pub(super) queue: Queue,
    pub(super) reason: String,
    pub(super) max_length: u32,
}

#[async_trait]
impl Change for Die {
    type Output = bool;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<bool> {
        if is_full(db, DEAD_LETTER_QUEUE, self.max_length).await? {
            tracing::error!("the dead letters are full; a message that should go there is tried again");
            query("update bus_messages set lease = null, deliveries = 0, visible_at = ?3 where seq = ?1 and lease = ?2")
                .bind(self.hold.seq)
                .bind(self.hold.lease)
                .bind(after(now, DEAD_LETTERS_FULL))
                .execute(db)
                .await?;
            return Ok(false);
        }
        let done = query(
            "update bus_messages set place = 'dead-letters', died_in = place, reason = ?3, visible_at = ?4,
                                     lease = null, reply_to = null, correlation_id = null
             where seq = ?1 and lease = ?2",
        )
        .bind(self.hold.seq)
        .bind(self.hold.lease)
        .bind(&self.reason)
        .bind(now)
        .execute(db)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    fn touches(&self) -> Vec<Queue> {
        vec![self.queue]
    }
}

/// Moves those to the dead letters whose consumers died with them in hand too often.
#[derive(Debug)]
pub(super) struct DeadLetterChange {
    pub(super) delivery_limit: u32,
    /// At most, so that others have their turn.
    pub(super) most: u32,
    pub(super) max_length: u32,
}

#[async_trait]
impl Change for DeadLetterChange {
    /// The queues they were in.
    type Output = Vec<String>;

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<Vec<String>> {
        if is_full(db, DEAD_LETTER_QUEUE, self.max_length).await? {
            return Ok(Vec::new());
        }
        // RETURNING tells of the new row; the old place is in `died_in` by then.
        query_scalar(
            "update bus_messages set place = 'dead-letters', died_in = place, reason = 'delivery_limit',
                                     visible_at = ?1, lease = null, reply_to = null, correlation_id = null
             where seq in (select seq from bus_messages
                           where lease is not null and visible_at <= ?1 and deliveries > ?2 limit ?3)
             returning died_in",
        )
        .bind(now)
        .bind(self.delivery_limit)
        .bind(self.most)
        .fetch_all(db)
        .await
    }
}
