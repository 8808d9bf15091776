use std::{collections::BTreeMap, time::Duration};

use larkauth_lark::frame::{Frame, Header, METHOD_CONTROL, header};
use larkauth_lark_sim::{Effect, Endpoint, Fault, Frames, ViolationKind};
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite};

use crate::support::{APP, TIMEOUT, World, card, world, world_with};

#[tokio::test]
async fn discovery_checks_credentials_and_returns_single_use_ticket() {
    let world = world().await;
    let (_, wrong) = world.post("/callback/ws/endpoint", json!({"AppID": APP, "AppSecret": "wrong"})).await;
    assert_eq!(wrong["code"], 1_000_040_344);
    let found = world.discover().await;
    assert_eq!(found["data"]["ClientConfig"]["PingInterval"], 120);
    assert_eq!(found["data"]["ClientConfig"]["ReconnectCount"], -1);
    let url = found["data"]["URL"].as_str().unwrap();
    let (_first, _) = connect_async(url).await.unwrap();
    let tungstenite::Error::Http(refused) = connect_async(url).await.unwrap_err() else { panic!() };
    assert_eq!(refused.headers()["Handshake-Status"], "403");
    let stale = world.discover().await;
    world.clock.advance(Duration::from_secs(61));
    assert!(connect_async(stale["data"]["URL"].as_str().unwrap()).await.is_err());
}

#[tokio::test]
async fn handshake_of_fifty_first_connection_is_refused() {
    let world = world().await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(world.connect().await);
    }
    let url = world.discover().await["data"]["URL"].as_str().unwrap().to_owned();
    let tungstenite::Error::Http(refused) = connect_async(url).await.unwrap_err() else { panic!() };
    assert_eq!(refused.headers()["Handshake-Status"], "514");
    assert_eq!(refused.headers()["Handshake-Autherrcode"], "1000040350");
    assert_eq!(world.violations(), [ViolationKind::TooManyConnections]);
    drop(clients.pop());
    world.sim.wait_until(TIMEOUT, |sim| (sim.connections(APP) == 49).then_some(())).await.unwrap();
    world.connect().await;
}

#[tokio::test]
async fn ping_is_answered_with_client_config() {
    let world = world_with(|config| config.socket.ping_interval = Duration::from_secs(7)).await;
    let mut client = world.connect().await;
    client.ping().await;
    let pong = client.next().await.unwrap();
    assert_eq!((pong.method, pong.header(header::TYPE)), (METHOD_CONTROL, Some("pong")));
    let config: Value = serde_json::from_slice(&pong.payload.unwrap()).unwrap();
    assert_eq!(config["PingInterval"], 7);
    world.sim.faults().push(Fault::at(Endpoint::Pong, Effect::Hang));
    client.ping().await;
    client.ping().await;
    client.next().await.unwrap();
    assert_eq!(world.sim.stats().pings, 3, "one of three got no pong");
    assert!(world.violations().is_empty());
}

#[tokio::test]
async fn push_with_two_connections_reaches_one_of_them_at_random() {
    let world = world().await;
    let (mut a, mut b) = (world.connect().await, world.connect().await);
    let mut hits = [0, 0];
    for _ in 0..20 {
        world.sim.push_event(APP, "im.message.receive_v1", &json!({})).unwrap();
        let (who, frame) = tokio::select! {
            frame = a.next() => (0, frame.unwrap()),
            frame = b.next() => (1, frame.unwrap()),
        };
        hits[who] += 1;
        let client = if who == 0 { &mut a } else { &mut b };
        client.answer(frame, &json!({})).await;
    }
    assert!(hits[0] > 0 && hits[1] > 0, "{hits:?}");
    world.sim.wait_until(TIMEOUT, |sim| (sim.stats().answers == 20).then_some(())).await.unwrap();
    assert_eq!(world.sim.stats().pushes, 20);
}

#[tokio::test]
async fn click_answered_in_time_changes_card() {
    let world = world().await;
    let mut client = world.connect().await;
    let id = world.send(&card("one")).await;
    let answer = json!({"toast": {"type": "success", "content": "done"}, "card": {"type": "raw", "data": card("two")}});
    let (outcome, frame) = tokio::join!(world.sim.click(&id, "go", &world.user.open_id), async {
        let frame = client.next().await.unwrap();
        client.answer(frame.clone(), &answer).await;
        frame
    });
    let outcome = outcome.unwrap();
    assert!(outcome.answered && outcome.card_changed && outcome.error.is_none(), "{outcome:?}");
    assert_eq!(outcome.toast.unwrap()["content"], "done");
    assert_eq!(world.sim.card(&id).unwrap(), card("two"));
    let body: Value = serde_json::from_slice(&frame.payload.unwrap()).unwrap();
    assert_eq!(body["header"]["event_type"], "card.action.trigger");
    assert_eq!(body["event"]["operator"]["open_id"], world.user.open_id);
    assert_eq!(body["event"]["context"]["open_message_id"], id);
    assert_eq!(body["event"]["action"]["value"]["action"], "go");
    assert!(world.violations().is_empty(), "{:?}", world.sim.violations());
}

#[tokio::test]
async fn click_answered_late_shows_error_and_notes_violation() {
    let world = world_with(|config| config.socket.answer_deadline = Duration::from_millis(100)).await;
    let mut client = world.connect().await;
    let id = world.send(&card("one")).await;
    let (outcome, frame) =
        tokio::join!(world.sim.click(&id, 0, &world.user.open_id), async { client.next().await.unwrap() });
    let outcome = outcome.unwrap();
    assert_eq!((outcome.answered, outcome.error), (false, Some(200_341)));
    client.answer(frame, &json!({"card": {"type": "raw", "data": card("two")}})).await;
    let late = |sim: &larkauth_lark_sim::Sim| sim.violations().first().map(|violation| violation.kind);
    assert_eq!(world.sim.wait_until(TIMEOUT, late).await.unwrap(), ViolationKind::LateAnswer);
    assert_eq!(world.sim.card(&id).unwrap(), card("one"), "a late answer changes nothing");
}

#[tokio::test]
async fn click_without_connection_shows_error() {
    let world = world().await;
    let id = world.send(&card("one")).await;
    assert_eq!(world.sim.click(&id, 0, &world.user.open_id).await.unwrap().error, Some(200_340));
}

#[tokio::test]
async fn delayed_update_before_answer_is_refused_and_counts_as_use() {
    let world = world().await;
    let mut client = world.connect().await;
    let id = world.send(&card("one")).await;
    let click = world.sim.click(&id, 0, &world.user.open_id);
    let (outcome, token) = tokio::join!(click, async {
        let frame = client.next().await.unwrap();
        let body: Value = serde_json::from_slice(frame.payload.as_ref().unwrap()).unwrap();
        let token = body["event"]["token"].clone();
        assert_eq!(world.delayed_update(&token, &card("early")).await, 10_002);
        client.answer(frame, &json!({})).await;
        token
    });
    assert!(outcome.unwrap().answered);
    assert_eq!(world.violations(), [ViolationKind::CardUpdateBeforeAnswer]);
    assert_eq!(world.sim.card(&id).unwrap(), card("one"));
    assert_eq!(world.delayed_update(&token, &card("two")).await, 0);
    assert_eq!(world.sim.card(&id).unwrap(), card("two"));
    assert_eq!(world.delayed_update(&token, &card("three")).await, 10_002, "the early one was a use too");
}

#[tokio::test]
async fn delayed_update_after_half_an_hour_is_refused() {
    let world = world().await;
    let mut client = world.connect().await;
    let id = world.send(&card("one")).await;
    let token = click_and_take_token(&world, &mut client, &id).await;
    world.clock.advance(Duration::from_secs(1800));
    assert_eq!(world.delayed_update(&token, &card("two")).await, 10_002);
}

async fn click_and_take_token(world: &World, client: &mut crate::support::Client, id: &str) -> Value {
    let (_, token) = tokio::join!(world.sim.click(id, 0, &world.user.open_id), async {
        let frame = client.next().await.unwrap();
        let body: Value = serde_json::from_slice(frame.payload.as_ref().unwrap()).unwrap();
        client.answer(frame, &json!({})).await;
        body["event"]["token"].clone()
    });
    token
}

#[tokio::test]
async fn push_fault_frames_splits_shuffles_duplicates_and_interleaves() {
    let world = world().await;
    let mut client = world.connect().await;
    let id = world.send(&card("one")).await;
    let frames = Frames { parts: 5, shuffle: true, duplicate: true, interleave: true, as_card: true };
    world.sim.faults().push(Fault::at(Endpoint::Push, Effect::Frames(frames)));
    let (outcome, kinds) = tokio::join!(world.sim.click(&id, 0, &world.user.open_id), async {
        let mut parts: BTreeMap<String, BTreeMap<usize, Vec<u8>>> = BTreeMap::new();
        let (mut kinds, mut order) = (Vec::new(), Vec::new());
        loop {
            let frame = client.next().await.unwrap();
            let text = |key| frame.header(key).unwrap().to_owned();
            let seq = text(header::SEQ).parse().unwrap();
            let part = parts.entry(text(header::MESSAGE_ID)).or_default();
            part.insert(seq, frame.payload.clone().unwrap());
            kinds.push(text(header::TYPE));
            if frame.header(header::TYPE) == Some("card") {
                order.push(seq);
                if part.len() == 5 {
                    let whole: Vec<u8> = part.values().flatten().copied().collect();
                    let body: Value = serde_json::from_slice(&whole).unwrap();
                    assert_eq!(body["header"]["event_type"], "card.action.trigger");
                    client.answer(frame, &json!({})).await;
                    assert!(!order.is_sorted(), "{order:?}");
                    return kinds;
                }
            }
        }
    });
    assert!(outcome.unwrap().answered);
    assert!(kinds.iter().any(|kind| kind == "event"), "mixed with an event");
    assert!(world.violations().is_empty(), "{:?}", world.sim.violations());
}

#[tokio::test]
async fn malformed_frames_and_answers_are_noted_as_violations() {
    let world = world().await;
    let mut client = world.connect().await;
    let service = client.service;
    // SeqID, LogID and method left out, as a proto3 encoder would leave zeros out.
    let mut bytes = vec![0x18];
    prost::encoding::encode_varint(u64::try_from(service).unwrap(), &mut bytes);
    client.send_raw(bytes).await;
    client
        .send(&Frame {
            service: 1,
            method: METHOD_CONTROL,
            headers: vec![Header::new("type", "ping")],
            ..Frame::default()
        })
        .await;
    let stray = Frame {
        service,
        method: 1,
        headers: vec![Header::new("type", "event"), Header::new("message_id", "never")],
        ..Frame::default()
    };
    client.send(&stray).await;
    let id = world.send(&card("one")).await;
    let (_, frame) = tokio::join!(world.sim.click(&id, 0, &world.user.open_id), async {
        let mut frame = client.next().await.unwrap();
        while frame.header(header::TYPE) == Some("pong") {
            frame = client.next().await.unwrap();
        }
        client.answer(frame.clone(), &json!({})).await;
        frame
    });
    client.answer(frame.clone(), &json!({})).await;
    client.answer(Frame { seq_id: frame.seq_id + 1, ..frame }, &json!({})).await;
    let expected = [
        ViolationKind::MalformedFrame,
        ViolationKind::MalformedFrame,
        ViolationKind::WrongService,
        ViolationKind::UnknownAnswer,
        ViolationKind::AnsweredTwice,
        ViolationKind::AnsweredTwice,
        ViolationKind::MalformedAnswer,
    ];
    let seen = |sim: &larkauth_lark_sim::Sim| (sim.violations().len() >= expected.len()).then_some(());
    world.sim.wait_until(TIMEOUT, seen).await.unwrap();
    assert_eq!(world.violations(), expected, "{:?}", world.sim.violations());
}

#[tokio::test]
async fn unanswered_event_is_pushed_again() {
    let world = world_with(|config| {
        config.socket.answer_deadline = Duration::from_millis(500);
        config.socket.event_retries = vec![Duration::from_millis(10); 3];
    })
    .await;
    let mut client = world.connect().await;
    let event_id = world.sim.push_event(APP, "im.message.receive_v1", &json!({"n": 1})).unwrap();
    for attempt in 0..2 {
        let frame = client.next().await.unwrap();
        let body: Value = serde_json::from_slice(frame.payload.as_ref().unwrap()).unwrap();
        assert_eq!(body["header"]["event_id"], event_id);
        if attempt == 1 {
            client.answer(frame, &json!({})).await;
        }
    }
    world.sim.wait_until(TIMEOUT, |sim| (sim.stats().answers == 1).then_some(())).await.unwrap();
    assert_eq!(world.sim.stats().pushes, 2);
}

#[tokio::test]
async fn connections_on_demand_are_cut_half_open_or_refused() {
    let world = world().await;
    let mut client = world.connect().await;
    assert_eq!(world.sim.drop_connections(Some(APP)), 1);
    assert!(client.next().await.is_none());
    world.sim.wait_until(TIMEOUT, |sim| (sim.connections(APP) == 0).then_some(())).await.unwrap();

    let mut client = world.connect().await;
    assert_eq!(world.sim.half_open_connections(None), 1);
    client.ping().await;
    assert!(
        tokio::time::timeout(Duration::from_millis(100), client.next()).await.is_err(),
        "half-open is silent"
    );

    let refuse = Effect::Refuse { status: 514, auth_error: Some(1_000_040_350) };
    world.sim.faults().push(Fault::at(Endpoint::Handshake, refuse).for_app(APP));
    let url = world.discover().await["data"]["URL"].as_str().unwrap().to_owned();
    let tungstenite::Error::Http(refused) = connect_async(url).await.unwrap_err() else { panic!() };
    assert_eq!(refused.headers()["Handshake-Autherrcode"], "1000040350");
    world.sim.faults().push(Fault::at(Endpoint::Discovery, Effect::Answer { status: 200, code: 1 }));
    assert_eq!(world.discover().await["code"], 1);
    assert_eq!(world.discover().await["code"], 0);
}

#[tokio::test]
async fn client_without_pings_is_disconnected() {
    let world = world_with(|config| {
        config.socket.ping_interval = Duration::from_millis(30);
        config.socket.missed_pings = 2;
    })
    .await;
    let mut client = world.connect().await;
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn half_open_connection_is_closed_after_missed_pings() {
    let world = world_with(|config| {
        config.socket.ping_interval = Duration::from_millis(30);
        config.socket.missed_pings = 2;
    })
    .await;
    let _client = world.connect().await;
    assert_eq!(world.sim.half_open_connections(None), 1);
    world.sim.wait_until(TIMEOUT, |sim| (sim.connections(APP) == 0).then_some(())).await.unwrap();
}
