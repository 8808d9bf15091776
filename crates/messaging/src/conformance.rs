//! What every [`Bus`] must do, as cases that run against any implementation.
//!
//! Implement [`TestBed`] for the broker, then write `larkauth_messaging::bus_conformance!(MyBed::create())` in a test
//! file: one test per case.
#![expect(clippy::unwrap_used, clippy::panic, reason = "for tests: a failure is a failed test")]

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

use crate::{
    Bus, BusError, BusHealth, Consume, Delivery, Handler, Outgoing, RetryPolicy, Verdict,
    testing::{Consuming, PATIENCE, consume, eventually, handler},
};

/// A broker for one test, with nothing in it.
#[async_trait]
pub trait TestBed: Send + Sync + Sized {
    /// A new connection to it.
    async fn bus(&self) -> Arc<dyn Bus>;
    /// Its delays (well under a second) and limits (a few).
    fn policy(&self) -> &RetryPolicy;
    /// Takes the next dead letter.
    async fn dead_letter(&self) -> DeadLetter;
    /// Removes it, after looking that nothing is left in it.
    async fn teardown(self);
}

/// A dead letter as an operator finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message's id.
    pub id: Option<String>,
    /// The body, unchanged.
    pub body: Bytes,
    /// Name of the queue it died in; none when it was published to the dead letters.
    pub queue: Option<String>,
    /// Why; `delivery_limit` when it killed its consumers.
    pub reason: Option<String>,
    /// Attempts it had.
    pub attempt: Option<u32>,
    /// The key it was published with first.
    pub routing_key: Option<String>,
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
    decide: impl Fn(u32) -> Verdict + Send + Sync + 'static,
) -> (Arc<dyn Handler>, mpsc::UnboundedReceiver<(Delivery, Instant)>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let tell = handler(move |delivery: Delivery| {
        let verdict = decide(delivery.attempt);
        sender.send((delivery, Instant::now())).unwrap();
        async move { verdict }
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

fn retry(after: Option<Duration>) -> Verdict {
    Verdict::Retry { after, reason: "not now".to_owned() }
}

fn started(bus: &Arc<dyn Bus>, handler: Arc<dyn Handler>) -> Consuming {
    consume(bus, what(1), handler)
}

/// Everything about a message arrives.
pub async fn a_published_message_arrives_as_it_was(bed: &impl TestBed) {
    let bus = bed.bus().await;
    assert_eq!(*bus.health().borrow(), BusHealth::Up);
    bus.publish(message(1)).await.unwrap();
    let (handler, mut told) = telling(|_| Verdict::DONE);
    let consuming = started(&bus, handler);
    let (delivery, _) = next(&mut told).await;
    let sent = message(1);
    assert_eq!((delivery.id, delivery.body, delivery.headers), (sent.id, sent.body, sent.headers));
    assert_eq!((delivery.routing_key.as_str(), delivery.r#type.as_str()), (KEY, "test.v1"));
    assert_eq!((delivery.attempt, delivery.redelivered, delivery.reply_to), (1, false, None));
    consuming.stop().await;
    bus.close().await;
}

/// Every key of the catalogue has one queue.
pub async fn every_routing_key_reaches_its_queue(bed: &impl TestBed) {
    let expected = BTreeSet::from([
        (Queue::Invitations, "invitation.requested"),
        (Queue::CardActions, "card.action.triggered"),
        (Queue::OauthRedirects, "oauth.code.received"),
        (Queue::OauthRedirects, "oauth.denied"),
        (Queue::CardFaces, "card.face.requested"),
        (Queue::CardFaces, "session.completed"),
        (Queue::CardFaces, "session.rejected"),
        (Queue::CardFaces, "session.expired"),
        (Queue::CardFaces, "session.failed"),
    ]);
    let known: BTreeSet<_> =
        catalogue().iter().flat_map(|entry| entry.routing_keys.iter().copied()).collect();
    let tested = expected.iter().map(|(_, key)| *key).chain(DEAD_LETTER_BINDING_KEYS.iter().copied());
    assert_eq!(known, tested.collect());

    let bus = bed.bus().await;
    for key in known {
        bus.publish(keyed(key)).await.unwrap();
    }
    let (sender, mut told) = mpsc::unbounded_channel();
    let consumers: Vec<_> = Queue::ALL
        .iter()
        .map(|queue| {
            let (queue, sender) = (*queue, sender.clone());
            let tell = handler(move |delivery: Delivery| {
                sender.send((queue, delivery.routing_key)).unwrap();
                async { Verdict::DONE }
            });
            consume(&bus, Consume { queue, ..what(4) }, tell)
        })
        .collect();
    let mut got = BTreeSet::new();
    while got.len() < expected.len() {
        got.insert(next(&mut told).await);
    }
    assert_eq!(got, expected.iter().map(|(queue, key)| (*queue, (*key).to_owned())).collect());
    for key in DEAD_LETTER_BINDING_KEYS {
        let letter = bed.dead_letter().await;
        assert_eq!((letter.routing_key.as_deref(), letter.queue, letter.reason), (Some(*key), None, None));
    }
    for consuming in consumers {
        consuming.stop().await;
    }
    bus.close().await;
    assert!(told.try_recv().is_err(), "something came twice");
}

/// The publisher hears of it, and only the one it concerns.
pub async fn an_unroutable_message_is_refused(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let mut publishes = JoinSet::new();
    for n in 0..100 {
        let bus = Arc::clone(&bus);
        publishes.spawn(async move {
            let key = if n % 10 == 0 { "nobody.listens" } else { KEY };
            (key, bus.publish(Outgoing { routing_key: key, ..message(n) }).await)
        });
    }
    while let Some(result) = publishes.join_next().await {
        match result.unwrap() {
            (KEY, Ok(())) => {}
            ("nobody.listens", Err(BusError::Refused { routing_key, .. })) => {
                assert_eq!(routing_key, "nobody.listens");
            }
            other => panic!("{other:?}"),
        }
    }
    let (handler, mut told) = telling(|_| Verdict::DONE);
    let consuming = consume(&bus, what(10), handler);
    for _ in 0..90 {
        next(&mut told).await;
    }
    consuming.stop().await;
    bus.close().await;
}

/// A confirm is a promise.
pub async fn what_was_confirmed_outlives_its_publisher(bed: &impl TestBed) {
    let first = bed.bus().await;
    first.publish(message(1)).await.unwrap();
    first.close().await;
    drop(first);
    let second = bed.bus().await;
    let (handler, mut told) = telling(|_| Verdict::DONE);
    let consuming = started(&second, handler);
    assert_eq!(next(&mut told).await.0.id, message(1).id);
    consuming.stop().await;
    second.close().await;
}

fn echoing() -> Arc<dyn Handler> {
    handler(|delivery: Delivery| async move {
        let reply = format!("re: {}", delivery.id).into();
        Verdict::Done { reply: Some(reply) }
    })
}

/// Each its own, across connections.
pub async fn an_answer_reaches_who_asked(bed: &impl TestBed) {
    let (asking, answering) = (bed.bus().await, bed.bus().await);
    let consuming = consume(&answering, what(4), echoing());
    let mut asked = JoinSet::new();
    for n in 0..20 {
        let bus = Arc::clone(&asking);
        asked.spawn(async move {
            let answer = bus.request(message(n)).await.unwrap().wait(PATIENCE).await.unwrap();
            assert_eq!(answer, format!("re: event-{n}"));
        });
    }
    while let Some(result) = asked.join_next().await {
        result.unwrap();
    }
    // Nobody asked: the answer goes nowhere and does no harm.
    asking.publish(message("quiet")).await.unwrap();
    eventually("the queue is empty", || async { asking.depth(QUEUE).await.unwrap() == 0 }).await;
    consuming.stop().await;
    asking.close().await;
    answering.close().await;
}

/// Giving up waiting is not the end, and an answer to nobody does no harm.
pub async fn a_late_answer_can_still_be_awaited(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let slow = handler(move |delivery: Delivery| {
        let gate = Arc::clone(&opened);
        async move {
            gate.acquire().await.unwrap().forget();
            Verdict::Done { reply: Some(delivery.body) }
        }
    });
    let consuming = started(&bus, slow);
    drop(bus.request(message("forgotten")).await.unwrap());
    let mut pending = bus.request(message("late")).await.unwrap();
    assert_eq!(pending.wait(Duration::from_millis(50)).await, None);
    gate.add_permits(2);
    assert_eq!(pending.wait(PATIENCE).await, Some(message("late").body));
    consuming.stop().await;
    bus.close().await;
}

/// No answer, but nothing lost either.
pub async fn a_request_without_a_consumer_waits_in_the_queue(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let mut pending = bus.request(message(1)).await.unwrap();
    assert_eq!(pending.wait(Duration::from_millis(50)).await, None);
    let consuming = started(&bus, echoing());
    assert_eq!(pending.wait(PATIENCE).await, Some("re: event-1".into()));
    consuming.stop().await;
    bus.close().await;
}

/// With the attempt counted, and otherwise as it was.
pub async fn a_retry_comes_again_after_its_backoff(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, mut told) = telling(|attempt| if attempt < 3 { retry(None) } else { Verdict::DONE });
    let consuming = started(&bus, handler);
    bus.publish(message(1)).await.unwrap();
    let (first, mut before) = next(&mut told).await;
    for attempt in 2..=3 {
        let (again, at) = next(&mut told).await;
        assert_eq!(again.attempt, attempt);
        let waited = at - before;
        assert!(waited >= bed.policy().backoff(attempt - 1), "{attempt} came after {waited:?}");
        assert_eq!((&again.id, &again.body, &again.headers), (&first.id, &first.body, &first.headers));
        assert_eq!((&again.routing_key, &again.r#type), (&first.routing_key, &first.r#type));
        before = at;
    }
    consuming.stop().await;
    bus.close().await;
}

/// Rounded up, and beyond the longest tier too.
pub async fn a_retry_waits_as_long_as_it_was_told(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let waits = [bed.policy().tiers()[0] + Duration::from_millis(1), bed.policy().longest() * 2];
    let (handler, mut told) = telling(move |attempt| match attempt {
        1 | 2 => retry(Some(waits[usize::try_from(attempt).unwrap() - 1])),
        _ => Verdict::DONE,
    });
    let consuming = started(&bus, handler);
    bus.publish(message(1)).await.unwrap();
    let (_, mut before) = next(&mut told).await;
    for (attempt, wait) in (2..).zip(waits) {
        let (again, at) = next(&mut told).await;
        assert_eq!(again.attempt, attempt);
        assert!(at - before >= wait, "{attempt} came after {:?}", at - before);
        before = at;
    }
    consuming.stop().await;
    bus.close().await;
}

/// Not to others that its key is bound to, and not sooner, however long the wait.
pub async fn a_later_message_comes_later_and_to_its_queue_only(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, mut told) = telling(|_| Verdict::DONE);
    let consuming = started(&bus, handler);
    for (id, delay) in [("soon", Duration::ZERO), ("later", bed.policy().longest() * 2)] {
        let sent = Instant::now();
        let other = Outgoing { routing_key: "session.completed", ..message(id) };
        bus.publish_later(other, QUEUE, delay).await.unwrap();
        let (delivery, at) = next(&mut told).await;
        assert!(at - sent >= delay, "{id} came after {:?}", at - sent);
        assert_eq!((delivery.routing_key.as_str(), delivery.attempt), ("session.completed", 1));
        assert_eq!(delivery.id, message(id).id);
    }
    assert_eq!(bus.depth(Queue::CardFaces).await.unwrap(), 0);
    consuming.stop().await;
    bus.close().await;
}

/// And the letter says where and why.
pub async fn the_dead_are_dead_at_once_and_unchanged(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, mut told) = telling(|_| Verdict::Dead { reason: "of no known type".to_owned() });
    let consuming = started(&bus, handler);
    bus.publish(message(1)).await.unwrap();
    next(&mut told).await;
    let letter = bed.dead_letter().await;
    assert_eq!(
        letter,
        DeadLetter {
            id: Some("event-1".to_owned()),
            body: message(1).body,
            queue: Some(QUEUE.name().to_owned()),
            reason: Some("of no known type".to_owned()),
            attempt: Some(1),
            routing_key: Some(KEY.to_owned()),
        }
    );
    consuming.stop().await;
    bus.close().await;
}

/// After as many attempts as the policy has.
pub async fn whoever_fails_too_often_is_dead(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, mut told) = telling(|_| retry(Some(Duration::ZERO)));
    let consuming = started(&bus, handler);
    bus.publish(message(1)).await.unwrap();
    let letter = bed.dead_letter().await;
    assert_eq!((letter.body, letter.attempt), (message(1).body, Some(bed.policy().max_attempts)));
    assert!(letter.reason.unwrap().contains("not now"));
    let mut attempts = Vec::new();
    while let Ok((delivery, _)) = told.try_recv() {
        attempts.push(delivery.attempt);
    }
    assert_eq!(attempts, (1..=bed.policy().max_attempts).collect::<Vec<_>>());
    consuming.stop().await;
    bus.close().await;
}

/// A crash gives nothing back by itself; the broker counts.
pub async fn whoever_kills_its_consumers_is_dead(bed: &impl TestBed) {
    let bus = bed.bus().await;
    bus.publish(message(1)).await.unwrap();
    for _ in 0..=bed.policy().delivery_limit {
        let doomed = bed.bus().await;
        let (sender, mut told) = mpsc::unbounded_channel();
        let stuck = handler(move |delivery: Delivery| {
            sender.send(delivery).unwrap();
            std::future::pending()
        });
        let consuming = started(&doomed, stuck);
        assert_eq!(next(&mut told).await.id, message(1).id);
        drop(consuming);
        drop(doomed);
    }
    let letter = bed.dead_letter().await;
    assert_eq!((letter.body, letter.reason.as_deref()), (message(1).body, Some("delivery_limit")));
    assert_eq!(letter.queue.as_deref(), Some(QUEUE.name()));
    bus.close().await;
}

/// And the consumer lives on.
pub async fn a_panic_is_a_retry(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let panicking = handler(move |delivery: Delivery| {
        let sender = sender.clone();
        async move {
            assert!(delivery.attempt > 1, "on purpose");
            sender.send(delivery.attempt).unwrap();
            Verdict::DONE
        }
    });
    let consuming = started(&bus, panicking);
    bus.publish(message(1)).await.unwrap();
    assert_eq!(next(&mut told).await, 2);
    consuming.stop().await;
    bus.close().await;
}

/// The handler's future is dropped.
pub async fn a_slow_handler_is_cancelled_and_retried(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let slow = handler(move |delivery: Delivery| {
        let sender = sender.clone();
        async move {
            if delivery.attempt == 1 {
                std::future::pending::<()>().await;
            }
            sender.send(delivery.attempt).unwrap();
            Verdict::DONE
        }
    });
    let consuming = consume(&bus, Consume { handler_deadline: Duration::from_millis(50), ..what(1) }, slow);
    bus.publish(message(1)).await.unwrap();
    assert_eq!(next(&mut told).await, 2);
    consuming.stop().await;
    bus.close().await;
}

/// A handler that counts how many are in hand, and waits at a gate.
fn gated() -> (Arc<dyn Handler>, Arc<Semaphore>, Arc<AtomicU32>, Arc<AtomicU32>) {
    let (gate, now, most) =
        (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let shared = (Arc::clone(&gate), Arc::clone(&now), Arc::clone(&most));
    let handler = handler(move |_| {
        let (gate, now, most) = shared.clone();
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            now.fetch_sub(1, Ordering::SeqCst);
            Verdict::DONE
        }
    });
    (handler, gate, now, most)
}

/// Prefetching included: others get the rest.
pub async fn no_more_in_hand_than_allowed(bed: &impl TestBed) {
    let bus = bed.bus().await;
    for n in 0..20 {
        bus.publish(message(n)).await.unwrap();
    }
    let (handler, gate, now, most) = gated();
    let consuming = consume(&bus, what(3), handler);
    eventually("three are in hand", || async { now.load(Ordering::SeqCst) == 3 }).await;
    eventually("the rest waits", || async { bus.depth(QUEUE).await.unwrap() == 17 }).await;
    gate.add_permits(20);
    eventually("all are done", || async {
        bus.depth(QUEUE).await.unwrap() == 0 && now.load(Ordering::SeqCst) == 0
    })
    .await;
    consuming.stop().await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    bus.close().await;
}

/// Nothing new is begun, nothing is cut off.
pub async fn shutdown_finishes_what_is_in_hand_and_returns_the_rest(bed: &impl TestBed) {
    let bus = bed.bus().await;
    for n in 0..6 {
        bus.publish(message(n)).await.unwrap();
    }
    let (handler, gate, now, most) = gated();
    let consuming = consume(&bus, what(2), handler);
    eventually("two are in hand", || async { now.load(Ordering::SeqCst) == 2 }).await;
    consuming.shut_down();
    let ending = consuming.ended();
    tokio::pin!(ending);
    assert!(
        timeout(Duration::from_millis(100), &mut ending).await.is_err(),
        "it did not wait for its handlers"
    );
    gate.add_permits(2);
    ending.await.unwrap();
    assert_eq!((now.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 2));
    eventually("four are left", || async { bus.depth(QUEUE).await.unwrap() == 4 }).await;

    let (handler, mut told) = telling(|_| Verdict::DONE);
    let consuming = started(&bus, handler);
    for _ in 0..4 {
        next(&mut told).await;
    }
    consuming.stop().await;
    bus.close().await;
}

/// Twice would be allowed.
pub async fn none_of_a_thousand_is_lost(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let seeing = Arc::clone(&seen);
    let handler = handler(move |delivery: Delivery| {
        let seen = Arc::clone(&seeing);
        async move {
            // Some fail at first.
            if delivery.attempt == 1 && delivery.body.len().is_multiple_of(3) {
                return retry(None);
            }
            seen.lock().unwrap().insert(delivery.id.to_string());
            Verdict::DONE
        }
    });
    let consuming = consume(&bus, what(32), handler);
    let mut publishes = JoinSet::new();
    for n in 0..1000 {
        let bus = Arc::clone(&bus);
        publishes.spawn(async move { bus.publish(message(n)).await });
    }
    while let Some(result) = publishes.join_next().await {
        result.unwrap().unwrap();
    }
    eventually("all have come", || async { seen.lock().unwrap().len() == 1000 }).await;
    consuming.stop().await;
    bus.close().await;
}

/// For the gauges.
pub async fn depths_are_counted(bed: &impl TestBed) {
    let bus = bed.bus().await;
    assert_eq!((bus.depth(QUEUE).await, bus.dead_letter_depth().await), (Ok(0), Ok(0)));
    for n in 0..3 {
        bus.publish(message(n)).await.unwrap();
    }
    bus.publish(keyed(DEAD_LETTER_BINDING_KEYS[0])).await.unwrap();
    eventually("three wait", || async { bus.depth(QUEUE).await == Ok(3) }).await;
    eventually("one is dead", || async { bus.dead_letter_depth().await == Ok(1) }).await;
    bed.dead_letter().await;
    let (handler, mut told) = telling(|_| Verdict::DONE);
    let consuming = started(&bus, handler);
    for _ in 0..3 {
        next(&mut told).await;
    }
    consuming.stop().await;
    bus.close().await;
}

/// Consumers end, publishers hear of it, and closing twice is once.
pub async fn a_closed_bus_says_so(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, _told) = telling(|_| Verdict::DONE);
    let consuming = started(&bus, handler);
    bus.close().await;
    bus.close().await;
    assert_eq!(consuming.ended().await, Ok(()));
    assert!(matches!(bus.publish(message(1)).await, Err(BusError::Unavailable { .. })));
    assert!(matches!(&*bus.health().borrow(), BusHealth::Down { .. }));
}
