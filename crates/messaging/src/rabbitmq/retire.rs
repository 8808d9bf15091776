//! Queues of an earlier build. Their arguments cannot be changed, so this build has queues of other names. Once no consumer
//! is left on an old queue, its messages are moved to the new one and it is deleted. Until then both have the same
//! bindings: the handlers of both builds get each message, and handling is idempotent.

use std::{sync::Arc, time::Duration};

use lapin::{
    Channel, ErrorKind,
    message::Delivery as Raw,
    options::{BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Connection, Publication},
    connection_manager::ConnectionManager,
    dead_letters,
    error::{late, unavailable},
    settle::ack,
    topology::{Names, Retired, Successor, retired},
    wire::{self, Changes},
};
use crate::{BusError, backend::routing};

const DURING: &str = "emptying a queue of an earlier build";
/// Pause until a queue that is still in use is looked at again, 30 s.
const PAUSE: Duration = Duration::from_secs(30);
/// Pause until a queue that was just emptied is looked at again, 2 s.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// Pause once none is left, 10 min: a process of an earlier build may declare them again.
const LONG_PAUSE: Duration = Duration::from_secs(600);
/// Deadline of one run, 60 s. The next one goes on.
const DEADLINE: Duration = Duration::from_secs(60);

/// State of the queues of earlier builds. Of several the last counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Gone,
    /// A consumer of an earlier build has it.
    InUse,
    /// Messages were moved. It is deleted when the next look finds it empty: quorum queues have no conditional delete.
    Emptied,
}

impl Progress {
    const fn pause(self) -> Duration {
        match self {
            Self::Gone => LONG_PAUSE,
            Self::InUse => PAUSE,
            Self::Emptied => SHORT_PAUSE,
        }
    }
}

/// Empties and deletes the queues of earlier builds until `stop`.
pub(super) async fn run(manager: Arc<ConnectionManager>, stop: CancellationToken) {
    loop {
        let retiring = async {
            match manager.consuming.connection().await {
                Ok(Some(connection)) => {
                    match timeout(DEADLINE, Box::pin(retire_all(&manager, &connection))).await {
                        Ok(Ok(progress)) => progress.pause(),
                        Ok(Err(error)) => {
                            tracing::debug!(%error, "a queue of an earlier build could not be emptied");
                            PAUSE
                        }
                        Err(_) => Duration::ZERO,
                    }
                }
                Ok(None) | Err(_) => PAUSE,
            }
        };
        let waited = stop.run_until_cancelled(async {
            let pause = retiring.await;
            sleep(pause).await;
        });
        if waited.await.is_none() {
            return;
        }
    }
}

async fn retire_all(manager: &ConnectionManager, connection: &Connection) -> Result<Progress, BusError> {
    let mut progress = Progress::Gone;
    for queue in retired(&manager.names, &manager.options.retry) {
        progress = progress.max(retire(manager, connection, &queue).await?);
    }
    Ok(progress)
}

async fn retire(
    manager: &ConnectionManager,
    connection: &Connection,
    queue: &Retired,
) -> Result<Progress, BusError> {
    let failed = |error: lapin::Error| unavailable(DURING, &error);
    // A channel of its own: the broker closes it when the queue does not exist.
    let channel = connection.channel().await.map_err(failed)?;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    match channel.queue_declare(queue.name.as_str().into(), passive, FieldTable::default()).await {
        Ok(found) if found.consumer_count() > 0 => return Ok(Progress::InUse),
        Ok(_) => {}
        Err(error) if is_missing(&error) => return Ok(Progress::Gone),
        Err(error) => return Err(failed(error)),
    }
    for (exchange, key) in &queue.bindings {
        let (name, exchange, key) =
            (queue.name.as_str().into(), exchange.as_str().into(), key.as_str().into());
        channel.queue_unbind(name, exchange, key, FieldTable::default()).await.map_err(failed)?;
    }
    let moved = drain(manager, &channel, queue).await?;
    if moved > 0 {
        tracing::info!(
            queue = queue.name,
            moved,
            "messages of an earlier build's queue were moved to its successor"
        );
        return Ok(Progress::Emptied);
    }
    channel.queue_delete(queue.name.as_str().into(), QueueDeleteOptions::default()).await.map_err(failed)?;
    tracing::info!(queue = queue.name, "an empty queue of an earlier build is deleted");
    Ok(Progress::Gone)
}

/// Moves the messages to the successor. Returns their number.
async fn drain(manager: &ConnectionManager, channel: &Channel, queue: &Retired) -> Result<u64, BusError> {
    let mut moved = 0;
    while let Some(got) = channel
        .basic_get(queue.name.as_str().into(), BasicGetOptions::default())
        .await
        .map_err(|error| unavailable(DURING, &error))?
    {
        let raw = got.delivery;
        manager.publish(moved_copy(&manager.names, &raw, &queue.successor)).await?;
        if !ack(&raw).await {
            return Err(late(DURING));
        }
        moved += 1;
    }
    Ok(moved)
}

fn moved_copy(names: &Names, raw: &Raw, successor: &Successor) -> Publication {
    let unchanged = Changes {
        attempt: wire::attempt(raw),
        remaining: wire::remaining(raw),
        keep_reply_to: true,
        ..Changes::default()
    };
    let body = raw.data.clone().into();
    match successor {
        // The default exchange routes to the queue of that name only.
        Successor::Queue(name) => Publication {
            exchange: String::new(),
            routing_key: name.clone(),
            properties: wire::copy(raw, &unchanged),
            body,
        },
        Successor::Delay => Publication {
            exchange: names.retry(),
            routing_key: raw.routing_key.to_string(),
            properties: wire::copy(raw, &unchanged),
            body,
        },
        Successor::DeadLetters => {
            // The broker's own record of a death is not copied, so it becomes the product's.
            let letter = dead_letters::read(raw, names);
            let letter = letter.as_ref();
            let changes = Changes {
                reason: letter.and_then(|letter| letter.reason.as_deref()),
                queue: letter.and_then(|letter| letter.queue.as_deref()).and_then(routing::queue_named),
                died_at: letter.and_then(|letter| letter.died_at),
                ..unchanged
            };
            Publication {
                exchange: String::new(),
                routing_key: names.dead_letters(),
                properties: wire::copy(raw, &changes),
                body,
            }
        }
    }
}

fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal)
        if *refusal.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}
