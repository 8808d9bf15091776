//! Limits of consumers, and their shutdown.

use super::*;

/// A handler that counts its running calls and waits for permits of `gate`.
#[derive(Clone)]
struct Gated {
    gate: Arc<Semaphore>,
    running: Arc<AtomicU32>,
    peak: Arc<AtomicU32>,
    done: Arc<AtomicU32>,
}

#[async_trait]
impl Handler for Gated {
    async fn handle(&self, _: Delivery) -> Disposition {
        self.peak.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(1, Ordering::SeqCst);
        Disposition::DONE
    }
}

impl Gated {
    fn closed() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(0)),
            running: Arc::default(),
            peak: Arc::default(),
            done: Arc::default(),
        }
    }

    /// Returns how many calls run, have run at most at once, and are done.
    fn counts(&self) -> (u32, u32, u32) {
        let [running, peak, done] =
            [&self.running, &self.peak, &self.done].map(|count| count.load(Ordering::SeqCst));
        (running, peak, done)
    }
}

/// The limit includes prefetched messages, so that other consumers get the rest.
pub async fn consume_with_limit_prefetches_no_more(bed: &impl TestBed) {
    let bus = bed.bus().await;
    for n in 0..20 {
        bus.publish(message(n)).await.unwrap();
    }
    let gated = Gated::closed();
    let consuming = consume(&bus, what(3), Arc::new(gated.clone()));
    eventually("three handlers run", || async { gated.counts().0 == 3 }).await;
    eventually("the rest is ready", || async { bus.depth(QUEUE).await.unwrap() == 17 }).await;
    gated.gate.add_permits(20);
    // An empty queue does not show whether handlers still run.
    eventually("all are done", || async { gated.counts().2 == 20 }).await;
    consuming.stop().await;
    assert_eq!(gated.counts(), (0, 3, 20));
    assert_eq!(bus.depth(QUEUE).await, Ok(0));
    bus.close().await;
}

/// No handler starts after shutdown, and none is aborted.
pub async fn shutdown_finishes_running_handlers_and_returns_the_rest(bed: &impl TestBed) {
    let bus = bed.bus().await;
    for n in 0..6 {
        bus.publish(message(n)).await.unwrap();
    }
    let gated = Gated::closed();
    let consuming = consume(&bus, what(2), Arc::new(gated.clone()));
    eventually("two handlers run", || async { gated.counts().0 == 2 }).await;
    consuming.shut_down();
    let ending = consuming.ended();
    tokio::pin!(ending);
    assert!(
        timeout(Duration::from_millis(100), &mut ending).await.is_err(),
        "consume did not wait for its handlers"
    );
    gated.gate.add_permits(2);
    ending.await.unwrap();
    assert_eq!(gated.counts(), (0, 2, 2));
    eventually("four are ready", || async { bus.depth(QUEUE).await.unwrap() == 4 }).await;

    let (handler, mut deliveries) = recording(|_| Disposition::DONE);
    let consuming = started(&bus, handler);
    for _ in 0..4 {
        next(&mut deliveries).await;
    }
    consuming.stop().await;
    bus.close().await;
}
