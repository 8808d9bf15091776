//! One budget of calls per application and endpoint class, which all processes share through the store.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use larkauth_lark::api::{EndpointClass, LocalRateLimiter, RateLimitExceeded, RateLimiter};
use larkauth_models::{AppId, CallRate, CallRequest, Lane};
use larkauth_storage::{GrantedCalls, Store};
use larkauth_telemetry::Metrics;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Longest wait for the store: 1 s. After that the process relies on its own share of the budget.
const STORE_WAIT: Duration = Duration::from_secs(1);
/// The share of the budget that a process uses while the store cannot be reached is one part of this many.
const PARTS: u32 = 5;
/// How long after its time a reserved call of the background may still be made: 150 ms.
const LATEST: Duration = Duration::from_millis(150);
/// Calls of the background that are taken out of the budget at once.
const BATCH: u32 = 8;
/// Queues of the background before those that are not in use are removed.
const MAX_QUEUES: usize = 1024;

/// Limits the calls of all processes on one database.
///
/// A call for people takes itself out of the budget in the store, and waits for its turn. The background takes several calls
/// at once, and only as long as the reserve of people is left. While the store cannot be reached, a process uses a fixed
/// share of the budget.
pub struct SharedRateLimiter {
    store: Arc<dyn Store>,
    rate: CallRate,
    fallback: LocalRateLimiter,
    queues: Mutex<HashMap<(AppId, EndpointClass), Arc<Queue>>>,
    metrics: Metrics,
}

/// Calls of the background that wait in this process.
#[derive(Default)]
struct Queue {
    waiting: AtomicU32,
    /// The times of the calls that are taken out of the budget and not made yet. Locked by the one caller that takes more.
    slots: tokio::sync::Mutex<VecDeque<Instant>>,
}

/// Counts a caller as waiting while it lives.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SharedRateLimiter {
    /// Keeps the budgets in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, metrics: Metrics) -> Self {
        Self {
            store,
            rate: CallRate::LARK,
            fallback: LocalRateLimiter::new(CallRate::LARK.divided_by(PARTS)),
            queues: Mutex::default(),
            metrics,
        }
    }

    /// Asks the store for calls. `None`: it does not answer.
    async fn grant(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        request: &CallRequest,
        deadline: Instant,
    ) -> Option<GrantedCalls> {
        let asking = self.store.grant_calls(app_id, class.as_str(), request);
        match timeout_at(deadline.min(Instant::now() + STORE_WAIT), asking).await {
            Ok(Ok(granted)) => Some(granted),
            Ok(Err(error)) => {
                tracing::warn!(%app_id, %error, "auth.rate_limit: this process uses its own share");
                None
            }
            Err(_) => {
                tracing::warn!(%app_id, "auth.rate_limit: the store is slow, this process uses its own share");
                None
            }
        }
    }

    fn count(&self, app_id: &AppId, class: EndpointClass, lane: Lane, outcome: &'static str, calls: u32) {
        self.metrics.lark_api_budget(app_id.as_str(), class.as_str(), lane.as_str(), outcome, calls);
    }

    async fn acquire_for_people(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        deadline: Instant,
    ) -> Result<(), RateLimitExceeded> {
        let lane = Lane::People;
        let max_wait = deadline.saturating_duration_since(Instant::now());
        let request = self.rate.request(lane, 1, max_wait);
        let Some(granted) = self.grant(app_id, class, &request, deadline).await else {
            if Instant::now() >= deadline {
                self.count(app_id, class, lane, "refused", 1);
                return Err(RateLimitExceeded { retry_after: self.rate.interval });
            }
            self.count(app_id, class, lane, "own_share", 1);
            return self.fallback.acquire(app_id, class, lane, deadline).await;
        };
        let wait = self.rate.wait(lane, granted.lead, 0);
        if granted.calls == 0 || Instant::now() + wait > deadline {
            self.count(app_id, class, lane, "refused", 1);
            return Err(RateLimitExceeded { retry_after: wait });
        }
        self.count(app_id, class, lane, "granted", 1);
        sleep(wait).await;
        Ok(())
    }

    async fn acquire_for_background(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        deadline: Instant,
    ) -> Result<(), RateLimitExceeded> {
        let queue = self.queue(app_id, class);
        let _waiting = Waiting::begin(&queue.waiting);
        let Ok(mut slots) = timeout_at(deadline, queue.slots.lock()).await else {
            return Err(RateLimitExceeded { retry_after: self.rate.interval });
        };
        let slot = loop {
            let now = Instant::now();
            while slots.front().is_some_and(|slot| *slot + LATEST < now) {
                slots.pop_front();
            }
            if let Some(slot) = slots.pop_front() {
                break slot;
            }
            let wanted = queue.waiting.load(Ordering::Relaxed).clamp(1, BATCH);
            match self.reserve(app_id, class, wanted).await {
                Ok(reserved) => slots.extend(reserved),
                Err(exceeded) if Instant::now() + exceeded.retry_after > deadline => return Err(exceeded),
                Err(exceeded) => sleep(exceeded.retry_after).await,
            }
        };
        drop(slots);
        sleep_until(slot.min(deadline)).await;
        Ok(())
    }

    fn queue(&self, app_id: &AppId, class: EndpointClass) -> Arc<Queue> {
        let mut queues = self.queues.lock();
        if queues.len() >= MAX_QUEUES {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        queues.entry((app_id.clone(), class)).or_default().clone()
    }
}

#[async_trait]
impl RateLimiter for SharedRateLimiter {
    async fn acquire(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        lane: Lane,
        deadline: Instant,
    ) -> Result<(), RateLimitExceeded> {
        match lane {
            Lane::People => self.acquire_for_people(app_id, class, deadline).await,
            Lane::Background => self.acquire_for_background(app_id, class, deadline).await,
        }
    }

    async fn reserve(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        calls: u32,
    ) -> Result<Vec<Instant>, RateLimitExceeded> {
        let lane = Lane::Background;
        let request = self.rate.request(lane, calls.min(BATCH), Duration::ZERO);
        let deadline = Instant::now() + STORE_WAIT;
        let Some(granted) = self.grant(app_id, class, &request, deadline).await else {
            self.count(app_id, class, lane, "own_share", 1);
            return self.fallback.reserve(app_id, class, calls).await;
        };
        if granted.calls == 0 {
            self.count(app_id, class, lane, "refused", 1);
            return Err(RateLimitExceeded { retry_after: request.wait_for(1, granted.lead) });
        }
        self.count(app_id, class, lane, "granted", granted.calls);
        let now = Instant::now();
        Ok((0..granted.calls).map(|index| now + self.rate.wait(lane, granted.lead, index)).collect())
    }

    async fn hold(&self, app_id: &AppId, class: EndpointClass, wait: Duration) {
        tracing::warn!(%app_id, class = class.as_str(), ?wait, "auth.rate_limit.hold: Lark refused a call for its rate");
        self.fallback.hold(app_id, class, wait).await;
        if let Ok(mut slots) = self.queue(app_id, class).slots.try_lock() {
            slots.clear();
        }
        let lead = self.rate.lead_of_wait(wait);
        let holding = self.store.hold_calls(app_id, class.as_str(), lead);
        match timeout_at(Instant::now() + STORE_WAIT, holding).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%app_id, %error, "auth.rate_limit.hold: not shared"),
            Err(_) => tracing::warn!(%app_id, "auth.rate_limit.hold: not shared, the store is slow"),
        }
    }
}
