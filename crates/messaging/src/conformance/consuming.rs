//! How much a consumer has in hand.

use super::*;

/// A handler that counts what it has in hand, and waits at a gate.
#[derive(Clone)]
struct Gated {
    gate: Arc<Semaphore>,
    now: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    done: Arc<AtomicU32>,
}

#[async_trait]
impl Handler for Gated {
    async fn handle(&self, _: Delivery) -> Disposition {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(1, Ordering::SeqCst);
        Disposition::DONE
    }
}

impl Gated {
    fn closed() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(0)),
            now: Arc::default(),
            most: Arc::default(),
            done: Arc::default(),
        }
    }

    /// How many are in hand, have been at most, and are done.
    fn counts(&self) -> (u32, u32, u32) {
        let [now, most, done] = [&self.now, &self.most, &self.done].map(|count| count.load(Ordering::SeqCst));
        (now, most, done)
    }
}

/// Prefetching included: others get the rest.
pub async fn no_more_in_hand_than_allowed(bed: &impl TestBed) {
    let bus = bed.bus().await;
    for n in 0..20 {
        bus.publish(message(n)).await.unwrap();
    }
    let gated = Gated::closed();
    let consuming = consume(&bus, what(3), Arc::new(gated.clone()));
    eventually("three are in hand", || async { gated.counts().0 == 3 }).await;
    eventually("the rest waits", || async { bus.depth(QUEUE).await.unwrap() == 17 }).await;
    gated.gate.add_permits(20);
    // An empty queue says nothing of what is in hand.
    eventually("all are done", || async { gated.counts().2 == 20 }).await;
    consuming.stop().await;
    assert_eq!(gated.counts(), (0, 3, 20));
    assert_eq!(bus.depth(QUEUE).await, Ok(0));
    bus.close().await;
}

/// Nothing new is begun, nothing is cut off.
pub async fn shutdown_finishes_what_is_in_hand_and_returns_the_rest(bed: &impl TestBed) {
    let bus = bed.bus().await;
    for n in 0..6 {
        bus.publish(message(n)).await.unwrap();
    }
    let gated = Gated::closed();
    let consuming = consume(&bus, what(2), Arc::new(gated.clone()));
    eventually("two are in hand", || async { gated.counts().0 == 2 }).await;
    consuming.shut_down();
    let ending = consuming.ended();
    tokio::pin!(ending);
    assert!(
        timeout(Duration::from_millis(100), &mut ending).await.is_err(),
        "it did not wait for its handlers"
    );
    gated.gate.add_permits(2);
    ending.await.unwrap();
    assert_eq!(gated.counts(), (0, 2, 2));
    eventually("four are left", || async { bus.depth(QUEUE).await.unwrap() == 4 }).await;

    let (handler, mut told) = telling(|_| Disposition::DONE);
    let consuming = started(&bus, handler);
    for _ in 0..4 {
        next(&mut told).await;
    }
    consuming.stop().await;
    bus.close().await;
}
