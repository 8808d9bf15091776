//! Periodic work on the file: changes by other processes, expired dead letters.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::topology::{DEAD_LETTER_TTL, Queue};
use larkauth_messaging::{BusError, BusHealth};
use sqlx::{SqliteConnection, query, query_scalar};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{dead_letters::Purge, engine::Engine, writer::Change};

/// Interval of the maintenance, 1 s: the longest delay until a message of another process is found.
const INTERVAL: Duration = Duration::from_secs(1);
/// Interval of purging expired dead letters, 1 h.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);
/// Largest number of rows that one change touches.
const LIMIT: u32 = 1000;

/// Maintains the file until dropped.
pub(crate) async fn run(engine: Arc<Engine>) {
    let mut version = None;
    let mut purged: Option<Instant> = None;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = maintain(&engine, &mut version, &mut purged).await {
            // Debug level: the writer has logged a failed write as a warning.
            tracing::debug!(%error, "the maintenance of the bus failed");
        }
    }
}

async fn maintain(
    engine: &Engine,
    version: &mut Option<i64>,
    purged: &mut Option<Instant>,
) -> Result<(), BusError> {
    if *engine.health.borrow() != BusHealth::Up {
        // While the bus is down there may be no other change that would find it up again.
        engine.changes.make(Probe).await?;
    }
    let current = engine.read(async |db| query_scalar("pragma data_version").fetch_one(db).await).await?;
    if *version != Some(current) {
        *version = Some(current);
        Queue::ALL.iter().for_each(|queue| engine.notifier.wake(*queue));
    }
    if purged.is_none_or(|at| at.elapsed() >= PURGE_INTERVAL) {
        let count = engine.changes.make(Purge { older_than: DEAD_LETTER_TTL, limit: LIMIT }).await?;
        if count < LIMIT.into() {
            *purged = Some(Instant::now());
        }
        if count > 0 {
            tracing::warn!(count, "expired dead letters are deleted");
        }
    }
    Ok(())
}

/// Writes a row without meaning, to find out whether the file can be written.
#[derive(Debug)]
struct Probe;

#[async_trait]
impl Change for Probe {
    type Output = ();

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
        // The value differs from the stored one, since SQLite skips a write without a difference.
        query!(
            "insert into bus_lengths (place, messages) values ('probe', ?1)
             on conflict (place) do update set messages = ?1",
            now.max(0)
        )
        .execute(db)
        .await?;
        Ok(())
    }
}
