//! Guarantees to publishers.

use super::*;

/// The delivery has every field of the message.
pub async fn publish_delivers_message_unchanged(bed: &impl TestBed) {
    let bus = bed.bus().await;
    assert_eq!(*bus.health().borrow(), BusHealth::Up);
    bus.publish(message(1)).await.unwrap();
    let (handler, mut deliveries) = recording(|_| Disposition::DONE);
    let consuming = started(&bus, handler);
    let (delivery, _) = next(&mut deliveries).await;
    let sent = message(1);
    assert_eq!((delivery.id, delivery.body, delivery.headers), (sent.id, sent.body, sent.headers));
    assert_eq!((delivery.routing_key.as_str(), delivery.r#type.as_str()), (KEY, "test.v1"));
    assert_eq!((delivery.attempt, delivery.redelivered, delivery.reply_to), (1, false, None));
    consuming.stop().await;
    bus.close().await;
}

/// Every routing key of the catalogue has one queue.
pub async fn publish_with_each_routing_key_reaches_its_queue(bed: &impl TestBed) {
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
        (Queue::Escrows, "token.escrowed"),
    ]);
    let known: BTreeSet<_> =
        catalogue().iter().flat_map(|entry| entry.routing_keys.iter().copied()).collect();
    // Offered to other programs: no queue of larkauth is bound to them.
    let offered = ["user.suspended", "user.restored"];
    let tested = expected.iter().map(|(_, key)| *key).chain(DEAD_LETTER_BINDING_KEYS.iter().copied());
    let tested = tested.chain(offered);
    assert_eq!(known, tested.collect());

    let bus = bed.bus().await;
    for key in known.into_iter().filter(|key| !offered.contains(key)) {
        bus.publish(keyed(key)).await.unwrap();
    }
    let (sender, mut deliveries) = mpsc::unbounded_channel();
    let consumers: Vec<_> = Queue::ALL
        .iter()
        .map(|queue| {
            let (queue, sender) = (*queue, sender.clone());
            let record = handler(move |delivery: Delivery| {
                sender.send((queue, delivery.routing_key)).unwrap();
                async { Disposition::DONE }
            });
            consume(&bus, Consume { queue, ..what(4) }, record)
        })
        .collect();
    let mut got = BTreeSet::new();
    while got.len() < expected.len() {
        got.insert(next(&mut deliveries).await);
    }
    assert_eq!(got, expected.iter().map(|(queue, key)| (*queue, (*key).to_owned())).collect());
    for key in DEAD_LETTER_BINDING_KEYS {
        let letter = take_dead_letter(bus.as_ref()).await;
        assert_eq!((letter.routing_key.as_str(), letter.queue, letter.reason), (*key, None, None));
    }
    for consuming in consumers {
        consuming.stop().await;
    }
    bus.close().await;
    assert!(deliveries.try_recv().is_err(), "a message was delivered twice");
}

/// Of many concurrent publishers only the one of an unroutable message gets the refusal.
pub async fn publish_unroutable_is_refused_for_that_message_only(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let mut publishes = JoinSet::new();
    for n in 0..100 {
        let bus = Arc::clone(&bus);
        publishes.spawn(async move {
            let key = if n % 10 == 0 { "no.such.key" } else { KEY };
            (key, bus.publish(Outgoing { routing_key: key, ..message(n) }).await)
        });
    }
    while let Some(result) = publishes.join_next().await {
        match result.unwrap() {
            (KEY, Ok(())) => {}
            ("no.such.key", Err(BusError::Refused { routing_key, .. })) => {
                assert_eq!(routing_key, "no.such.key");
            }
            other => panic!("{other:?}"),
        }
    }
    let (handler, mut deliveries) = recording(|_| Disposition::DONE);
    let consuming = consume(&bus, what(10), handler);
    for _ in 0..90 {
        next(&mut deliveries).await;
    }
    consuming.stop().await;
    bus.close().await;
}

/// A confirmed message outlives the connection of its publisher.
pub async fn publish_confirmed_then_closed_is_still_delivered(bed: &impl TestBed) {
    let first = bed.bus().await;
    first.publish(message(1)).await.unwrap();
    first.close().await;
    drop(first);
    let second = bed.bus().await;
    let (handler, mut deliveries) = recording(|_| Disposition::DONE);
    let consuming = started(&second, handler);
    assert_eq!(next(&mut deliveries).await.0.id, message(1).id);
    consuming.stop().await;
    second.close().await;
}

/// Duplicates are allowed.
pub async fn publish_of_a_thousand_concurrently_loses_none(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let seeing = Arc::clone(&seen);
    let handler = handler(move |delivery: Delivery| {
        let seen = Arc::clone(&seeing);
        async move {
            // A part of them fails at the first attempt.
            if delivery.attempt == 1 && delivery.body.len().is_multiple_of(3) {
                return retry(None);
            }
            seen.lock().insert(delivery.id.to_string());
            Disposition::DONE
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
    eventually("all were delivered", || async { seen.lock().len() == 1000 }).await;
    consuming.stop().await;
    bus.close().await;
}

/// Ready messages count, delivered ones do not.
pub async fn depth_counts_ready_messages_and_dead_letters(bed: &impl TestBed) {
    let bus = bed.bus().await;
    assert_eq!((bus.depth(QUEUE).await, bus.dead_letter_depth().await), (Ok(0), Ok(0)));
    for n in 0..3 {
        bus.publish(message(n)).await.unwrap();
    }
    bus.publish(keyed(DEAD_LETTER_BINDING_KEYS[0])).await.unwrap();
    eventually("three are ready", || async { bus.depth(QUEUE).await == Ok(3) }).await;
    eventually("there is one dead letter", || async { bus.dead_letter_depth().await == Ok(1) }).await;
    take_dead_letter(bus.as_ref()).await;
    let (handler, mut deliveries) = recording(|_| Disposition::DONE);
    let consuming = started(&bus, handler);
    for _ in 0..3 {
        next(&mut deliveries).await;
    }
    consuming.stop().await;
    bus.close().await;
}

/// A second close has no effect.
pub async fn close_ends_consumers_and_refuses_publishing(bed: &impl TestBed) {
    let bus = bed.bus().await;
    let (handler, _told) = recording(|_| Disposition::DONE);
    let consuming = started(&bus, handler);
    bus.close().await;
    bus.close().await;
    assert_eq!(consuming.ended().await, Ok(()));
    assert!(matches!(bus.publish(message(1)).await, Err(BusError::Unavailable { .. })));
    assert!(matches!(&*bus.health().borrow(), BusHealth::Down { .. }));
}
