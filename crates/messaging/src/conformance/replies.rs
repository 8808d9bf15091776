//! Answers to requests.

use super::*;

fn echoing() -> Arc<dyn Handler> {
    handler(|delivery: Delivery| async move {
        let reply = format!("re: {}", delivery.id).into();
        Disposition::Done { reply: Some(reply) }
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
    assert_eq!(
        asking.request(message("last")).await.unwrap().wait(PATIENCE).await.unwrap(),
        "re: event-last"
    );
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
