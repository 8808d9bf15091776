//! Events that are not larkauth's: acknowledged, or posted to another program.

use std::{sync::Arc, time::Duration};

use larkauth_auth::{AppRegistry, Context, ContextParts, Policy, WebhookTimings, callbacks::Answered};
use larkauth_lark::callback::{Callback, CallbackVerifier};
use larkauth_messaging::testing::eventually;
use larkauth_models::{Application, Backoff, TokenApi};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use wiremock::{Match, Mock, MockServer, Request, ResponseTemplate, matchers::any};

use crate::fixture::{APP, Fixture};
use larkauth_storage::testing::act;

/// An event of a bot.
pub(crate) fn event(n: u32, event_type: &str) -> String {
    let header = json!({"event_id": format!("ev-{n}"), "event_type": event_type, "token": "", "app_id": APP});
    json!({"schema": "2.0", "header": header, "event": {"text": format!("hello {n}")}}).to_string()
}

/// A click on a card of a bot.
pub(crate) fn click(n: u32) -> String {
    let header =
        json!({"event_id": format!("click-{n}"), "event_type": "card.action.trigger", "app_id": APP});
    let event = json!({"operator": {"open_id": "ou_1"}, "token": "c-1", "action": {"value": {"approve": n}}});
    json!({"schema": "2.0", "header": header, "event": event}).to_string()
}

/// A larkauth that passes events on to a bot behind a webhook.
struct Relaying {
    fixture: Fixture,
    context: Context,
    bot: MockServer,
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl Relaying {
    async fn new(change: impl FnOnce(&mut Policy)) -> Self {
        let (fixture, bot) = (Fixture::new().await, MockServer::start().await);
        let application = Application {
            verification_token: Some("verification".into()),
            encrypt_key: Some("encrypt key".into()),
            ..fixture.application(APP, TokenApi::V2)
        };
        fixture.parts.store.put_application(&application, &act(fixture.context.now())).await.unwrap();
        let mut policy = Policy {
            event_relay_url: Some(format!("{}/webhook", bot.uri()).parse().unwrap()),
            webhook: WebhookTimings {
                backoff: Backoff::new(Duration::from_millis(5), Duration::from_millis(10), 0.2),
                ..WebhookTimings::default()
            },
            ..fixture.parts.policy.clone()
        };
        change(&mut policy);
        let parts = fixture.parts.clone();
        let apps = AppRegistry::new(
            parts.store.clone(),
            parts.apps.lark().clone(),
            parts.clock.clone(),
            parts.metrics.clone(),
            &policy,
        );
        let context = Context::new(ContextParts { apps: Arc::new(apps), policy, ..parts });
        let (relaying, stopping) = (context.clone(), CancellationToken::new());
        let stop = stopping.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { relaying.relay_events(stop).await });
        Self { fixture, context, bot, stopping, tasks }
    }

    async fn answers(&self, matcher: impl Match + 'static, response: ResponseTemplate, times: u64) {
        Mock::given(matcher).respond_with(response).up_to_n_times(times).mount(&self.bot).await;
    }

    async fn take(&self, payload: &str) -> Answered {
        self.context.take_callback(&self.fixture.app_id(), payload.as_bytes(), Instant::now()).await
    }

    async fn received(&self) -> Vec<Request> {
        self.bot.received_requests().await.unwrap()
    }

    /// The number of events of this fate.
    fn count(&self, outcome: &str) -> u64 {
        let metrics = self.context.metrics().render();
        let suffix = format!("destination=\"webhook\",outcome=\"{outcome}\"}} ");
        let line = metrics.lines().find_map(|line| Some(line.split_once(&suffix)?.1.parse().unwrap()));
        line.unwrap_or(0)
    }

    async fn finish(mut self) {
        self.stopping.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(20), self.tasks.join_next()).await;
        ended.unwrap().unwrap().unwrap();
    }
}

/// What a bot with the application's secrets reads.
fn read(relaying: &Relaying, request: &Request) -> Value {
    let clock = relaying.fixture.clock.clone();
    let verifier = CallbackVerifier::new(Some("verification".into()), Some("encrypt key".into()), clock);
    let Ok(Callback::Event(plain)) = verifier.verify(&request.headers, &request.body) else {
        panic!("refused")
    };
    serde_json::from_slice(&plain).unwrap()
}

#[tokio::test]
async fn foreign_event_without_destination_is_acknowledged_and_counted() {
    let fixture = Fixture::new().await;
    for (n, event_type) in
        ["im.message.receive_v1", "im.message.receive_v1", "a.stranger_v1"].iter().enumerate()
    {
        let payload = event(u32::try_from(n).unwrap(), event_type);
        let answered =
            fixture.context.take_callback(&fixture.app_id(), payload.as_bytes(), Instant::now()).await;
        assert_eq!((answered.outcome, answered.answer), ("foreign", Some(json!({}))));
    }
    let answered =
        fixture.context.take_callback(&fixture.app_id(), click(1).as_bytes(), Instant::now()).await;
    assert_eq!((answered.outcome, answered.answer), ("foreign", Some(json!({}))));
    assert_eq!(fixture.bus.left(), [""; 0], "nothing is kept");
    let metrics = fixture.context.metrics().render();
    for (event_type, count) in [("im.message.receive_v1", 2), ("other", 1), ("card.action.trigger", 1)] {
        let line = format!(
            "lark_service_foreign_events_total{{app_id=\"{APP}\",event_type=\"{event_type}\"}} {count}"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test]
async fn foreign_event_is_posted_signed_and_encrypted() {
    let relaying = Relaying::new(|_| {}).await;
    relaying.answers(any(), ResponseTemplate::new(200), 10).await;
    assert_eq!(relaying.take(&event(1, "im.message.receive_v1")).await.outcome, "relayed");
    eventually("it is posted", || async { relaying.count("delivered") == 1 }).await;
    let request = relaying.received().await.pop().unwrap();
    assert_eq!(request.url.path(), "/webhook");
    let read = read(&relaying, &request);
    assert_eq!(
        (&read["event"]["text"], &read["header"]["token"]),
        (&json!("hello 1"), &json!("verification"))
    );
    relaying.finish().await;
}

#[tokio::test]
async fn foreign_event_is_retried_on_server_error_and_dropped_when_refused_or_too_old() {
    let relaying = Relaying::new(|policy| policy.webhook.window = Duration::from_millis(300)).await;
    for status in [500, 429] {
        relaying.answers(any(), ResponseTemplate::new(status), 1).await;
    }
    relaying.answers(any(), ResponseTemplate::new(200), 1).await;
    relaying.take(&event(1, "t")).await;
    eventually("the third attempt succeeds", || async { relaying.count("delivered") == 1 }).await;
    assert_eq!(relaying.received().await.len(), 3);
    relaying.answers(any(), ResponseTemplate::new(400), 1).await;
    relaying.take(&event(2, "t")).await;
    eventually("a refusal is final", || async { relaying.count("dropped") == 1 }).await;
    assert_eq!(relaying.received().await.len(), 4);
    relaying.answers(any(), ResponseTemplate::new(503), 1_000).await;
    relaying.take(&event(3, "t")).await;
    eventually("the window ends", || async { relaying.count("dropped") == 2 }).await;
    assert!(relaying.received().await.len() > 5);
    relaying.finish().await;
}

#[tokio::test]
async fn foreign_click_answer_of_bot_is_passed_back() {
    let relaying = Relaying::new(|_| {}).await;
    let toast = json!({"toast": {"type": "success", "content": "from the bot"}});
    relaying.answers(any(), ResponseTemplate::new(200).set_body_json(&toast), 1).await;
    let answered = relaying.take(&click(1)).await;
    assert_eq!((answered.outcome, answered.answer), ("relayed", Some(toast)));
    assert_eq!(read(&relaying, &relaying.received().await[0])["event"]["action"]["value"]["approve"], 1);
    // An acknowledgement of an SDK shows nothing.
    relaying.answers(any(), ResponseTemplate::new(200).set_body_json(json!({"msg": "success"})), 1).await;
    assert_eq!(relaying.take(&click(2)).await.answer, Some(json!({})));
    relaying.finish().await;
}

#[tokio::test]
async fn foreign_click_with_slow_or_failing_bot_is_answered_in_time() {
    let relaying = Relaying::new(|policy| policy.answer_deadline = Duration::from_millis(200)).await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_millis(600));
    relaying.answers(any(), slow, 1).await;
    let received = Instant::now();
    let answered = relaying.take(&click(1)).await;
    assert_eq!((answered.outcome, answered.answer), ("relay_late", Some(json!({}))));
    assert!(received.elapsed() < Duration::from_millis(550));
    eventually("the bot's call is not cut", || async { relaying.count("delivered") == 1 }).await;
    relaying.answers(any(), ResponseTemplate::new(500), 1).await;
    let answered = relaying.take(&click(2)).await;
    assert_eq!(answered.outcome, "publish_failed");
    assert!(answered.answer.unwrap()["toast"]["content"].as_str().unwrap().contains("click again"));
    relaying.finish().await;
}

#[tokio::test]
async fn foreign_event_beyond_the_queue_is_refused_and_left_behind_is_counted() {
    let relaying = Relaying::new(|policy| policy.webhook.drain = Duration::from_millis(50)).await;
    relaying.answers(any(), ResponseTemplate::new(200).set_delay(Duration::from_secs(60)), 10_000).await;
    let large = event(1, "t").replace("hello", &"x".repeat(1 << 20));
    let mut taken = 0;
    loop {
        let answered = relaying.take(&large).await;
        if answered.answer.is_none() {
            break;
        }
        taken += 1;
    }
    assert_eq!(taken, 15, "16 MiB are the bound; Lark pushes the rest again");
    // A click has its own way, but the same memory.
    relaying.stopping.cancel();
    eventually("what was left behind is counted", || async { relaying.count("dropped") == taken }).await;
    assert_eq!(relaying.take(&event(2, "t")).await.answer, None, "a stopping process takes none");
    relaying.finish().await;
}
