//! Failures of each part, and what people see during and after them.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::{join_all, try_join_all};
use larkauth_lark_sim::{ClickOutcome, Effect, Endpoint, Fault, SimConfig};
use larkauth_models::{FailureReason, SessionState};
use larkauth_tests::{Asked, Kind, Options, TIMEOUT, World, eventually};
use serde_json::json;
use tokio::time::Instant;

/// Lark's deadline for the answer to a callback.
const CALLBACK_DEADLINE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn database_outage_loses_nothing_after_recovery() -> anyhow::Result<()> {
    let world =
        World::start(Options { sim: SimConfig::default().with_users(5), ..Options::default() }).await?;
    let (clicked, followed, exchanged) = (world.ask(0).await?, world.ask(1).await?, world.ask(2).await?);
    let redirect = world.consent(&followed).await?;
    let body = json!({"app_id": world.app_id(), "open_id": world.person(3)});

    // The outage begins during an exchange: the received token pair is kept until it can be stored.
    world.sim.faults().push(Fault::at(Endpoint::UserInfo, Effect::LateAnswer(1500)));
    let exchange_redirect = world.consent(&exchanged).await?;
    let mut exchange = Box::pin(world.sim.follow(&exchange_redirect));
    let users_asked = async {
        eventually(TIMEOUT, async || Ok((world.sim.stats().calls(Endpoint::UserInfo) == 1).then_some(())))
            .await
    };
    tokio::select! {
        page = &mut exchange => anyhow::bail!("answered before the exchange was done: {page:?}"),
        asked = users_asked => asked?,
    }
    world.database_proxy.down();

    let started = Instant::now();
    let refused = world.api.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body.clone())).await?;
    assert_eq!((refused.status, &refused.json["code"]), (503, &"service_unavailable".into()), "{refused:?}");
    assert!(refused.retry_after.is_some() && started.elapsed() < Duration::from_secs(10));
    // A click is accepted without the database, and answered with "processing".
    let click = world.sim.click(&clicked.message_id, "cancel", &clicked.person).await?;
    assert!(click.answered && click.elapsed < CALLBACK_DEADLINE && !is_try_again(&click), "{click:?}");
    let page = world.sim.follow(&redirect).await?;
    assert_eq!(page.status, 503, "{page:?}");
    exchange.await?;
    world.database_proxy.resume();

    assert_eq!(world.api.session(clicked.session_id, 30).await?.state, SessionState::Rejected);
    world.shows(&clicked, "grey").await?;
    assert_eq!(world.api.session(exchanged.session_id, 30).await?.state, SessionState::Completed);
    assert_eq!(world.api.token(world.app_id(), &exchanged.person).await?.status, 200);
    // The person reloads the page.
    assert_eq!(world.sim.follow(&redirect).await?.status, 200);
    assert_eq!(world.api.session(followed.session_id, 30).await?.state, SessionState::Completed);

    // Half-open: the connection stalls, and every caller still receives an answer.
    world.database_proxy.pause();
    let started = Instant::now();
    let refused = world.api.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body)).await?;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(11));
    world.database_proxy.resume();
    assert_eq!(world.sim.messages_for(&world.person(3)).len(), 0, "a refused invitation sends no card");
    eventually(TIMEOUT, async || {
        Ok((world.api.token(world.app_id(), &exchanged.person).await?.status == 200).then_some(()))
    })
    .await?;
    completes(&world, &world.ask(4).await?).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_outage_loses_nothing_after_recovery() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    let body = json!({"app_id": world.app_id(), "open_id": world.person(2)});
    for outage in ["cut", "down", "half open"] {
        let (clicked, followed) = (world.ask(0).await?, world.ask(1).await?);
        let redirect = world.consent(&followed).await?;
        match outage {
            "cut" => world.broker_proxy.cut(),
            "down" => world.broker_proxy.down(),
            _ => world.broker_proxy.pause(),
        }
        let click = world.sim.click(&clicked.message_id, "authorize", &clicked.person).await?;
        assert!(click.answered && click.elapsed < CALLBACK_DEADLINE, "{outage}: {click:?}");
        if outage != "cut" {
            assert!(is_try_again(&click), "{outage}: {click:?}");
            let refused =
                world.api.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body.clone())).await?;
            assert_eq!(
                (refused.status, &refused.json["code"]),
                (503, &"service_unavailable".into()),
                "{refused:?}"
            );
            assert_eq!(world.sim.follow(&redirect).await?.status, 503, "{outage}");
            let ready = world.api.raw(|http, base| http.get(format!("{base}/readyz"))).await?;
            assert_eq!(ready.status, 200, "{outage}: what needs no broker is served: {ready:?}");
            let health = world.api.raw(|http, base| http.get(format!("{base}/health"))).await?;
            assert_eq!(
                (health.status, &health.json["status"]),
                (200, &"degraded".into()),
                "{outage}: {health:?}"
            );
            let bus = health.part("bus");
            assert_eq!(bus["state"], "failing", "{outage}: {health:?}");
            assert!(bus["since"].is_string() && bus["reason"].is_string(), "{outage}: {health:?}");
        }
        world.broker_proxy.resume();
        // People follow the message: click again, reload the page.
        click_until_taken(&world, &clicked, "cancel").await.context(outage)?;
        assert_eq!(
            world.api.session(clicked.session_id, 30).await?.state,
            SessionState::Rejected,
            "{outage}"
        );
        world.shows(&clicked, "grey").await?;
        eventually(TIMEOUT, async || Ok((world.sim.follow(&redirect).await?.status == 200).then_some(())))
            .await?;
        assert_eq!(
            world.api.session(followed.session_id, 30).await?.state,
            SessionState::Completed,
            "{outage}"
        );
    }
    assert_eq!(world.sim.messages_for(&world.person(2)).len(), 0, "a refused invitation sends no card");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_killed_under_load_loses_no_acknowledged_click() -> anyhow::Result<()> {
    const PEOPLE: usize = 60;
    let mut world =
        World::start(Options { sim: SimConfig::default().with_users(60), ..Options::default() }).await?;
    let asked = try_join_all((0..PEOPLE).map(async |n| world.ask(n).await)).await?;
    let gateway = world.take(Kind::Gateway)?;
    // Each a little later than the one before, so that the kill interrupts publishes at every stage.
    let clicks = join_all(asked.iter().enumerate().map(async |(n, asked)| {
        tokio::time::sleep(Duration::from_millis(4 * u64::try_from(n)?)).await;
        Ok::<_, anyhow::Error>(world.sim.click(&asked.message_id, "cancel", &asked.person).await?)
    }));
    let killed = async {
        eventually(TIMEOUT, async || Ok((world.sim.stats().answers >= 15).then_some(()))).await?;
        gateway.kill().await
    };
    let (clicks, killed) = tokio::join!(clicks, killed);
    killed?;
    let clicks = clicks.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let taken: Vec<_> = clicks.iter().map(|click| click.answered && !is_try_again(click)).collect();
    let number = taken.iter().filter(|taken| **taken).count();
    assert!((15..PEOPLE).contains(&number), "{number} of {PEOPLE} were answered before the end");

    world.start_service(Kind::Gateway, &[]).await?;
    for (asked, taken) in asked.iter().zip(taken) {
        if !taken {
            // The person saw an error and clicks again.
            click_until_taken(&world, asked, "cancel").await?;
        }
        assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Rejected);
        world.shows(asked, "grey").await?;
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_killed_between_exchange_and_commit_completes_session() -> anyhow::Result<()> {
    let mut world = World::start(Options::default()).await?;
    let asked = world.ask(0).await?;
    world.sim.faults().push(Fault::at(Endpoint::UserInfo, Effect::Hang));
    let redirect = world.consent(&asked).await?;
    let page = world.sim.follow(&redirect).await?;
    assert_eq!(page.status, 202, "it says that it is worked on: {page:?}");
    assert_eq!(world.sim.stats().calls(Endpoint::UserInfo), 1, "the worker is in the middle of it");
    world.take(Kind::AuthWorker)?.kill().await?;
    world.start_service(Kind::AuthWorker, &[]).await?;

    world.expire_claims().await?;
    let session = world.api.session(asked.session_id, 50).await?;
    assert_eq!((session.state, session.failure_reason), (SessionState::Completed, None));
    assert_eq!(world.sim.stats().calls(Endpoint::TokenCode), 1, "the code was not used again");
    assert_eq!(world.api.token(world.app_id(), &asked.person).await?.status, 200);
    world.shows(&asked, "green").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_killed_during_exchange_fails_session() -> anyhow::Result<()> {
    let mut world = World::start(Options::default()).await?;
    let asked = world.ask(0).await?;
    world.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Hang));
    let redirect = world.consent(&asked).await?;
    assert_eq!(world.sim.follow(&redirect).await?.status, 202);
    assert_eq!(world.sim.stats().calls(Endpoint::TokenCode), 1, "the worker is in the middle of it");
    world.take(Kind::AuthWorker)?.kill().await?;
    world.start_service(Kind::AuthWorker, &[]).await?;

    // Once for the claim, once more for an escrow on its way.
    let session = eventually(TIMEOUT, async || {
        world.expire_claims().await?;
        let session = world.api.session(asked.session_id, 1).await?;
        Ok((session.state != SessionState::Pending).then_some(session))
    })
    .await?;
    assert_eq!(
        (session.state, session.failure_reason),
        (SessionState::Failed, Some(FailureReason::ExchangeOutcomeUnknown))
    );
    assert_eq!(world.sim.stats().calls(Endpoint::TokenCode), 1, "the code was not used again");
    assert_eq!(world.api.token(world.app_id(), &asked.person).await?.status, 404);
    world.shows(&asked, "red").await?;
    try_again(&world, &asked).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_without_worker_are_handled_by_the_next() -> anyhow::Result<()> {
    const PEOPLE: usize = 12;
    let mut world =
        World::start(Options { sim: SimConfig::default().with_users(25), ..Options::default() }).await?;
    let asked = try_join_all((0..PEOPLE).map(async |n| world.ask(n).await)).await?;
    world.take(Kind::AuthWorker)?.kill().await?;

    let pages = try_join_all(asked.iter().map(async |asked| {
        let redirect = world.consent(asked).await?;
        anyhow::Ok(world.sim.follow(&redirect).await?)
    }))
    .await?;
    assert!(pages.iter().all(|page| page.status == 202), "{pages:?}");
    let later =
        try_join_all((PEOPLE..20).map(async |n| world.api.invite(world.app_id(), &world.person(n)).await))
            .await?;
    world.start_service(Kind::AuthWorker, &[]).await?;

    for asked in &asked {
        assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Completed);
        world.shows(asked, "green").await?;
    }
    for (n, session) in (PEOPLE..20).zip(&later) {
        world.card(&world.person(n), &session.session_id.to_string()).await?;
    }
    assert_eq!(world.sim.messages().len(), 20, "one card each");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_on_sigterm_finishes_current_message() -> anyhow::Result<()> {
    let mut world = World::start(Options::default()).await?;
    let asked = world.ask(0).await?;
    let redirect = world.consent(&asked).await?;
    world.sim.faults().push(Fault::at(Endpoint::UserInfo, Effect::LateAnswer(2000)));
    let worker = world.take(Kind::AuthWorker)?;
    let stopped = async {
        eventually(TIMEOUT, async || Ok((world.sim.stats().calls(Endpoint::UserInfo) == 1).then_some(())))
            .await?;
        worker.terminate().await
    };
    let (page, stopped) = tokio::join!(world.sim.follow(&redirect), stopped);
    let (status, output) = stopped?;
    assert!(status.success(), "{status}:\n{output}");
    assert!(matches!(page?.status, 200 | 202));
    assert_eq!(world.api.session(asked.session_id, 0).await?.state, SessionState::Completed, "\n{output}");
    assert_eq!(world.api.token(world.app_id(), &asked.person).await?.status, 200);
    world.start_service(Kind::AuthWorker, &[]).await?;
    world.shows(&asked, "green").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn card_update_refused_is_repeated_later_or_abandoned() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    // Refused for a while: three rounds, each repeated twice by the client.
    let asked = world.ask(0).await?;
    world
        .sim
        .faults()
        .push(Fault::at(Endpoint::MessageUpdate, Effect::Answer { status: 503, code: 0 }).times(6));
    world.sim.faults().push(Fault::at(Endpoint::MessageUpdate, Effect::LostAnswer).times(3));
    world.sim.follow(&world.consent(&asked).await?).await?;
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Completed);
    world.shows(&asked, "green").await?;
    eventually(TIMEOUT, async || Ok(world.sim.faults().list().is_empty().then_some(()))).await?;
    world.quiet().await?;

    // Recalled and deleted messages cannot be updated, so the retries end.
    let (recalled, deleted) = (world.ask(1).await?, world.ask(2).await?);
    let before = world.sim.stats().calls(Endpoint::MessageUpdate);
    let redirects = [world.consent(&recalled).await?, world.consent(&deleted).await?];
    world.sim.recall(&recalled.message_id)?;
    world.sim.delete_message(&deleted.message_id)?;
    for redirect in redirects {
        world.sim.follow(&redirect).await?;
    }
    for asked in [&recalled, &deleted] {
        assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Completed);
    }
    world.quiet().await?;
    assert_eq!(world.sim.stats().calls(Endpoint::MessageUpdate) - before, 2);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_slower_than_answer_budget_updates_card_afterwards() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    let (cancelled, authorized) = (world.ask(0).await?, world.ask(1).await?);
    let worker =
        world.services.iter().find(|service| service.kind == Kind::AuthWorker).context("a worker")?;
    worker.signal("STOP")?;
    let (cancel, authorize) = tokio::join!(
        world.sim.click(&cancelled.message_id, "cancel", &cancelled.person),
        world.sim.click(&authorized.message_id, "authorize", &authorized.person),
    );
    worker.signal("CONT")?;
    for click in [cancel?, authorize?] {
        assert!(click.answered && click.elapsed < CALLBACK_DEADLINE && !click.card_changed, "{click:?}");
        assert_eq!(click.toast.as_ref().context("a toast")?["type"], "info", "{click:?}");
    }
    assert_eq!(world.api.session(cancelled.session_id, 30).await?.state, SessionState::Rejected);
    let card = world.shows(&cancelled, "grey").await?;
    assert_eq!(card.faces.len(), 2, "its face changed once: {:?}", card.faces);
    completes(&world, &authorized).await?;
    world.finish().await
}

/// The person clicks "try again": a new invitation on the same card, which completes.
pub(crate) async fn try_again(world: &World, asked: &Asked) -> anyhow::Result<()> {
    let click = world.sim.click(&asked.message_id, "retry", &asked.person).await?;
    ensure!(click.answered && click.card_changed, "{click:?}");
    let path = format!("/v1/auth/sessions?open_id={}&state=pending", asked.person);
    let open = world.api.send(reqwest::Method::GET, &path, None).await?;
    let id = open.json["items"][0]["session_id"].as_str().context("a new session")?;
    let again = Asked { session_id: id.parse()?, ..asked.clone() };
    ensure!(again.session_id != asked.session_id);
    completes(world, &again).await
}

/// Consents; the session must complete, the card turn green, and the token be there.
pub(crate) async fn completes(world: &World, asked: &Asked) -> anyhow::Result<()> {
    let page = world.sim.follow(&world.consent(asked).await?).await?;
    ensure!(matches!(page.status, 200 | 202), "{page:?}");
    let session = world.api.session(asked.session_id, 45).await?;
    ensure!(session.state == SessionState::Completed, "{session:?}\n{}", world.outputs());
    world.shows(asked, "green").await?;
    let token = world.api.token(world.app_id(), &asked.person).await?;
    ensure!(token.status == 200, "{token:?}");
    Ok(())
}

/// Whether the person was asked to click again.
pub(crate) fn is_try_again(click: &ClickOutcome) -> bool {
    click
        .toast
        .as_ref()
        .is_some_and(|toast| toast["type"] == "warning" && toast.to_string().contains("again"))
}

/// Clicks repeatedly while the answer is "please try again".
async fn click_until_taken(world: &World, asked: &Asked, button: &str) -> anyhow::Result<()> {
    eventually(TIMEOUT, async || {
        match world.sim.click(&asked.message_id, button, &asked.person).await {
            Ok(click) => Ok((click.answered && !is_try_again(&click)).then_some(())),
            // An earlier click had its effect after all, and the button is gone.
            Err(larkauth_lark_sim::SimError::NoButton) => Ok(Some(())),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
