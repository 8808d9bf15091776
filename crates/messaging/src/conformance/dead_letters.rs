//! How messages become dead letters, and what an operator can do with them.

use larkauth_models::{Clock, SystemClock};

use super::*;

/// The dead letter has the queue, the reason and the time.
pub async fn dead_disposition_moves_message_to_dead_letters_unchanged(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, mut deliveries) =
        recording(|_| Disposition::Dead { reason: "of no known type".to_owned(), reply: None });
    let consuming = started(&bus, handler);
    bus.publish(message(1)).await.unwrap();
    next(&mut deliveries).await;
    let letter = take_dead_letter(bus.as_ref()).await;
    let died_at = letter.died_at.unwrap();
    let age = SystemClock.now().signed_duration_since(died_at).num_seconds();
    assert!((0..60).contains(&age), "dead-lettered at {died_at}");
    let Outgoing { id, routing_key, r#type, body, headers } = message(1);
    assert_eq!(
        letter,
        DeadLetter {
            id,
            r#type: r#type.to_owned(),
            routing_key: routing_key.to_owned(),
            queue: Some(QUEUE.name().to_owned()),
            reason: Some("of no known type".to_owned()),
            attempt: 1,
            died_at: Some(died_at),
            body,
            headers,
        }
    );
    consuming.stop().await;
    bus.close().await;
}

/// The number of attempts is the policy's.
pub async fn retry_of_last_attempt_becomes_dead_letter(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, mut deliveries) = recording(|_| retry(Some(Duration::ZERO)));
    let consuming = started(&bus, handler);
    bus.publish(message(1)).await.unwrap();
    let letter = take_dead_letter(bus.as_ref()).await;
    assert_eq!((letter.body, letter.attempt), (message(1).body, bed.policy().max_attempts));
    assert!(letter.reason.unwrap().contains("not now"));
    let mut attempts = Vec::new();
    while let Ok((delivery, _)) = deliveries.try_recv() {
        attempts.push(delivery.attempt);
    }
    assert_eq!(attempts, (1..=bed.policy().max_attempts).collect::<Vec<_>>());
    consuming.stop().await;
    bus.close().await;
}

/// A crashed consumer returns no message itself; the bus counts its deliveries.
pub async fn delivery_to_crashing_consumers_becomes_dead_letter(bed: &impl TestBed) {
    let bus = bed.bus().await;
    bus.publish(message(1)).await.unwrap();
    // The reason of an earlier retry is not the reason of the dead letter.
    let (once_more, mut deliveries) = recording(|_| retry(None));
    let consuming = started(&bus, once_more);
    next(&mut deliveries).await;
    consuming.stop().await;
    for _ in 0..=bed.policy().crash_limit {
        let crashing = bed.bus().await;
        let (sender, mut deliveries) = mpsc::unbounded_channel();
        let stuck = handler(move |delivery: Delivery| {
            sender.send(delivery).unwrap();
            std::future::pending()
        });
        let consuming = started(&crashing, stuck);
        assert_eq!(next(&mut deliveries).await.id, message(1).id);
        drop(consuming);
        drop(crashing);
    }
    let (handler, mut deliveries) = recording(|_| Disposition::DONE);
    let consuming = started(&bus, handler);
    let letter = take_dead_letter(bus.as_ref()).await;
    consuming.stop().await;
    assert!(deliveries.try_recv().is_err(), "a convicted message was handled");
    assert_eq!((letter.body, letter.reason.as_deref()), (message(1).body, Some(CRASHED)));
    assert_eq!((letter.queue.as_deref(), letter.attempt), (Some(QUEUE.name()), 2));
    assert!(letter.died_at.is_some());
    bus.close().await;
}

/// Returns a handler that makes every message a dead letter.
fn rejecting() -> Arc<dyn Handler> {
    handler(|_| async { Disposition::Dead { reason: "of no known type".to_owned(), reply: None } })
}

async fn letters(bus: &Arc<dyn Bus>, count: usize) -> Vec<DeadLetter> {
    eventually("the dead letters are there", || async {
        bus.dead_letter_depth().await == Ok(u64::try_from(count).unwrap())
    })
    .await;
    let letters = bus.dead_letters(u32::MAX).await.unwrap();
    assert_eq!(letters.len(), count);
    letters
}

/// The order is that of dead-lettering.
pub async fn dead_letters_read_repeatedly_stay_in_order(bed: &impl TestBed) {
    let bus = bed.bus().await;
    assert_eq!(bus.dead_letters(10).await, Ok(vec![]));
    let consuming = started(&bus, rejecting());
    for n in 0..3 {
        bus.publish(message(n)).await.unwrap();
    }
    let first = letters(&bus, 3).await;
    for (n, letter) in first.iter().enumerate() {
        assert_eq!((&letter.id, &letter.body), (&message(n).id, &message(n).body));
    }
    // A newer broker drops a message after twenty deliveries unless the queue has a higher limit.
    for _ in 0..25 {
        assert_eq!(bus.dead_letters(2).await.unwrap(), first[..2]);
    }
    assert_eq!(bus.dead_letters(0).await, Ok(vec![]));
    assert_eq!(letters(&bus, 3).await, first);
    for n in [1, 0, 2] {
        assert_eq!(bus.drop_dead_letter(&message(n).id).await, Ok(true));
        assert_eq!(bus.drop_dead_letter(&message(n).id).await, Ok(false));
    }
    letters(&bus, 0).await;
    consuming.stop().await;
    bus.close().await;
}

/// It starts at attempt 1, and reaches no other queue that its routing key is bound to.
pub async fn requeue_dead_letter_returns_it_to_its_queue(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (failing, mut failed) = recording(|_| retry(None));
    let consuming = started(&bus, failing);
    // Published to this queue directly: its routing key is bound to another one.
    let other = Outgoing { routing_key: "session.completed", ..message(1) };
    bus.publish_later(other.clone(), QUEUE, Duration::ZERO).await.unwrap();
    let dead = letters(&bus, 1).await.remove(0);
    assert_eq!((dead.attempt, dead.queue.as_deref()), (bed.policy().max_attempts, Some(QUEUE.name())));
    consuming.stop().await;
    let (first, _) = next(&mut failed).await;

    assert_eq!(bus.requeue_dead_letter(&message(2).id).await, Ok(false));
    let (handler, mut deliveries) =
        recording(|attempt| if attempt == 1 { retry(None) } else { Disposition::DONE });
    let consuming = started(&bus, handler);
    assert_eq!(bus.requeue_dead_letter(&other.id).await, Ok(true));
    let (again, _) = next(&mut deliveries).await;
    assert_eq!((&again.id, &again.body, &again.headers), (&first.id, &first.body, &first.headers));
    assert_eq!((&again.routing_key, &again.r#type), (&first.routing_key, &first.r#type));
    assert_eq!((again.attempt, again.redelivered, &again.reply_to), (1, false, &None));
    assert_eq!(next(&mut deliveries).await.0.attempt, 2);
    consuming.stop().await;
    letters(&bus, 0).await;
    assert_eq!(bus.requeue_dead_letter(&other.id).await, Ok(false));
    assert_eq!(bus.depth(Queue::CardFaces).await, Ok(0));
    bus.close().await;
}

/// It was published to the dead letters, so its routing key has no other queue.
pub async fn requeue_dead_letter_without_queue_is_refused_and_kept(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let unknown = keyed(DEAD_LETTER_BINDING_KEYS[0]);
    bus.publish(unknown.clone()).await.unwrap();
    let found = letters(&bus, 1).await;
    assert!(found[0].died_at.is_some());
    let refused = bus.requeue_dead_letter(&unknown.id).await;
    assert!(
        matches!(&refused, Err(BusError::Refused { routing_key, .. }) if routing_key == unknown.routing_key),
        "{refused:?}"
    );
    assert_eq!(letters(&bus, 1).await, found);
    assert_eq!(bus.drop_dead_letter(&unknown.id).await, Ok(true));
    letters(&bus, 0).await;
    bus.close().await;
}

/// The newer ones are kept.
pub async fn requeue_and_drop_of_shared_id_take_the_oldest(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let consuming = started(&bus, rejecting());
    for n in 1..=3 {
        let twin = Outgoing { body: Bytes::from(format!("twin {n}")), ..message("twin") };
        bus.publish(twin).await.unwrap();
        letters(&bus, n).await;
    }
    consuming.stop().await;
    let id = message("twin").id;
    assert_eq!(bus.drop_dead_letter(&id).await, Ok(true));
    assert_eq!(bus.requeue_dead_letter(&id).await, Ok(true));
    assert_eq!(letters(&bus, 1).await[0].body, "twin 3");
    let (handler, mut deliveries) = recording(|_| Disposition::DONE);
    let consuming = started(&bus, handler);
    assert_eq!(next(&mut deliveries).await.0.body, "twin 2");
    consuming.stop().await;
    assert_eq!(take_dead_letter(bus.as_ref()).await.body, "twin 3");
    bus.close().await;
}
