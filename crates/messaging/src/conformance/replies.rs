//! Replies to requests.

use super::*;

fn echoing() -> Arc<dyn Handler> {
    handler(|delivery: Delivery| async move {
        let reply = format!("re: {}", delivery.id).into();
        Disposition::Done { reply: Some(reply) }
    })
}

/// The replies cross from one connection to another.
pub async fn request_from_several_callers_returns_each_its_reply(bed: &impl TestBed) {
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
    // A reply to a message without a reply address is dropped.
    asking.publish(message("quiet")).await.unwrap();
    assert_eq!(
        asking.request(message("last")).await.unwrap().wait(PATIENCE).await.unwrap(),
        "re: event-last"
    );
    eventually("the queue is empty", || async { asking.depth(QUEUE).await.unwrap() == 0 }).await;
    consuming.stop().await;
    asking.close().await;
    answering.close().await;
}

/// A timeout keeps the request open. A reply to an abandoned request is dropped.
pub async fn request_answered_late_can_still_be_awaited(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let slow = handler(move |delivery: Delivery| {
        let gate = Arc::clone(&opened);
        async move {
            gate.acquire().await.unwrap().forget();
            Disposition::Done { reply: Some(delivery.body) }
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

/// The request stays in the queue.
pub async fn request_without_consumer_is_answered_once_consumed(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let mut pending = bus.request(message(1)).await.unwrap();
    assert_eq!(pending.wait(Duration::from_millis(50)).await, None);
    let consuming = started(&bus, echoing());
    assert_eq!(pending.wait(PATIENCE).await, Some("re: event-1".into()));
    consuming.stop().await;
    bus.close().await;
}
