//! Retries and delays.

use super::*;

/// Only the attempt differs.
pub async fn retry_without_wait_is_redelivered_after_backoff(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, mut deliveries) =
        recording(|attempt| if attempt < 3 { retry(None) } else { Disposition::DONE });
    let consuming = started(&bus, handler);
    bus.publish(message(1)).await.unwrap();
    let (first, mut before) = next(&mut deliveries).await;
    for attempt in 2..=3 {
        let (again, at) = next(&mut deliveries).await;
        assert_eq!(again.attempt, attempt);
        let waited = at - before;
        assert!(waited >= bed.policy().backoff(attempt - 1), "{attempt} was delivered after {waited:?}");
        assert_eq!((&again.id, &again.body, &again.headers), (&first.id, &first.body, &first.headers));
        assert_eq!((&again.routing_key, &again.r#type), (&first.routing_key, &first.r#type));
        before = at;
    }
    consuming.stop().await;
    bus.close().await;
}

/// The wait may exceed the longest tier.
pub async fn retry_with_wait_is_redelivered_after_it(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let waits = [bed.policy().tiers()[0] + Duration::from_millis(1), bed.policy().longest() * 2];
    let (handler, mut deliveries) = recording(move |attempt| match attempt {
        1 | 2 => retry(Some(waits[usize::try_from(attempt).unwrap() - 1])),
        _ => Disposition::DONE,
    });
    let consuming = started(&bus, handler);
    bus.publish(message(1)).await.unwrap();
    let (_, mut before) = next(&mut deliveries).await;
    for (attempt, wait) in (2..).zip(waits) {
        let (again, at) = next(&mut deliveries).await;
        assert_eq!(again.attempt, attempt);
        assert!(at - before >= wait, "{attempt} was delivered after {:?}", at - before);
        before = at;
    }
    consuming.stop().await;
    bus.close().await;
}

/// The delay may exceed the longest tier, and other queues of its routing key get nothing.
pub async fn publish_later_delivers_to_its_queue_only_after_delay(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, mut deliveries) = recording(|_| Disposition::DONE);
    let consuming = started(&bus, handler);
    for (id, delay) in [("soon", Duration::ZERO), ("later", bed.policy().longest() * 2)] {
        let sent = Instant::now();
        let other = Outgoing { routing_key: "session.completed", ..message(id) };
        bus.publish_later(other, QUEUE, delay).await.unwrap();
        let (delivery, at) = next(&mut deliveries).await;
        assert!(at - sent >= delay, "{id} was delivered after {:?}", at - sent);
        assert_eq!((delivery.routing_key.as_str(), delivery.attempt), ("session.completed", 1));
        assert_eq!(delivery.id, message(id).id);
    }
    assert_eq!(bus.depth(Queue::CardFaces).await.unwrap(), 0);
    consuming.stop().await;
    bus.close().await;
}

/// The consumer continues.
pub async fn handler_that_panics_is_retried(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (sender, mut deliveries) = mpsc::unbounded_channel();
    let panicking = handler(move |delivery: Delivery| {
        let sender = sender.clone();
        async move {
            assert!(delivery.attempt > 1, "on purpose");
            sender.send(delivery.attempt).unwrap();
            Disposition::DONE
        }
    });
    let consuming = started(&bus, panicking);
    bus.publish(message(1)).await.unwrap();
    assert_eq!(next(&mut deliveries).await, 2);
    consuming.stop().await;
    bus.close().await;
}

/// The handler's future is dropped.
pub async fn handler_past_deadline_is_cancelled_and_retried(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (sender, mut deliveries) = mpsc::unbounded_channel();
    let slow = handler(move |delivery: Delivery| {
        let sender = sender.clone();
        async move {
            if delivery.attempt == 1 {
                std::future::pending::<()>().await;
            }
            sender.send(delivery.attempt).unwrap();
            Disposition::DONE
        }
    });
    let consuming = consume(&bus, Consume { handler_deadline: Duration::from_millis(50), ..what(1) }, slow);
    bus.publish(message(1)).await.unwrap();
    assert_eq!(next(&mut deliveries).await, 2);
    consuming.stop().await;
    bus.close().await;
}
