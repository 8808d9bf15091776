//! Crashes of consumers: only what crashes its consumer alone becomes a dead letter.

use super::*;

/// Handlers of one consumer that crashes. Each handler that should not finish is pending until then.
#[derive(Clone)]
struct Crashing {
    /// Ids of the deliveries that were begun, and whether each was redelivered.
    begun: mpsc::UnboundedSender<(String, bool)>,
    done: Arc<Mutex<BTreeSet<String>>>,
    running: Arc<AtomicU32>,
    /// Set when a redelivered message was handled beside another one.
    shared: Arc<AtomicU32>,
    /// Returns whether a delivery is pending until the crash.
    hangs: Arc<dyn Fn(&Delivery) -> bool + Send + Sync>,
}

#[async_trait]
impl Handler for Crashing {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let beside = |running| u32::from(delivery.redelivered && running > 1);
        self.shared.fetch_add(beside(running), Ordering::SeqCst);
        let _ = self.begun.send((delivery.id.to_string(), delivery.redelivered));
        if (self.hangs)(&delivery) {
            std::future::pending::<()>().await;
        }
        self.shared.fetch_add(beside(self.running.load(Ordering::SeqCst)), Ordering::SeqCst);
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.done.lock().insert(delivery.id.to_string());
        Disposition::DONE
    }
}

/// What every process of a test has in common.
#[derive(Default)]
struct Processes {
    done: Arc<Mutex<BTreeSet<String>>>,
    shared: Arc<AtomicU32>,
}

impl Processes {
    /// Starts a process: a bus of its own, and a consumer of eight messages.
    async fn start(
        &self,
        bed: &impl TestBed,
        hangs: impl Fn(&Delivery) -> bool + Send + Sync + 'static,
    ) -> (Arc<dyn Bus>, Consuming, mpsc::UnboundedReceiver<(String, bool)>) {
        let bus = bed.bus().await;
        let (begun, deliveries) = mpsc::unbounded_channel();
        let handler = Crashing {
            begun,
            done: Arc::clone(&self.done),
            running: Arc::default(),
            shared: Arc::clone(&self.shared),
            hangs: Arc::new(hangs),
        };
        let consuming = consume(&bus, what(8), Arc::new(handler));
        (bus, consuming, deliveries)
    }

    async fn all_done(&self, count: usize) {
        eventually("all innocents are handled", || async { self.done.lock().len() == count }).await;
    }
}

async fn publish_all(bed: &impl TestBed, count: u32) {
    let bus = bed.bus().await;
    for n in 0..count {
        bus.publish(message(n)).await.unwrap();
    }
    bus.close().await;
}

/// Twenty innocents and one killer, which crashes every consumer that begins with it. It takes one crash beside others and
/// [`RetryPolicy::crash_limit`](crate::RetryPolicy::crash_limit) alone. Redelivered messages are handled one at a time.
pub async fn crash_beside_others_kills_only_the_killer(bed: &impl TestBed) {
    publish_all(bed, 21).await;
    let killer = message(3).id.to_string();
    let processes = Processes::default();
    let mut crashes = 0;
    // The first process has begun with eight messages when the killer crashes it.
    let (bus, consuming, mut begun) = processes.start(bed, |_| true).await;
    for _ in 0..8 {
        next(&mut begun).await;
    }
    drop((consuming, bus));
    loop {
        let kills = killer.clone();
        let (bus, consuming, mut begun) =
            processes.start(bed, move |delivery| delivery.id.as_str() == kills).await;
        let hit = async { while next(&mut begun).await.0 != killer {} };
        let over = async {
            processes.all_done(20).await;
            eventually("the killer is dead", || async { bus.dead_letter_depth().await == Ok(1) }).await;
        };
        let is_hit = tokio::select! {
            () = hit => true,
            () = over => false,
        };
        if !is_hit {
            drained(bus.as_ref(), QUEUE).await;
            consuming.stop().await;
            let letter = take_dead_letter(bus.as_ref()).await;
            assert_eq!((letter.id.as_str(), letter.reason.as_deref()), (killer.as_str(), Some(CRASHED)));
            assert_eq!((letter.queue.as_deref(), letter.body), (Some(QUEUE.name()), message(3).body));
            bus.close().await;
            break;
        }
        crashes += 1;
        drop((consuming, bus));
    }
    assert_eq!(crashes, bed.policy().crash_limit);
    assert_eq!(
        processes.shared.load(Ordering::SeqCst),
        0,
        "a redelivered message was handled beside another"
    );
}

/// Sixty innocents wait, and the process is killed seven times in quick succession, by no message.
pub async fn crashes_by_no_message_leave_no_dead_letter(bed: &impl TestBed) {
    publish_all(bed, 60).await;
    let processes = Processes::default();
    for kill in 0..7 {
        let (bus, consuming, mut begun) = processes.start(bed, |_| true).await;
        // The first kill hits eight messages, the others hit what is begun first.
        for _ in 0..if kill == 0 { 8 } else { 1 } {
            next(&mut begun).await;
        }
        drop((consuming, bus));
    }
    let (bus, consuming, _begun) = processes.start(bed, |_| false).await;
    processes.all_done(60).await;
    assert_eq!(bus.dead_letter_depth().await, Ok(0));
    assert_eq!(
        processes.shared.load(Ordering::SeqCst),
        0,
        "a redelivered message was handled beside another"
    );
    drained(bus.as_ref(), QUEUE).await;
    consuming.stop().await;
    bus.close().await;
}

/// A message that is retried after it was handled alone is harmless: later crashes count from none.
pub async fn retry_of_isolated_message_shows_it_harmless(bed: &impl TestBed) {
    publish_all(bed, 1).await;
    let processes = Processes::default();
    for _ in 0..2 {
        // As many crashes as it survives, then an orderly retry.
        for _ in 0..bed.policy().crash_limit {
            let (bus, consuming, mut begun) = processes.start(bed, |_| true).await;
            next(&mut begun).await;
            drop((consuming, bus));
        }
        let bus = bed.bus().await;
        let go = Arc::new(Semaphore::new(0));
        let (sender, mut begun) = mpsc::unbounded_channel();
        let once_more = {
            let go = Arc::clone(&go);
            handler(move |delivery: Delivery| {
                let go = Arc::clone(&go);
                sender.send(delivery.redelivered).unwrap();
                async move {
                    let _permit = go.acquire().await.unwrap();
                    retry(Some(Duration::ZERO))
                }
            })
        };
        let consuming = started(&bus, once_more);
        assert!(next(&mut begun).await, "it was not delivered as a redelivered one");
        // No second attempt begins in this process.
        consuming.shut_down();
        go.add_permits(1);
        consuming.ended().await.unwrap();
        bus.close().await;
    }
    let (bus, consuming, _begun) = processes.start(bed, |_| false).await;
    processes.all_done(1).await;
    assert_eq!(bus.dead_letter_depth().await, Ok(0));
    consuming.stop().await;
    bus.close().await;
}

/// A stop in order is no crash, however often the message waits for its turn to be handled alone.
pub async fn orderly_stops_count_as_no_crash(bed: &impl TestBed) {
    publish_all(bed, 4).await;
    let processes = Processes::default();
    let (bus, consuming, mut begun) = processes.start(bed, |_| true).await;
    for _ in 0..4 {
        next(&mut begun).await;
    }
    drop((consuming, bus));
    for stop in 1..=2 * bed.policy().crash_limit {
        let bus = bed.bus().await;
        let (handler, mut deliveries) = recording(move |_| Disposition::DONE);
        if stop == 1 {
            // The first one is handled; the others are waiting for their turn meanwhile.
            let consuming = started(&bus, handler);
            next(&mut deliveries).await;
            consuming.stop().await;
        } else {
            started(&bus, handler).stop().await;
        }
        bus.close().await;
    }
    let bus = bed.bus().await;
    let (handler, _deliveries) = recording(|_| Disposition::DONE);
    let consuming = started(&bus, handler);
    drained(bus.as_ref(), QUEUE).await;
    consuming.stop().await;
    assert_eq!(bus.dead_letter_depth().await, Ok(0));
    bus.close().await;
}

/// Every dead letter of a work queue is delivered to the notices, unchanged. A notice that dies is no notice again.
pub async fn dead_letter_is_delivered_to_the_notices(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let dead = handler(|_| async { Disposition::Dead { reason: "of no known type".to_owned(), reply: None } });
    let consuming = started(&bus, dead.clone());
    bus.publish(message(1)).await.unwrap();
    let letter = take_dead_letter(bus.as_ref()).await;
    consuming.stop().await;

    let notices = Consume { queue: Queue::DeadLetterNotices, ..what(1) };
    let (noticed, mut deliveries) = recording(|attempt| {
        if attempt == 1 {
            retry(Some(Duration::ZERO))
        } else {
            Disposition::Dead { reason: "again".to_owned(), reply: None }
        }
    });
    let consuming = consume(&bus, notices, noticed);
    for attempt in 1..=2 {
        let (notice, _) = next(&mut deliveries).await;
        assert_eq!((&notice.id, &notice.body, &notice.r#type), (&letter.id, &letter.body, &letter.r#type));
        assert_eq!((&notice.headers, notice.attempt), (&letter.headers, attempt));
        assert_eq!(notice.routing_key, letter.routing_key);
    }
    let of_notice = take_dead_letter(bus.as_ref()).await;
    assert_eq!(of_notice.queue.as_deref(), Some(Queue::DeadLetterNotices.name()));
    consuming.stop().await;
    assert_eq!(bus.depth(Queue::DeadLetterNotices).await, Ok(0));
    bus.close().await;
}
