//! A bot that shares its application with larkauth: its events and clicks reach it, over the broker or a webhook.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use larkauth_lark_sim::{ClickOutcome, SimConfig};
use larkauth_models::SessionState;
use larkauth_tests::{Kind, Options, SdkProgram, TIMEOUT, World, eventually};
use serde_json::{Value, json};

const MESSAGE: &str = "im.message.receive_v1";
const TOAST: &str = "来自机器人 from the bot";

/// The content of a chat message, with every field that an SDK requires.
fn message(n: u32) -> Value {
    json!({
        "sender": {"sender_id": {"open_id": "ou_1"}, "sender_type": "user", "tenant_key": "t"},
        "message": {"message_id": format!("om_{n}"), "chat_id": "oc_1", "chat_type": "p2p", "message_type": "text",
            "content": json!({"text": format!("你好 {n}")}).to_string(), "create_time": "1700000000000"},
    })
}

/// Sends a card of the bot, and clicks its button.
async fn click_on_card_of_bot(world: &World) -> anyhow::Result<ClickOutcome> {
    let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let call = async |path: &str, bearer: &str, body: Value| -> anyhow::Result<Value> {
        let url = format!("{}{path}", world.sim.base_url());
        Ok(http.post(url).bearer_auth(bearer).json(&body).send().await?.json().await?)
    };
    let env = world.env(Kind::Gateway);
    let credentials = json!({"app_id": env["APP_ID"], "app_secret": env["APP_SECRET"]});
    let token = call("/open-apis/auth/v3/tenant_access_token/internal", "", credentials).await?;
    let token = token["tenant_access_token"].as_str().context("a tenant token")?;
    let card = json!({"schema": "2.0", "config": {"update_multi": true}, "body": {"elements": [
        {"tag": "button", "text": {"tag": "plain_text", "content": "好"},
         "behaviors": [{"type": "callback", "value": {"approve": "order-7"}}]}]}});
    let person = world.person(0);
    let body = json!({"receive_id": person, "msg_type": "interactive", "content": card.to_string()});
    let sent = call("/open-apis/im/v1/messages?receive_id_type=open_id", token, body).await?;
    let message_id = sent["data"]["message_id"].as_str().context("a message id")?;
    Ok(world.sim.click(message_id, 0, &person).await?)
}

/// Pushes chat messages, a hundred at a time, and waits until Lark has an answer for each.
async fn push_messages(world: &World, count: u32) -> anyhow::Result<()> {
    for start in (0..count).step_by(100) {
        let answers = world.sim.stats().answers + u64::from(100.min(count - start));
        for n in start..count.min(start + 100) {
            world.sim.push_event(world.app_id(), MESSAGE, &message(n))?;
        }
        let answered = |sim: &larkauth_lark_sim::Sim| (sim.stats().answers >= answers).then_some(());
        world.sim.wait_until(TIMEOUT, answered).await.with_context(|| world.outputs())?;
    }
    Ok(())
}

fn without_warnings(world: &World) -> anyhow::Result<()> {
    let output = world.outputs();
    let is_warning = |line: &&str| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
    // A starting process is not ready for a moment, and says so. The key of the tests has every scope.
    let warnings: Vec<_> = output
        .lines()
        .filter(is_warning)
        .filter(|line| !line.contains("larkauth_telemetry::health"))
        .filter(|line| !line.contains("larkauth_gateway::api_keys"))
        .collect();
    ensure!(output.contains("\"INFO\"") && warnings.is_empty(), "{} warnings: {warnings:?}", warnings.len());
    Ok(())
}

/// A queue of another team.
struct Team {
    channel: Channel,
    consumer: Consumer,
}

impl Team {
    async fn bind(world: &World, key: &str) -> anyhow::Result<Self> {
        let channel = world.bus.channel().await;
        let declare = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), declare, FieldTable::default()).await?;
        let (name, exchange) = (queue.name().clone(), format!("{}.events", world.bus.prefix()));
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(name.clone(), exchange.as_str().into(), key.into(), bind, FieldTable::default())
            .await?;
        let consume = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = channel.basic_consume(name, "".into(), consume, FieldTable::default()).await?;
        Ok(Self { channel, consumer })
    }

    async fn next(&mut self) -> anyhow::Result<Delivery> {
        let next = tokio::time::timeout(TIMEOUT, self.consumer.next()).await.context("nothing comes")?;
        Ok(next.context("the queue is gone")??)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_chat_messages_leave_no_dead_letter_and_no_warning() -> anyhow::Result<()> {
    let mut world =
        World::start(Options { start: vec![Kind::Gateway, Kind::AuthWorker], ..Options::default() }).await?;
    push_messages(&world, 1000).await?;
    let counted = world.metric(Kind::Gateway, "foreign_events_total", MESSAGE).await?;
    assert!((counted - 1000.0).abs() < 0.1, "{counted}");

    // As many again, with a queue of another team that takes them. larkauth's own clicks go on meanwhile.
    let mut team = Team::bind(&world, "lark.event.#").await?;
    let asked = world.ask(0).await?;
    let (pushed, click) = tokio::join!(
        push_messages(&world, 1000),
        world.sim.click(&asked.message_id, "cancel", &asked.person)
    );
    pushed?;
    assert!(click?.card_changed);
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Rejected);
    for _ in 0..1000 {
        let delivery = team.next().await?;
        assert_eq!(delivery.routing_key.as_str(), format!("lark.event.{MESSAGE}"));
        let body: Value = serde_json::from_slice(&delivery.data)?;
        assert_eq!((&body["schema"], &body["header"]["event_type"]), (&json!("2.0"), &json!(MESSAGE)));
        assert!(body["event"]["message"]["content"].as_str().is_some_and(|text| text.contains("你好")));
    }
    without_warnings(&world)?;
    // It checks that there are no dead letters.
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn click_on_card_of_bot_is_answered_by_its_queue_or_empty() -> anyhow::Result<()> {
    let world =
        World::start(Options { start: vec![Kind::Gateway, Kind::AuthWorker], ..Options::default() }).await?;
    // Without a queue there is nothing to wait for.
    let click = click_on_card_of_bot(&world).await?;
    assert!(click.answered && click.answer.is_none() && click.elapsed < Duration::from_secs(1), "{click:?}");

    let mut team = Team::bind(&world, "lark.card.action").await?;
    let (click, delivery) = tokio::join!(click_on_card_of_bot(&world), async {
        let delivery = team.next().await?;
        let asked = &delivery.properties;
        let reply = BasicProperties::default()
            .with_correlation_id(asked.correlation_id().clone().context("a correlation id")?);
        let answer = json!({"toast": {"type": "success", "content": TOAST}}).to_string();
        let reply_to = asked.reply_to().clone().context("a reply address")?;
        let options = BasicPublishOptions::default();
        team.channel.basic_publish("".into(), reply_to, options, answer.as_bytes(), reply).await?;
        anyhow::Ok(delivery)
    });
    let (click, body): (_, Value) = (click?, serde_json::from_slice(&delivery?.data)?);
    assert_eq!(body["event"]["action"]["value"]["approve"], "order-7");
    assert!(click.toast.as_ref().is_some_and(|toast| toast["content"] == TOAST), "{click:?}");

    // A consumer that does not answer: the person waits for the budget and no longer.
    let click = click_on_card_of_bot(&world).await?;
    assert!(click.answered && click.answer.is_none() && click.error.is_none(), "{click:?}");
    assert!((Duration::from_millis(1900)..Duration::from_millis(2900)).contains(&click.elapsed), "{click:?}");
    without_warnings(&world)?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn click_on_card_of_another_larkauth_is_reported() -> anyhow::Result<()> {
    let mut world =
        World::start(Options { start: vec![Kind::Gateway, Kind::AuthWorker], ..Options::default() }).await?;
    let card = json!({"operator": {"open_id": world.person(0)}, "token": "c-1", "context": {"open_message_id": "om_1"},
        "action": {"tag": "button", "value":
            {"larkauth": 1, "session_id": "0190163d-8694-739b-aea5-966c26f8ad91", "action": "authorize"}}});
    let answers = world.sim.stats().answers + 1;
    world.sim.push_event(world.app_id(), "card.action.trigger", &card)?;
    world.sim.wait_until(TIMEOUT, |sim| (sim.stats().answers >= answers).then_some(())).await?;
    let counted = world.metric(Kind::AuthWorker, "unknown_session_clicks_total", "").await?;
    let answered = world.metric(Kind::Gateway, "callback_answer_seconds_count", "unknown_session").await?;
    assert!((counted - 1.0).abs() < 0.1 && (answered - 1.0).abs() < 0.1, "{counted} {answered}");
    assert!(world.outputs().contains("another program is connected as this application"));
    world.finish().await
}

/// The bot as its developers wrote it for Lark: an official SDK behind its HTTP handler.
async fn bot_works_unchanged(script: &str, encrypt_key: &str) -> anyhow::Result<()> {
    let token = "simulated-verification-token";
    let env = [("VERIFICATION_TOKEN", token), ("ENCRYPT_KEY", encrypt_key), ("TOAST", TOAST)];
    let mut bot = SdkProgram::start(script, &env)?;
    let port = bot.step("listening").await?["port"].to_string();
    let env = vec![
        ("EVENT_RELAY_URL", format!("http://127.0.0.1:{port}/webhook")),
        ("LARK_ENCRYPT_KEY", encrypt_key.to_owned()),
    ];
    let start = vec![Kind::Gateway, Kind::AuthWorker];
    let sim = SimConfig::default().with_users(1);
    let mut world = World::start(Options { sim, env, start, ..Options::default() }).await?;

    let event_id = world.sim.push_event(world.app_id(), MESSAGE, &message(1))?;
    let got = bot.step("message").await.with_context(|| world.outputs())?;
    assert_eq!((&got["event_id"], &got["content"]), (&json!(event_id), &message(1)["message"]["content"]));
    let click = click_on_card_of_bot(&world).await?;
    assert_eq!(bot.step("click").await?["value"]["approve"], "order-7");
    assert!(click.toast.as_ref().is_some_and(|toast| toast["content"] == TOAST), "{click:?}");

    // larkauth's own clicks stay larkauth's.
    let asked = world.ask(0).await?;
    assert!(world.sim.click(&asked.message_id, "cancel", &asked.person).await?.card_changed);
    eventually(TIMEOUT, async || {
        let delivered = world.metric(Kind::Gateway, "event_relay_total", "outcome=\"delivered\"").await?;
        Ok((delivered > 1.9).then_some(()))
    })
    .await?;
    without_warnings(&world)?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bot_on_python_sdk_works_unchanged_behind_relay() -> anyhow::Result<()> {
    for encrypt_key in ["simulated-encrypt-key", ""] {
        bot_works_unchanged("python_webhook.py", encrypt_key)
            .await
            .with_context(|| format!("key {encrypt_key:?}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bot_on_node_sdk_works_unchanged_behind_relay() -> anyhow::Result<()> {
    for encrypt_key in ["simulated-encrypt-key", ""] {
        bot_works_unchanged("node_webhook.mjs", encrypt_key)
            .await
            .with_context(|| format!("key {encrypt_key:?}"))?;
    }
    Ok(())
}
