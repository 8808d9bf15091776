//! How much a consumer has in hand.

use super::*;

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
