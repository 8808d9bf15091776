//! The long connection: cut, half-open, refused, given up and restored.

use std::time::Duration;

use anyhow::Context;
use larkauth_lark_sim::{ClickOutcome, Effect, Endpoint, Fault, SimConfig, Socket};
use larkauth_models::{SecretString, SessionState};
use larkauth_tests::{Answer, Asked, Kind, Options, TIMEOUT, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn connection_cut_or_half_open_is_replaced_by_exactly_one() -> anyhow::Result<()> {
    // Pings every second, so that silence is noticed within two of them and the grace.
    let socket = Socket { ping_interval: Duration::from_secs(1), ..Socket::default() };
    let sim = SimConfig { socket, ..SimConfig::default() }.with_users(3);
    let env = vec![("WEBSOCKET_HEARTBEAT_INTERVAL", "1".to_owned())];
    let mut world = World::start(Options { sim, env, ..Options::default() }).await?;
    let (first, second) = (world.ask(0).await?, world.ask(1).await?);

    for round in 0..4 {
        let opened = world.sim.stats().connections_opened;
        assert_eq!(world.sim.drop_connections(None), 1, "one connection in round {round}");
        connected_again(&world, opened).await?;
    }
    assert!(taken(&world.sim.click(&first.message_id, "cancel", &first.person).await?));

    // Half-open: neither side is notified.
    let opened = world.sim.stats().connections_opened;
    assert_eq!(world.sim.half_open_connections(None), 1);
    eventually(TIMEOUT, async || {
        let health = health(&world).await?;
        let connection = health.part(&format!("websocket:{}", world.app_id()));
        Ok((connection["state"] == "failing").then_some(()))
    })
    .await?;
    connected_again(&world, opened).await?;
    assert!(taken(&world.sim.click(&second.message_id, "cancel", &second.person).await?));

    for asked in [&first, &second] {
        assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Rejected);
    }
    assert_eq!(world.sim.connections(world.app_id()), 1);
    let opened = world.metric(Kind::Gateway, "websocket_reconnect_total", "outcome=\"connected\"").await?;
    assert!(
        (opened - 6.0).abs() < 0.1,
        "one at the start, four after a cut, one after the half-open connection: {opened}"
    );
    world.finish().await
}

/// The worker's answer was written in time, but the connection was lost before.
#[tokio::test(flavor = "multi_thread")]
async fn callback_answer_lost_on_the_way_still_changes_card() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    let (cut, unproven) = (world.ask(0).await?, world.ask(1).await?);
    let opened = world.sim.stats().connections_opened;
    world.sim.faults().push(Fault::at(Endpoint::PushAnswer, Effect::Cut));
    let click = world.sim.click(&cut.message_id, "cancel", &cut.person).await?;
    assert!(!taken(&click) && !click.card_changed, "the person saw an error: {click:?}");
    assert_eq!(world.api.session(cut.session_id, 30).await?.state, SessionState::Rejected);
    world.shows(&cut, "grey").await?;

    // Lark got the answer, but does not say so: the card is sent once more, which changes nothing.
    connected_again(&world, opened).await?;
    world.sim.faults().push(Fault::at(Endpoint::Pong, Effect::Hang).until_cleared());
    let click = world.sim.click(&unproven.message_id, "cancel", &unproven.person).await?;
    assert!(taken(&click) && click.card_changed, "{click:?}");
    let updates = world.sim.stats().calls(Endpoint::MessageUpdate);
    eventually(TIMEOUT, async || {
        Ok((world.sim.stats().calls(Endpoint::MessageUpdate) > updates).then_some(()))
    })
    .await?;
    world.sim.faults().clear();
    world.shows(&unproven, "grey").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_refused_or_unanswered_is_tried_again() -> anyhow::Result<()> {
    let mut world = World::start(Options::default()).await?;
    let asked = world.ask(0).await?;
    for fault in [
        Fault::at(Endpoint::Discovery, Effect::Answer { status: 200, code: 1 }),
        Fault::at(Endpoint::Handshake, Effect::Refuse { status: 514, auth_error: Some(1) }),
        Fault::at(Endpoint::Discovery, Effect::Hang),
    ] {
        world.sim.faults().push(fault);
    }
    let opened = world.sim.stats().connections_opened;
    assert_eq!(world.sim.drop_connections(None), 1);
    connected_again(&world, opened).await?;
    assert!(world.sim.faults().list().is_empty(), "{:?}", world.sim.faults().list());
    assert!(taken(&world.sim.click(&asked.message_id, "cancel", &asked.person).await?));
    assert_eq!(world.sim.connections(world.app_id()), 1);
    for outcome in ["busy", "refused", "network"] {
        let label = format!("outcome=\"{outcome}\"");
        let count = world.metric(Kind::Gateway, "websocket_reconnect_total", &label).await?;
        assert!((count - 1.0).abs() < 0.1, "{outcome}: {count}");
    }
    world.finish().await
}

/// Takes a minute: the interval between attempts after the fallback.
#[tokio::test(flavor = "multi_thread")]
async fn fallback_after_failed_reconnects_accepts_http_callbacks() -> anyhow::Result<()> {
    let env = vec![("WEBSOCKET_MAX_RECONNECT_RETRIES", "2".to_owned())];
    let mut world = World::start(Options { env, ..Options::default() }).await?;
    let (before, during, after) = (world.ask(0).await?, world.ask(1).await?, world.ask(2).await?);
    consents(&world, &before).await?;
    world.sim.verify_callback_url(world.app_id()).await?;

    world
        .sim
        .faults()
        .push(Fault::at(Endpoint::Discovery, Effect::Answer { status: 200, code: 1 }).until_cleared());
    assert_eq!(world.sim.drop_connections(None), 1);
    eventually(TIMEOUT, async || {
        let fallen_back = world.metric(Kind::Gateway, "websocket_fallback_active", "").await?;
        Ok((fallen_back > 0.5).then_some(()))
    })
    .await?;
    let connected = world.metric(Kind::Gateway, "websocket_connection_status", "").await?;
    assert!(connected < 0.5, "the metric reports no connection");
    let click = world.sim.click(&during.message_id, "authorize", &during.person).await?;
    assert!(taken(&click) && click.card_changed, "{click:?}");
    consents(&world, &during).await?;
    assert_eq!(
        world.api.token(world.app_id(), &before.person).await?.status,
        200,
        "what is stored is served"
    );
    assert!(is_healthy(&world).await?, "it can do its work");

    // Lark has recovered: the next attempt, at the longest interval, restores the long connection.
    world.sim.faults().clear();
    eventually(Duration::from_secs(90), async || {
        Ok((world.sim.connections(world.app_id()) == 1).then_some(()))
    })
    .await
    .context("the long connection does not come back")?;
    eventually(TIMEOUT, async || {
        let fallen_back = world.metric(Kind::Gateway, "websocket_fallback_active", "").await?;
        Ok((fallen_back < 0.5).then_some(()))
    })
    .await?;
    let click = world.sim.click(&after.message_id, "cancel", &after.person).await?;
    assert!(taken(&click), "{click:?}");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_disabled_keeps_reconnecting_and_takes_verified_callbacks() -> anyhow::Result<()> {
    let env = vec![
        ("WEBSOCKET_MAX_RECONNECT_RETRIES", "1".to_owned()),
        ("WEBSOCKET_FALLBACK_TO_HTTP", "false".to_owned()),
    ];
    let world = World::start(Options { env, ..Options::default() }).await?;
    let (before, asked) = (world.ask(0).await?, world.ask(1).await?);
    consents(&world, &before).await?;
    let attempts = world.sim.stats().calls(Endpoint::Discovery);
    world
        .sim
        .faults()
        .push(Fault::at(Endpoint::Discovery, Effect::Answer { status: 200, code: 1 }).until_cleared());
    assert_eq!(world.sim.drop_connections(None), 1);
    eventually(TIMEOUT, async || {
        Ok((world.sim.stats().calls(Endpoint::Discovery) - attempts >= 3).then_some(()))
    })
    .await?;

    let click = world.sim.click(&asked.message_id, "cancel", &asked.person).await?;
    assert!(taken(&click), "a verified callback counts, wherever it comes: {click:?}");
    assert_eq!(world.api.session(asked.session_id, 0).await?.state, SessionState::Rejected);
    assert!(!is_healthy(&world).await?);
    assert_eq!(
        world.api.token(world.app_id(), &before.person).await?.status,
        200,
        "what is stored is served"
    );

    let opened = world.sim.stats().connections_opened;
    world.sim.faults().clear();
    connected_again(&world, opened).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_with_refused_credentials_leaves_gateway_ready_and_degraded() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    let asked = world.ask(0).await?;
    consents(&world, &asked).await?;
    world.sim.change_app(world.app_id(), |app| app.secret = SecretString::from("changed-in-the-console"))?;
    assert_eq!(world.sim.drop_connections(None), 1);
    let refused = eventually(TIMEOUT, async || {
        let health = health(&world).await?;
        Ok((health.text.contains("1000040344")).then_some(health))
    })
    .await?;
    assert_eq!(refused.json["status"], "degraded", "{refused:?}");
    for path in ["/healthz", "/readyz"] {
        let answer = world.api.raw(|http, base| http.get(format!("{base}{path}"))).await?;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    assert_eq!(world.api.token(world.app_id(), &asked.person).await?.status, 200, "what is stored is served");
    let calls = world.sim.stats().calls(Endpoint::Discovery);
    assert_eq!(calls, 2, "refused for good: not tried again and again");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_share_pushes() -> anyhow::Result<()> {
    const PEOPLE: usize = 24;
    let mut world =
        World::start(Options { sim: SimConfig::default().with_users(24), ..Options::default() }).await?;
    world.start_service(Kind::Gateway, &[("HTTP_ADDR", "127.0.0.1:0")]).await?;
    assert_eq!(world.sim.connections(world.app_id()), 2);
    for n in 0..PEOPLE {
        let asked = world.ask(n).await?;
        let button = if n % 2 == 0 { "cancel" } else { "authorize" };
        let click = world.sim.click(&asked.message_id, button, &asked.person).await?;
        assert!(taken(&click) && click.card_changed, "{click:?}");
    }
    // The chance that one of two gets none of 24 is one in eight million.
    let both = world.metric(Kind::Gateway, "callback_answer_seconds_count", "").await?;
    assert!((both - 24.0).abs() < 0.1, "{both}");
    let one = world.take(Kind::Gateway)?;
    let share = world.metric(Kind::Gateway, "callback_answer_seconds_count", "").await?;
    assert!((1.0..24.0).contains(&share), "{share} of 24");

    // One gateway shuts down in order: nothing is pushed to its closed connection.
    let (status, output) = one.terminate().await?;
    assert!(status.success(), "{status}\n{output}");
    eventually(TIMEOUT, async || Ok((world.sim.connections(world.app_id()) == 1).then_some(()))).await?;
    let person = world.person(1);
    let pending = world.sim.messages_for(&person).pop().context("a card")?;
    let click = world.sim.click(&pending.message_id, "authorize", &person).await?;
    assert!(taken(&click), "{click:?}");
    world.finish().await
}

/// Waits until exactly one more connection was opened, it is the only one, and every part of the gateway works.
async fn connected_again(world: &World, opened_before: u64) -> anyhow::Result<()> {
    eventually(TIMEOUT, async || {
        let opened = world.sim.stats().connections_opened - opened_before;
        anyhow::ensure!(opened <= 1, "{opened} connections were opened instead of one");
        let one = opened == 1 && world.sim.connections(world.app_id()) == 1;
        Ok((one && is_healthy(world).await?).then_some(()))
    })
    .await
    .with_context(|| format!("{} connections\n{}", world.sim.connections(world.app_id()), world.outputs()))
}

async fn health(world: &World) -> anyhow::Result<Answer> {
    world.api.raw(|http, base| http.get(format!("{base}/health"))).await
}

async fn is_healthy(world: &World) -> anyhow::Result<bool> {
    Ok(health(world).await?.json["status"] == "ok")
}

/// Returns whether a click was answered, and not with "please try again".
fn taken(click: &ClickOutcome) -> bool {
    click.answered
        && click.error.is_none()
        && click.toast.as_ref().is_some_and(|toast| toast["type"] != "warning")
}

async fn consents(world: &World, asked: &Asked) -> anyhow::Result<()> {
    world.sim.follow(&world.consent(asked).await?).await?;
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Completed);
    world.shows(asked, "green").await?;
    Ok(())
}
