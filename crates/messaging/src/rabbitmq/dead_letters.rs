//! Browsing, requeueing and dropping dead letters. Browsing fetches them without acknowledgement and returns all of them.

use std::time::Duration;

use lapin::{
    Channel,
    message::Delivery as Raw,
    options::{BasicGetOptions, BasicNackOptions},
    types::{AMQPValue, FieldTable},
};
use larkauth_contracts::topology::header;
use larkauth_models::{EventId, Timestamp};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use super::{
    connection::Publication,
    connection_manager::ConnectionManager,
    error::{describe, late, unavailable},
    settle::ack,
    topology::Names,
    wire,
};
use crate::{BusError, DeadLetter, backend::routing};

/// Largest number of dead letters that are unacknowledged at once.
const MOST: usize = 10_000;
/// Deadline for reading that many, 30 s.
const DEADLINE: Duration = Duration::from_secs(30);
const DURING: &str = "reading the dead letters";

/// Returns the oldest dead letters.
pub(super) async fn browse(manager: &ConnectionManager, limit: u32) -> Result<Vec<DeadLetter>, BusError> {
    within(async {
        let browsing = Browsing::begin(manager).await?;
        let letters = browsing.fetch_all(&manager.names).await?.into_iter().map(|(_, letter)| letter);
        let oldest = letters.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
        browsing.end().await;
        Ok(oldest)
    })
    .await
}

/// Publishes one of them to the queue it came from, and acknowledges it after the confirm.
pub(super) async fn requeue(manager: &ConnectionManager, id: &EventId) -> Result<bool, BusError> {
    act(manager, id, async |raw, letter| {
        let died_in = letter.queue.as_deref().and_then(routing::queue_named);
        let (exchange, routing_key) = match died_in {
            // The default exchange routes to the queue of that name only.
            Some(queue) => (String::new(), manager.names.queue(queue)),
            None if routing::queues(&letter.routing_key).next().is_some() => {
                (manager.names.events(), letter.routing_key)
            }
            None => return Err(routing::unroutable_dead_letter(letter.routing_key)),
        };
        let properties = wire::restarted(raw);
        manager.publish(Publication { exchange, routing_key, properties, body: letter.body }).await
    })
    .await
}

/// Deletes one of them.
pub(super) async fn remove(manager: &ConnectionManager, id: &EventId) -> Result<bool, BusError> {
    act(manager, id, async |_, _| Ok(())).await
}

/// Finds one by id, calls `what`, and acknowledges it on success.
async fn act(
    manager: &ConnectionManager,
    id: &EventId,
    what: impl AsyncFnOnce(&Raw, DeadLetter) -> Result<(), BusError>,
) -> Result<bool, BusError> {
    within(async {
        let browsing = Browsing::begin(manager).await?;
        let letters = browsing.fetch_all(&manager.names).await?;
        let found = letters.into_iter().find(|(_, letter)| letter.id == *id);
        let result = match found {
            None => Ok(false),
            Some((raw, letter)) => match what(&raw, letter).await {
                Ok(()) if ack(&raw).await => Ok(true),
                Ok(()) => Err(late(DURING)),
                Err(error) => Err(error),
            },
        };
        browsing.end().await;
        result
    })
    .await
}

async fn within<T>(work: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    // Boxed: the driver's futures are large and would be part of every caller's.
    timeout_at(Instant::now() + DEADLINE, Box::pin(work)).await.unwrap_or_else(|_| Err(late(DURING)))
}

/// Dead letters fetched on a channel of their own: when it closes, the broker returns all of them to the queue.
struct Browsing {
    channel: Channel,
    queue: String,
}

impl Browsing {
    async fn begin(manager: &ConnectionManager) -> Result<Self, BusError> {
        let deadline = Instant::now() + manager.options.publish_deadline;
        let connection = manager.consuming.connection_soon(DURING, deadline).await?;
        let channel = connection.channel().await.map_err(|error| unavailable(DURING, &error))?;
        Ok(Self { channel, queue: manager.names.dead_letters() })
    }

    /// Fetches all of them, sorted by age. A letter that was browsed before is behind the others in the queue, so the oldest
    /// are found among all only.
    async fn fetch_all(&self, names: &Names) -> Result<Vec<(Raw, DeadLetter)>, BusError> {
        let mut letters = Vec::new();
        while letters.len() < MOST
            && let Some(got) = self
                .channel
                .basic_get(self.queue.as_str().into(), BasicGetOptions::default())
                .await
                .map_err(|error| unavailable(DURING, &error))?
        {
            let raw = got.delivery;
            letters.extend(read(&raw, names).map(|letter| (raw, letter)));
        }
        letters.sort_by(|(_, one), (_, other)| (one.died_at, &one.id).cmp(&(other.died_at, &other.id)));
        Ok(letters)
    }

    /// Returns the letters that were not acknowledged, and waits until the broker has them for the next call.
    async fn end(self) {
        let ending = async {
            // Tag zero is all of them, or none; any other tag has to be an unacknowledged one.
            self.channel.basic_nack(0, BasicNackOptions { multiple: true, requeue: true }).await?;
            self.channel.close(200, "OK".into()).await
        };
        if let Err(error) = ending.await {
            tracing::debug!(error = %describe(&error), "the broker returns the dead letters when the channel closes");
        }
    }
}

/// Returns its id, or one derived from its content, so that every letter can be addressed.
fn id_of(raw: &Raw) -> Option<EventId> {
    let given = raw.properties.message_id().as_ref().and_then(|id| EventId::new(id.as_str()).ok());
    given.or_else(|| EventId::new(format!("unnamed-{}", hex::encode(Sha256::digest(&raw.data)))).ok())
}

pub(super) fn read(raw: &Raw, names: &Names) -> Option<DeadLetter> {
    let death = Death::of(raw, names);
    let died_at = wire::time(raw, header::DIED_MS).or_else(|| wire::time(raw, header::PUBLISHED_MS));
    let (queue, reason, died_at) = match death {
        Some(death) => (death.queue, Some("delivery_limit".to_owned()), death.died_at),
        None => (wire::text_of(raw, header::QUEUE), wire::text_of(raw, header::REASON), died_at),
    };
    Some(DeadLetter {
        id: id_of(raw)?,
        r#type: wire::kind(raw),
        routing_key: wire::routing_key(raw),
        queue,
        reason,
        attempt: wire::attempt(raw),
        died_at,
        body: raw.data.clone().into(),
        headers: wire::headers(raw),
    })
}

/// The broker's record of a message that it dead-lettered itself.
struct Death {
    queue: Option<String>,
    died_at: Option<Timestamp>,
}

impl Death {
    fn of(raw: &Raw, names: &Names) -> Option<Self> {
        let Some(AMQPValue::FieldArray(deaths)) = raw.properties.headers().as_ref()?.inner().get("x-death")
        else {
            return None;
        };
        let death = deaths.as_slice().iter().find_map(|death| match death {
            AMQPValue::FieldTable(death) if text(death, "reason").as_deref() == Some("delivery_limit") => {
                Some(death)
            }
            _ => None,
        })?;
        let died_at = match death.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => {
                i64::try_from(*seconds).ok().and_then(|seconds| Timestamp::from_timestamp(seconds, 0))
            }
            _ => None,
        };
        let queue = text(death, "queue").and_then(|name| names.strip(&name).map(ToOwned::to_owned));
        Some(Self { queue, died_at })
    }
}

fn text(table: &FieldTable, name: &str) -> Option<String> {
    table.inner().get(name).and_then(wire::string)
}
