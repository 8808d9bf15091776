//! What has to be looked after although nobody in this process asks for it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::topology::{DEAD_LETTER_TTL, Queue};
use sqlx::{SqliteConnection, query, query_scalar};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    Engine,
    lease::DeadLetterChange,
    publishing::{Purge, after},
    writer::Change,
};
use crate::{BusError, BusHealth, routing};

/// How often it looks. What another process writes into the file is seen after so long at most.
const LOOK: Duration = Duration::from_secs(1);
/// How often it looks for dead letters that were kept long enough.
const PURGE: Duration = Duration::from_secs(3600);
/// It changes so many rows at once at most.
const MOST: u32 = 1000;

/// Looks after the file until dropped.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut version = None;
    let mut purged: Option<Instant> = None;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if let Err(error) = look(&engine, &mut version, &mut purged).await {
            // The one who writes has told of it, or the next look will.
            tracing::debug!(%error, "the bus cannot be looked after");
        }
    }
}

async fn look(
    engine: &Engine,
    version: &mut Option<i64>,
    purged: &mut Option<Instant>,
) -> Result<(), BusError> {
    if *engine.health.borrow() != BusHealth::Up {
        // Nobody may be asking for anything just because the bus is known to be down.
        engine.changes.make(Probe).await?;
    }
    let now = engine.options.clock.now().timestamp_micros();
    let limit = engine.options.retry.delivery_limit;
    let (current, killers) = engine
        .read(async |db| {
            let current = query_scalar("pragma data_version").fetch_one(&mut *db).await?;
            let killers = query_scalar(
                "select exists(select 1 from bus_messages
                               where lease is not null and visible_at <= ?1 and deliveries > ?2)",
            )
            .bind(now)
            .bind(limit)
            .fetch_one(db)
            .await?;
            Ok((current, killers))
        })
        .await?;
    if *version != Some(current) {
        *version = Some(current);
        Queue::ALL.iter().for_each(|queue| engine.notifier.wake(*queue));
    }
    if killers {
        let change =
            DeadLetterChange { delivery_limit: limit, most: MOST, max_length: engine.options.max_length };
        for queue in engine.changes.make(change).await? {
            tracing::error!(%queue, "a message whose consumers died with it in hand goes to the dead letters");
            if let Some(queue) = routing::queue_named(&queue) {
                engine.options.metrics.bus_dead_lettered(queue.name(), "delivery_limit");
            }
        }
    }
    if purged.is_none_or(|at| at.elapsed() >= PURGE) {
        let count = engine.changes.make(Purge { older_than: DEAD_LETTER_TTL, most: MOST }).await?;
        if count < MOST.into() {
            *purged = Some(Instant::now());
        }
        if count > 0 {
            tracing::warn!(count, "dead letters that nobody looked after in time are forgotten");
        }
    }
    Ok(())
}

/// Writes something that means nothing, to see whether it can be done.
#[derive(Debug)]
struct Probe;

#[async_trait]
impl Change for Probe {
    type Output = ();

    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
        // A value that was not there before, or SQLite would find nothing to write.
        let value = after(now, Duration::ZERO).max(0);
        query("insert into bus_lengths (place, messages) values ('probe', ?1) on conflict (place) do update set messages = ?1")
            .bind(value)
            .execute(db)
            .await?;
        Ok(())
    }
}
