//! Events of the application that are not larkauth's. Lark gives each push to one connection at random, so larkauth gets the
//! messages that people write to the bot, and the clicks on the bot's own cards. They are passed on and never kept.
//!
//! [`foreign`] decides whose a callback is. [`exchange`] and [`webhook`] are the two [`destination`]s; an event goes to
//! both. Without any, it is acknowledged, counted, and told in the log once an hour ([`notices`]).
//!
//! To add a destination: implement [`Destination`], and create it in [`Relay::new`].

mod destination;
mod exchange;
pub(crate) mod foreign;
mod notices;
mod webhook;

use std::sync::Arc;

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use larkauth_lark::card;
use larkauth_messaging::Bus;
use larkauth_models::{AppId, Clock, Entropy};
use larkauth_telemetry::Metrics;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{
    destination::{Destination, Passed, PendingAnswer},
    exchange::Exchange,
    foreign::Foreign,
    notices::Notices,
    webhook::Webhook,
};
use crate::{apps::AppRegistry, policy::Policy};

/// What became of an event.
#[derive(Debug, PartialEq)]
pub(crate) enum Relayed {
    /// A program has it. With its answer, if one came in time.
    Taken(Option<Value>),
    /// It is acknowledged, and no program receives it.
    NotTaken,
    /// A program should have it and does not. Lark may push it again.
    Failed,
}

/// The ways to other programs.
pub(crate) struct Relay {
    destinations: Vec<Arc<dyn Destination>>,
    webhook: Option<Arc<Webhook>>,
    notices: Arc<Notices>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

impl Relay {
    pub(crate) fn new(
        bus: Arc<dyn Bus>,
        apps: &Arc<AppRegistry>,
        metrics: &Metrics,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
        policy: &Policy,
    ) -> Self {
        let notices = Arc::new(Notices::default());
        let webhook = policy.event_relay_url.clone().map(|url| {
            Arc::new(Webhook::new(webhook::Parts {
                url,
                apps: apps.clone(),
                metrics: metrics.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
                notices: notices.clone(),
                timings: policy.webhook.clone(),
            }))
        });
        let mut destinations: Vec<Arc<dyn Destination>> = vec![Arc::new(Exchange::new(bus))];
        if let Some(webhook) = &webhook {
            destinations.push(webhook.clone());
        }
        Self { destinations, webhook, notices, metrics: metrics.clone(), clock: clock.clone() }
    }

    /// Passes an event to every destination, and waits for an answer until `until` where Lark shows one to a person.
    pub(crate) async fn pass_on(&self, app_id: &AppId, event: &Foreign, until: Instant) -> Relayed {
        self.metrics.foreign_event(app_id.as_str(), event.label());
        let passing = self.destinations.iter().map(|destination| async move {
            (destination.name(), destination.pass(app_id, event, until).await)
        });
        let (mut is_taken, mut is_failed, mut is_supported) = (false, false, false);
        let mut answers = FuturesUnordered::<PendingAnswer>::new();
        for (name, passed) in join_all(passing).await {
            is_supported |= !matches!(passed, Ok(Passed::Unsupported));
            let outcome = match passed {
                Ok(Passed::Taken(answer)) => {
                    is_taken = true;
                    answers.extend(answer);
                    "taken"
                }
                Ok(Passed::NotTaken) => "not_taken",
                Ok(Passed::Unsupported) => continue,
                Err(reason) => {
                    is_failed = true;
                    self.warn_of_failure(app_id, name, &reason);
                    "failed"
                }
            };
            self.metrics.event_relayed(app_id.as_str(), name, outcome);
        }
        if is_taken && !answers.is_empty() {
            return self.first_answer(app_id, answers, until).await;
        }
        if is_failed {
            return Relayed::Failed;
        }
        if !is_taken {
            self.tell_of_no_receiver(app_id, event, is_supported);
            return Relayed::NotTaken;
        }
        Relayed::Taken(None)
    }

    /// Returns the first answer. A program that cannot answer does not hide the answer of another.
    async fn first_answer(
        &self,
        app_id: &AppId,
        mut answers: FuturesUnordered<PendingAnswer>,
        until: Instant,
    ) -> Relayed {
        let mut failure = None;
        while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
            match answer {
                Ok(answer) => return Relayed::Taken(Some(answer)),
                Err(reason) => failure = Some(reason),
            }
        }
        match failure {
            // Every program has said that it does not answer.
            Some(reason) if answers.is_empty() && Instant::now() < until => {
                self.warn_of_failure(app_id, "answer", &reason);
                Relayed::Failed
            }
            _ => Relayed::Taken(None),
        }
    }

    fn warn_of_failure(&self, app_id: &AppId, destination: &'static str, reason: &str) {
        if self.notices.is_due(app_id, destination, self.clock.now()) {
            tracing::warn!(
                %app_id, destination, reason,
                "auth.relay.failed: an event of another program could not be passed on; the next such line comes in an hour, \
                 lark_service_event_relay_total counts meanwhile"
            );
        }
    }

    fn tell_of_no_receiver(&self, app_id: &AppId, event: &Foreign, is_supported: bool) {
        if !self.notices.is_due(app_id, "not_taken", self.clock.now()) {
            return;
        }
        let event_type = event.label();
        if is_supported {
            tracing::info!(
                %app_id, event_type,
                "auth.relay.not_taken: no queue is bound to the events of this application that are not larkauth's; they are \
                 acknowledged and counted, see docs/operations/relay.md"
            );
        } else {
            tracing::warn!(
                %app_id, event_type,
                "auth.relay.nowhere: this application gets events that are not larkauth's; they are acknowledged, counted and \
                 dropped. Give larkauth an application of its own, or set EVENT_RELAY_URL, see docs/operations/relay.md"
            );
        }
    }

    /// Posts what waits for the webhook, until `stopping`; then gives what is left one more attempt.
    pub(crate) async fn run(&self, stopping: CancellationToken) {
        match &self.webhook {
            Some(webhook) => webhook.clone().run(stopping).await,
            None => stopping.cancelled().await,
        }
    }
}

/// Returns the answer to Lark when there is nothing to show.
pub(crate) fn nothing() -> Value {
    card::answer(None, None)
}
