//! What comes again, and when.

use super::*;

/// With the attempt counted, and otherwise as it was.
pub async fn a_retry_comes_again_after_its_backoff(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, mut told) = telling(|attempt| if attempt < 3 { retry(None) } else { Disposition::DONE });
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
        _ => Disposition::DONE,
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
    let (handler, mut told) = telling(|_| Disposition::DONE);
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

/// And the consumer lives on.
pub async fn a_panic_is_a_retry(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (sender, mut told) = mpsc::unbounded_channel();
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
            Disposition::DONE
        }
    });
    let consuming = consume(&bus, Consume { handler_deadline: Duration::from_millis(50), ..what(1) }, slow);
    bus.publish(message(1)).await.unwrap();
    assert_eq!(next(&mut told).await, 2);
    consuming.stop().await;
    bus.close().await;
}
