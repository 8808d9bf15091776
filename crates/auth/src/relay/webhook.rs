use std::sync::Arc;

use async_trait::async_trait;
use futures::{
    FutureExt,
    future::{BoxFuture, join},
};
use larkauth_lark::{
    http_reason,
    webhook::{WebhookSecrets, webhook_request},
};
use larkauth_models::{AppId, Clock, Entropy};
use larkauth_telemetry::Metrics;
use parking_lot::Mutex;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    destination::{Destination, MAX_ANSWER, Passed, answer},
    foreign::Foreign,
    notices::Notices,
};
use crate::{apps::AppRegistry, policy::WebhookTimings};

/// Events and clicks that wait, each.
const QUEUE: usize = 1024;
/// Memory of everything that waits or is being posted, in KiB: 16 MiB.
const MEMORY_KIB: usize = 16 << 10;
/// Events that are posted at once.
const EVENTS_AT_ONCE: usize = 16;
/// Clicks that are posted at once. They have slots of their own, so that no retry of an event delays a person.
const CLICKS_AT_ONCE: usize = 64;

/// What a [`Webhook`] stands on.
pub(super) struct Parts {
    pub(super) url: Url,
    pub(super) apps: Arc<AppRegistry>,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) notices: Arc<Notices>,
    pub(super) timings: WebhookTimings,
}

/// A program that receives events as Lark's webhook would.
pub(super) struct Webhook {
    parts: Parts,
    events: mpsc::Sender<Post>,
    clicks: mpsc::Sender<Post>,
    waiting: Mutex<Option<(mpsc::Receiver<Post>, mpsc::Receiver<Post>)>>,
    memory: Arc<Semaphore>,
}

/// One event on its way.
struct Post {
    app_id: AppId,
    payload: bytes::Bytes,
    /// For the answer to a click.
    answer: Option<oneshot::Sender<Result<Value, String>>>,
    fate: Fate,
    _memory: OwnedSemaphorePermit,
}

/// Counts what became of an event. One that a stopping process leaves behind counts as dropped.
struct Fate {
    app_id: AppId,
    metrics: Metrics,
    outcome: &'static str,
}

impl Drop for Fate {
    fn drop(&mut self) {
        self.metrics.event_relayed(self.app_id.as_str(), "webhook", self.outcome);
    }
}

/// Why a call failed.
struct Failure {
    reason: String,
    /// Whether another attempt may succeed.
    may_pass: bool,
}

impl Webhook {
    pub(super) fn new(parts: Parts) -> Self {
        let (events, waiting_events) = mpsc::channel(QUEUE);
        let (clicks, waiting_clicks) = mpsc::channel(QUEUE);
        Self {
            parts,
            events,
            clicks,
            waiting: Mutex::new(Some((waiting_events, waiting_clicks))),
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
        }
    }

    /// Posts what waits, until `stopping` and the end of the drain. A second call has nothing to do.
    pub(super) async fn run(self: Arc<Self>, stopping: CancellationToken) {
        let waiting = self.waiting.lock().take();
        let Some((events, clicks)) = waiting else { return stopping.cancelled().await };
        let (for_events, for_clicks, stop) = (self.clone(), self.clone(), stopping.clone());
        let events = work(events, EVENTS_AT_ONCE, stopping.clone(), move |post| {
            for_events.clone().deliver_event(post, stop.clone()).boxed()
        });
        let clicks = work(clicks, CLICKS_AT_ONCE, stopping.clone(), move |post| {
            for_clicks.clone().deliver_click(post).boxed()
        });
        let too_long = async {
            stopping.cancelled().await;
            sleep(self.parts.timings.drain).await;
        };
        tokio::select! {
            _ = join(events, clicks) => {}
            () = too_long => tracing::warn!("auth.relay.drain: events are left behind and dropped"),
        }
    }

    async fn deliver_event(self: Arc<Self>, mut post: Post, stopping: CancellationToken) {
        let give_up = Instant::now() + self.parts.timings.window;
        let mut backoff = self.parts.timings.backoff;
        loop {
            let Err(failure) = self.call(&post).await else {
                post.fate.outcome = "delivered";
                return;
            };
            let pause = backoff.next(self.parts.entropy.as_ref());
            if !failure.may_pass || stopping.is_cancelled() || Instant::now() + pause >= give_up {
                return self.warn(&post.app_id, &failure.reason);
            }
            stopping.run_until_cancelled(sleep(pause)).await;
        }
    }

    async fn deliver_click(self: Arc<Self>, mut post: Post) {
        let answered = self.call(&post).await.map_err(|failure| failure.reason);
        match &answered {
            Ok(_) => post.fate.outcome = "delivered",
            Err(reason) => self.warn(&post.app_id, reason),
        }
        if let Some(answer) = post.answer.take() {
            // The person's deadline may have passed: the answer was an empty one then.
            let _ = answer.send(answered);
        }
    }

    /// Makes one call and reads its answer, within the deadline.
    async fn call(&self, post: &Post) -> Result<Value, Failure> {
        let passing = |reason: String| Failure { reason, may_pass: true };
        let Parts { apps, clock, entropy, url, timings, .. } = &self.parts;
        let app = apps.get(&post.app_id).await.map_err(|error| passing(error.to_string()))?;
        let secrets = WebhookSecrets {
            verification_token: app.application.verification_token.as_ref(),
            encrypt_key: app.application.encrypt_key.as_ref(),
        };
        let request = webhook_request(&post.payload, secrets, clock.now(), entropy.as_ref());
        let calling = async {
            let sent = apps.lark().http.post(url.clone()).headers(request.headers).body(request.body).send();
            let mut response = sent.await.map_err(|error| passing(http_reason(error)))?;
            let status = response.status();
            if !status.is_success() {
                let may_pass = status.is_server_error()
                    || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
                return Err(Failure { reason: format!("it answered HTTP {}", status.as_u16()), may_pass });
            }
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| passing(http_reason(error)))? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ANSWER {
                    break;
                }
            }
            Ok(body)
        };
        let body = tokio::time::timeout(timings.call, calling)
            .await
            .unwrap_or_else(|_| Err(passing("it did not answer in time".to_owned())))?;
        // The answer to an event has no meaning.
        if post.answer.is_none() {
            return Ok(Value::Null);
        }
        answer(&body).map_err(|reason| Failure { reason, may_pass: false })
    }

    fn warn(&self, app_id: &AppId, reason: &str) {
        if self.parts.notices.is_due(app_id, "dropped", self.parts.clock.now()) {
            tracing::warn!(
                %app_id, reason,
                "auth.relay.dropped: the program at EVENT_RELAY_URL did not take an event, which is dropped; the next such line \
                 comes in an hour, lark_service_event_relay_total counts meanwhile"
            );
        }
    }
}

#[async_trait]
impl Destination for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn pass(&self, app_id: &AppId, event: &Foreign, _: Instant) -> Result<Passed, String> {
        let full = || "too many events wait for the program at EVENT_RELAY_URL".to_owned();
        let kib = u32::try_from(event.payload.len() / 1024 + 1).unwrap_or(u32::MAX);
        let memory = self.memory.clone().try_acquire_many_owned(kib).map_err(|_| full())?;
        let (sender, receiver) = oneshot::channel();
        let wants_answer = event.wants_answer();
        let queue = if wants_answer { &self.clicks } else { &self.events };
        let Ok(place) = queue.try_reserve() else { return Err(full()) };
        place.send(Post {
            app_id: app_id.clone(),
            payload: event.payload.clone(),
            answer: wants_answer.then_some(sender),
            fate: Fate { app_id: app_id.clone(), metrics: self.parts.metrics.clone(), outcome: "dropped" },
            _memory: memory,
        });
        let pending = wants_answer.then(|| {
            async move { receiver.await.unwrap_or_else(|_| Err("this process is stopping".to_owned())) }
                .boxed()
        });
        Ok(Passed::Taken(pending))
    }
}

/// Delivers what waits, at most so many posts at once. From `stopping` on nothing more is taken; ends when what waits then is
/// delivered. Dropped, it gives up what is under way.
async fn work(
    mut waiting: mpsc::Receiver<Post>,
    at_once: usize,
    stopping: CancellationToken,
    deliver: impl Fn(Post) -> BoxFuture<'static, ()>,
) {
    let mut deliveries = JoinSet::new();
    loop {
        let post = if waiting.is_closed() {
            waiting.recv().await
        } else {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    waiting.close();
                    continue;
                }
                post = waiting.recv() => post,
            }
        };
        let Some(post) = post else { break };
        while deliveries.len() >= at_once {
            deliveries.join_next().await;
        }
        deliveries.spawn(deliver(post));
        while deliveries.try_join_next().is_some() {}
    }
    while deliveries.join_next().await.is_some() {}
}
