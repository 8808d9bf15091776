//! The connection against a scripted server in the same process: no sockets, so time can be paused and is exact.

mod bench;

use base64::{Engine, prelude::BASE64_STANDARD};
use bench::*;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::frame::{Frame, METHOD_DATA, header};

#[tokio::test(start_paused = true)]
async fn supervise_ten_failures_falls_back_with_doubling_waits() {
    let mut bench = Setup { then_fail: true, ..Setup::default() }.start();
    for failures in 1..=9 {
        bench.reaches(ConnectionState::Reconnecting { failures }).await;
    }
    for failures in 10..=12 {
        bench.reaches(ConnectionState::FallenBack { failures }).await;
    }
    assert!(!bench.state.borrow().is_connected() && bench.state.borrow().is_fallen_back());
    assert_about(&bench.waits(), &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0]);
    assert_eq!(*lock(&bench.outcomes.0), ["network"; 12]);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn supervise_without_fallback_reconnects_forever() {
    let config = LongConnectionConfig { fallback_to_http: false, ..LongConnectionConfig::default() };
    let mut bench = Setup { config, then_fail: true, ..Setup::default() }.start();
    bench.reaches(ConnectionState::Reconnecting { failures: 25 }).await;
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn supervise_backoff_has_jitter() {
    let bench = Setup { then_fail: true, ..Setup::default() }.start();
    until(|| lock(&bench.attempts).len() == 4).await;
    assert!(bench.waits().iter().all(|wait| wait.fract() > 0.001), "{:?}", bench.waits());
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn supervise_success_resets_failures_and_ends_fallback() {
    let plan = (0..11).map(|_| DialStep::Fails(network())).collect();
    let mut bench = Setup { plan, ..Setup::default() }.start();
    bench.reaches(ConnectionState::FallenBack { failures: 11 }).await;
    let server = bench.connects().await;
    assert!(bench.state.borrow().is_connected());
    let lost_at = Instant::now();
    drop(server);
    bench.reaches(ConnectionState::Reconnecting { failures: 0 }).await;
    let _server = bench.connects().await;
    assert_about(&[lost_at.elapsed().as_secs_f64()], &[1.0]);
    assert_eq!(lock(&bench.outcomes.0)[11..], ["connected", "connected"]);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn supervise_connection_without_message_counts_as_failure() {
    let mut bench = Setup::default().start();
    for failures in 1..=4 {
        drop(bench.servers.recv().await.unwrap());
        bench.reaches(ConnectionState::Reconnecting { failures }).await;
    }
    assert_about(&bench.waits(), &[1.0, 2.0, 4.0]);
    assert_eq!(*lock(&bench.outcomes.0), ["never_heard"; 4]);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn supervise_rejected_credentials_retries_at_long_interval() {
    let rejected = || DialStep::Fails(ConnectError::Rejected { code: 403, message: "no".into() });
    let mut bench = Setup { plan: vec![rejected(), rejected()], ..Setup::default() }.start();
    bench
        .state
        .wait_for(|s| matches!(s, ConnectionState::Rejected { reason } if reason.contains("403")))
        .await
        .unwrap();
    assert!(!bench.state.borrow().is_connected());
    let _server = bench.connects().await;
    assert_about(&bench.waits(), &[600.0, 600.0]);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn supervise_too_many_connections_waits_longest() {
    let plan = vec![DialStep::Fails(ConnectError::TooManyConnections)];
    let mut bench = Setup { plan, ..Setup::default() }.start();
    let _server = bench.connects().await;
    assert_about(&bench.waits(), &[60.0]);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn serve_silence_of_two_intervals_and_grace_loses_connection() {
    let mut bench = Setup::default().start();
    let _silent_but_open = bench.connects().await;
    let since = Instant::now();
    bench.reaches(ConnectionState::Reconnecting { failures: 0 }).await;
    assert_eq!(since.elapsed().as_secs(), 70);
    let _server = bench.connects().await;
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn serve_every_second_ping_answered_stays_connected() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    for _ in 0..50 {
        server.ping().await;
        server.ping().await;
        server.pong(None).await;
    }
    assert_eq!(lock(&bench.attempts).len(), 1);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn serve_write_timeout_loses_connection() {
    let mut bench = Setup { buffer: 256, ..Setup::default() }.start();
    let mut server = bench.connects().await;
    for _ in 0..20 {
        server.push("event", "m", "{}").await;
    }
    let since = Instant::now();
    bench.reaches(ConnectionState::Reconnecting { failures: 0 }).await;
    assert_eq!(since.elapsed().as_secs(), 10);
    drop(server);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn serve_pings_at_start_and_at_shorter_interval() {
    for (server_interval, expected) in [(120, 30), (0, 30), (10, 10)] {
        let mut bench = Setup { ping_interval: server_interval, ..Setup::default() }.start();
        let start = Instant::now();
        let mut server = bench.connects().await;
        assert_eq!(start.elapsed().as_secs(), 0);
        for count in 1..=3 {
            server.ping().await;
            server.pong(None).await;
            assert_eq!(start.elapsed().as_secs(), count * expected);
        }
        bench.stops().await;
    }
}

#[tokio::test(start_paused = true)]
async fn serve_pong_with_configuration_changes_ping_interval() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    let start = Instant::now();
    server.pong(Some(json!({"ReconnectCount": -1, "PingInterval": 5}))).await;
    for count in 1..=3 {
        server.ping().await;
        assert_eq!(start.elapsed().as_secs(), count * 5);
    }
    // The watchdog follows: 2 × 5 s and the grace of 10 s after the last pong.
    bench.reaches(ConnectionState::Reconnecting { failures: 0 }).await;
    assert_eq!(start.elapsed().as_secs(), 20);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn serve_events_and_cards_are_answered_including_duplicates() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    server.push("event", "m1", r#"{"a":1}"#).await;
    let (frame, payload) = server.answer().await;
    assert_eq!((frame.seq_id, frame.log_id, frame.header(header::MESSAGE_ID)), (4, 5, Some("m1")));
    assert!(frame.header(header::BIZ_RT).is_some());
    assert_eq!(payload, json!({"code": 200, "headers": null}));

    server.push("card", "m2", "hi").await;
    let (_, payload) = server.answer().await;
    let data = BASE64_STANDARD.decode(payload["data"].as_str().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&data).unwrap(), json!({"toast": "hi"}));

    server.push("event", "m1", r#"{"a":1}"#).await;
    server.answer().await;
    let pushes = lock(&bench.recorder.pushes).clone();
    assert_eq!(
        pushes.iter().map(|p| (p.0, p.1.as_str())).collect::<Vec<_>>(),
        [(PushKind::Event, "m1"), (PushKind::Card, "m2"), (PushKind::Event, "m1"),]
    );
    assert_eq!(bench.answered(3).await, [("m1".into(), true), ("m2".into(), true), ("m1".into(), true)]);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn answered_after_pong_reports_arrived() {
    let config = LongConnectionConfig { max_concurrent_handlers: 8, ..LongConnectionConfig::default() };
    let mut bench = Setup { config, ..Setup::default() }.start();
    let mut server = bench.connects().await;

    // One ping follows three answers that are written together.
    for id in ["a", "b", "c"] {
        server.push("card", id, "a second").await;
    }
    for _ in 0..3 {
        assert_eq!(server.frame().await.method, METHOD_DATA);
    }
    server.ping().await;
    assert_eq!(lock(&bench.recorder.answered).len(), 0);
    server.pong(None).await;
    assert!(bench.answered(3).await.iter().all(|(_, arrived)| *arrived));

    // No pong follows: reported as not arrived when Lark has stopped waiting, and not earlier.
    let start = Instant::now();
    server.push("card", "lost", "hi").await;
    assert_eq!(bench.answered(4).await[3], ("lost".into(), false));
    assert_eq!(start.elapsed().as_secs(), 3);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn answered_pong_of_earlier_ping_reports_not_arrived() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    // Pongs without a ping.
    server.pong(None).await;
    server.pong(None).await;
    sleep(Duration::from_secs(30)).await;
    // The pong of the regular ping arrives after the answer was written.
    server.ping().await;
    server.push("card", "m", "hi").await;
    assert_eq!(server.frame().await.method, METHOD_DATA);
    server.pong(None).await;
    assert_eq!(bench.answered(1).await, [("m".into(), false)]);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_with_unconfirmed_answer_returns_at_once() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    server.push("card", "m", "hi").await;
    assert_eq!(server.frame().await.method, METHOD_DATA);
    let start = Instant::now();
    let recorder = bench.recorder.clone();
    bench.stops().await;
    assert_eq!(*lock(&recorder.answered), [("m".to_owned(), false)]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn serve_slow_failing_or_panicking_handler_answers_failed_in_time() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    for payload in ["fail", "panic"] {
        server.push("event", payload, payload).await;
        assert_eq!(server.answer().await.1, json!({"code": 500, "headers": null}));
    }
    let start = Instant::now();
    server.push("event", "slow", "slow").await;
    let (frame, payload) = server.answer().await;
    assert_eq!(payload["code"], 500);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(frame.header(header::BIZ_RT), Some("2700"));
    assert_eq!(bench.answered(3).await.last(), Some(&("slow".into(), true)));
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn serve_beyond_max_handlers_answers_failed_at_once() {
    let config = LongConnectionConfig { max_concurrent_handlers: 1, ..LongConnectionConfig::default() };
    let mut bench = Setup { config, ..Setup::default() }.start();
    let mut server = bench.connects().await;
    server.push("event", "first", "a second").await;
    server.push("event", "second", "").await;
    let (frame, payload) = server.answer().await;
    assert_eq!((frame.header(header::MESSAGE_ID), &payload["code"]), (Some("second"), &json!(500)));
    let (frame, payload) = server.answer().await;
    assert_eq!((frame.header(header::MESSAGE_ID), &payload["code"]), (Some("first"), &json!(200)));
    bench.answered(1).await;
    server.push("event", "third", "").await;
    assert_eq!(server.answer().await.1["code"], 200);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn answered_connection_lost_reports_not_arrived() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    server.push("event", "m", "a second").await;
    until(|| !lock(&bench.recorder.pushes).is_empty()).await;
    drop(server);
    assert_eq!(bench.answered(1).await, [("m".into(), false)]);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn serve_split_message_answers_last_part() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    server.part("event", "a", 3, 2, "cc").await;
    server.part("card", "b", 2, 1, "BB").await;
    server.part("event", "a", 3, 0, "aa").await;
    server.part("card", "b", 2, 0, "AA").await;
    assert_eq!(server.answer().await.0.header(header::SEQ), Some("0"));
    server.part("event", "a", 3, 1, "bb").await;
    let (frame, _) = server.answer().await;
    assert_eq!((frame.header(header::MESSAGE_ID), frame.header(header::SEQ)), (Some("a"), Some("1")));
    let pushes = lock(&bench.recorder.pushes).clone();
    assert_eq!(
        pushes,
        [(PushKind::Card, "b".into(), "AABB".into()), (PushKind::Event, "a".into(), "aabbcc".into())]
    );

    // The first part is dropped before the second arrives.
    server.part("event", "late", 2, 0, "1").await;
    sleep(Duration::from_secs(6)).await;
    server.part("event", "late", 2, 1, "2").await;
    server.push("event", "after", "x").await;
    assert_eq!(server.answer().await.0.header(header::MESSAGE_ID), Some("after"));
    assert_eq!(lock(&bench.recorder.pushes).len(), 3);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn serve_malformed_messages_stays_connected() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    for _ in 0..100 {
        server.0.send(Message::Binary(vec![0xff; 100].into())).await.unwrap();
        server.0.send(Message::Text("hello".into())).await.unwrap();
        server.0.send(Message::Binary(vec![].into())).await.unwrap();
    }
    server.send(Frame { method: 9, ..Frame::default() }).await;
    server.send(Frame { method: METHOD_DATA, ..Frame::default() }).await;
    server.pong(Some(json!("no configuration"))).await;
    server.part("event", "m", 2, 7, "").await;
    server.push("unknown", "m", "").await;
    server.push("event", "fine", "").await;
    assert_eq!(server.answer().await.0.header(header::MESSAGE_ID), Some("fine"));
    assert_eq!(lock(&bench.attempts).len(), 1);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_with_running_handler_answers_and_closes() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    server.push("event", "m", "a second").await;
    until(|| !lock(&bench.recorder.pushes).is_empty()).await;
    bench.shutdown.cancel();
    assert_eq!(server.data().await.1["code"], 200);
    server.ping().await;
    assert!(matches!(server.0.next().await, Some(Ok(Message::Close(_)))));
    assert_eq!(bench.answered(1).await, [("m".into(), false)]);
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_what_is_pushed_until_the_close_frame() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    server.push("card", "first", "a second").await;
    until(|| !lock(&bench.recorder.pushes).is_empty()).await;
    bench.shutdown.cancel();
    sleep(Duration::from_millis(900)).await;
    server.push("card", "second", "a second").await;
    let answered = [server.data().await.0, server.data().await.0];
    assert_eq!(
        answered.map(|frame| frame.header(header::MESSAGE_ID).unwrap().to_owned()),
        ["first", "second"]
    );
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_under_load_ends_within_its_grace_and_answers_what_it_read() {
    let mut bench = Setup::default().start();
    let mut server = bench.connects().await;
    let start = Instant::now();
    let (mut pushed, mut answered) = (0, 0);
    server.push("card", "0", "a second").await;
    until(|| !lock(&bench.recorder.pushes).is_empty()).await;
    bench.shutdown.cancel();
    loop {
        tokio::select! {
            next = server.0.next() => match next {
                Some(Ok(Message::Binary(bytes))) => {
                    answered += usize::from(<Frame as prost::Message>::decode(&*bytes).unwrap().method == METHOD_DATA);
                }
                _ => break,
            },
            () = sleep(Duration::from_millis(100)) => {
                pushed += 1;
                server.push("card", &pushed.to_string(), "a second").await;
            }
        }
    }
    let read = lock(&bench.recorder.pushes).len();
    assert!(read > 15 && pushed > read, "{read} of {pushed} were read");
    assert_eq!(answered, read);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    bench.stops().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_during_attempt_or_backoff_returns_at_once() {
    for plan in [vec![DialStep::Hangs], vec![DialStep::Fails(ConnectError::TooManyConnections)]] {
        let bench = Setup { plan, ..Setup::default() }.start();
        until(|| !lock(&bench.attempts).is_empty()).await;
        let since = Instant::now();
        bench.stops().await;
        assert_eq!(since.elapsed().as_secs(), 0);
    }
}
