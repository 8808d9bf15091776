//! What every [`Bus`] must do, as cases that run against any implementation.
//!
//! Implement [`TestBed`] for the broker, then write `larkauth_messaging::bus_conformance!(MyBed::create())` in a test
//! file: one test per case.
#![expect(clippy::unwrap_used, clippy::panic, reason = "for tests: a failure is a failed test")]

mod consuming;
mod dead_letters;
mod publishing;
mod replies;
mod retries;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use larkauth_contracts::{
    message::catalogue,
    topology::{DEAD_LETTER_BINDING_KEYS, Queue},
};
use larkauth_models::EventId;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout},
};

pub use self::{consuming::*, dead_letters::*, publishing::*, replies::*, retries::*};
use crate::{
    Bus, BusError, BusHealth, Consume, DeadLetter, Delivery, Disposition, Handler, Outgoing, RetryPolicy,
    testing::{Consuming, PATIENCE, consume, eventually, handler, take_dead_letter},
};

/// A broker for one test, with nothing in it.
#[async_trait]
pub trait TestBed: Send + Sync + Sized {
    /// A new connection to it.
    async fn bus(&self) -> Arc<dyn Bus>;
    /// Its delays (well under a second) and limits (a few).
    fn policy(&self) -> &RetryPolicy;
    /// Removes it, after looking that nothing is left in it.
    async fn teardown(self);
}

/// Makes one test of each case. The argument is an expression that gives a future of a [`TestBed`].
#[macro_export]
macro_rules! bus_conformance {
    ($bed:expr) => {
        $crate::bus_conformance!(@cases $bed;
            a_published_message_arrives_as_it_was,
            every_routing_key_reaches_its_queue,
            an_unroutable_message_is_refused,
            what_was_confirmed_outlives_its_publisher,
            an_answer_reaches_who_asked,
            a_late_answer_can_still_be_awaited,
            a_request_without_a_consumer_waits_in_the_queue,
            a_retry_comes_again_after_its_backoff,
            a_retry_waits_as_long_as_it_was_told,
            a_later_message_comes_later_and_to_its_queue_only,
            the_dead_are_dead_at_once_and_unchanged,
            whoever_fails_too_often_is_dead,
            whoever_kills_its_consumers_is_dead,
            looking_at_dead_letters_leaves_them_there,
            a_dead_letter_goes_back_to_its_queue,
            a_dead_letter_that_leads_nowhere_stays,
            of_dead_letters_of_one_id_one_is_meant,
            a_panic_is_a_retry,
            a_slow_handler_is_cancelled_and_retried,
            no_more_in_hand_than_allowed,
            shutdown_finishes_what_is_in_hand_and_returns_the_rest,
            none_of_a_thousand_is_lost,
            depths_are_counted,
            a_closed_bus_says_so,
        );
    };
    (@cases $bed:expr; $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let bed = $bed.await;
                $crate::conformance::$case(&bed).await;
                $crate::conformance::TestBed::teardown(bed).await;
            }
        )+
    };
}

const QUEUE: Queue = Queue::CardActions;
const KEY: &str = "card.action.triggered";

fn message(id: impl std::fmt::Display) -> Outgoing {
    Outgoing {
        id: EventId::new(format!("event-{id}")).unwrap(),
        routing_key: KEY,
        r#type: "test.v1",
        body: Bytes::from(format!(r#"{{"n":"{id}"}}"#)),
        headers: BTreeMap::from([("x-test".to_owned(), format!("header {id}"))]),
    }
}

fn keyed(routing_key: &'static str) -> Outgoing {
    Outgoing { routing_key, ..message(routing_key) }
}

fn what(concurrency: u16) -> Consume {
    Consume { queue: QUEUE, concurrency, handler_deadline: PATIENCE }
}

/// A handler that tells of every delivery, and decides by its attempt.
fn telling(
    decide: impl Fn(u32) -> Disposition + Send + Sync + 'static,
) -> (Arc<dyn Handler>, mpsc::UnboundedReceiver<(Delivery, Instant)>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let tell = handler(move |delivery: Delivery| {
        let disposition = decide(delivery.attempt);
        sender.send((delivery, Instant::now())).unwrap();
        async move { disposition }
    });
    (tell, receiver)
}

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    match timeout(PATIENCE, receiver.recv()).await {
        Ok(Some(value)) => value,
        Ok(None) => panic!("the handler is gone"),
        Err(_) => panic!("nothing was delivered within {PATIENCE:?}"),
    }
}

fn retry(after: Option<Duration>) -> Disposition {
    Disposition::Retry { after, reason: "not now".to_owned() }
}

fn started(bus: &Arc<dyn Bus>, handler: Arc<dyn Handler>) -> Consuming {
    consume(bus, what(1), handler)
}
