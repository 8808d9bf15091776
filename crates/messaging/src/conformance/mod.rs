//! The suite that every [`Bus`] must pass.
//!
//! A test file of an implementation is one line, [`bus_conformance!`](crate::bus_conformance) with an expression that makes
//! a [`TestBed`]: one test per case. To add a case: write a `pub async fn name(bed: &impl TestBed)` in one of the modules
//! here, and its name in the list of the macro.
#![expect(clippy::unwrap_used, clippy::panic, reason = "for tests: a failure is a failed test")]

mod consuming;
mod dead_letters;
mod isolation;
mod publishing;
mod replies;
mod retries;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
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
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout},
};

pub use self::{consuming::*, dead_letters::*, isolation::*, publishing::*, replies::*, retries::*};
use crate::{
    Bus, BusError, BusHealth, Consume, DeadLetter, Delivery, Disposition, Handler, Outgoing,
    backend::CRASHED,
    testing::{Consuming, PATIENCE, TestBed, consume, drained, eventually, handler, take_dead_letter},
};

/// Makes one test of each case. The argument is an expression that gives a future of a [`TestBed`](crate::testing::TestBed).
#[macro_export]
macro_rules! bus_conformance {
    ($bed:expr) => {
        $crate::bus_conformance!(@cases $bed;
            publish_delivers_message_unchanged,
            publish_with_each_routing_key_reaches_its_queue,
            publish_unroutable_is_refused_for_that_message_only,
            publish_confirmed_then_closed_is_still_delivered,
            request_from_several_callers_returns_each_its_reply,
            request_answered_late_can_still_be_awaited,
            request_without_consumer_is_answered_once_consumed,
            retry_without_wait_is_redelivered_after_backoff,
            retry_with_wait_is_redelivered_after_it,
            publish_later_delivers_to_its_queue_only_after_delay,
            dead_disposition_moves_message_to_dead_letters_unchanged,
            retry_of_last_attempt_becomes_dead_letter,
            delivery_to_crashing_consumers_becomes_dead_letter,
            crash_beside_others_kills_only_the_killer,
            crashes_by_no_message_leave_no_dead_letter,
            retry_of_isolated_message_shows_it_harmless,
            orderly_stops_count_as_no_crash,
            dead_letter_is_delivered_to_the_notices,
            dead_letters_read_repeatedly_stay_in_order,
            requeue_dead_letter_returns_it_to_its_queue,
            requeue_dead_letter_without_queue_is_refused_and_kept,
            requeue_and_drop_of_shared_id_take_the_oldest,
            handler_that_panics_is_retried,
            handler_past_deadline_is_cancelled_and_retried,
            consume_with_limit_prefetches_no_more,
            shutdown_finishes_running_handlers_and_returns_the_rest,
            publish_of_a_thousand_concurrently_loses_none,
            depth_counts_ready_messages_and_dead_letters,
            close_ends_consumers_and_refuses_publishing,
        );
    };
    (@cases $bed:expr; $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let bed = $bed.await;
                $crate::conformance::$case(&bed).await;
                $crate::testing::TestBed::teardown(bed).await;
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

/// Returns a handler that records every delivery with its time and decides by its attempt.
fn recording(
    decide: impl Fn(u32) -> Disposition + Send + Sync + 'static,
) -> (Arc<dyn Handler>, mpsc::UnboundedReceiver<(Delivery, Instant)>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let record = handler(move |delivery: Delivery| {
        let disposition = decide(delivery.attempt);
        sender.send((delivery, Instant::now())).unwrap();
        async move { disposition }
    });
    (record, receiver)
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
