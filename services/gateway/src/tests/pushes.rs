use larkauth_lark::long_connection::{Answer, Push, PushHandler, PushKind};
use larkauth_messaging::testing::{TestBus, consume};
use larkauth_models::{AuthMethod, CardFace};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    callbacks::{card_actions, click, worker},
    world::{World, app_id},
};
use crate::connections::Pushes;

fn push(payload: &Value) -> Push {
    Push {
        kind: PushKind::Event,
        message_id: "m1".to_owned(),
        trace_id: "t1".to_owned(),
        payload: payload.to_string().into_bytes(),
        received_at: Instant::now(),
    }
}

#[tokio::test]
async fn push_answer_is_recorded_once_it_arrived() {
    let broker = TestBus::create().await;
    let bus = broker.bus().await;
    let consuming = consume(&bus, card_actions(), worker());
    let mut world = World::with_bus(bus.clone()).await;
    let (delivered, lost) =
        (world.session(AuthMethod::WebsocketCard).await, world.session(AuthMethod::WebsocketCard).await);
    let pushes = Pushes::new(app_id(), world.callbacks.clone());
    for (session, arrived) in [(&delivered, true), (&lost, false)] {
        let push = push(&click(session.id, "cancel"));
        let meta = push.meta();
        let Answer::Ok(Some(answer)) = pushes.handle(push).await else { panic!("not taken") };
        assert_eq!(answer["toast"]["content"], "from the worker");
        pushes.answered(&meta, arrived).await;
    }

    drop(pushes);
    world.record_sent_answers().await;
    for (session, face) in [(delivered, CardFace::Declined), (lost, CardFace::Invitation)] {
        assert_eq!(
            world
                .context
                .session(&crate::actor::ACTOR, crate::tests::world::now(), session.id)
                .await
                .unwrap()
                .card_face,
            Some(face)
        );
    }
    consuming.stop().await;
}

#[tokio::test]
async fn push_click_with_broker_down_gets_toast() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    let pushes = Pushes::new(app_id(), world.callbacks.clone());
    let Answer::Ok(Some(answer)) = pushes.handle(push(&click(session.id, "authorize"))).await else {
        panic!("not taken")
    };
    assert!(answer["toast"]["i18n"]["en_us"].as_str().unwrap().contains("click again"), "{answer}");
    let metrics = world.context.metrics().render();
    assert!(metrics.contains("outcome=\"publish_failed\""), "{metrics}");
}
