//! Refusals and silences of Lark while a code is exchanged, and the way back.

use anyhow::{Context, ensure};
use larkauth_lark_sim::{Effect, Endpoint, Fault, SimConfig, SimUser};
use larkauth_models::{FailureReason, SessionState};
use larkauth_tests::{Asked, Kind, Options, TIMEOUT, World, eventually};
use serde_json::json;

use crate::recovery::{completes, is_try_again, try_again};

#[tokio::test(flavor = "multi_thread")]
async fn exchange_refused_by_lark_fails_session_and_allows_retry() -> anyhow::Result<()> {
    let world =
        World::start(Options { sim: SimConfig::default().with_users(7), ..Options::default() }).await?;
    for (n, (status, code, reason)) in [
        (400, 20003, FailureReason::CodeInvalid),
        (400, 20004, FailureReason::CodeInvalid),
        (400, 20065, FailureReason::CodeInvalid),
        (400, 20024, FailureReason::CodeInvalid),
        (400, 20008, FailureReason::UserUnavailable),
        (400, 20010, FailureReason::UserUnavailable),
        (400, 20049, FailureReason::AppMisconfigured),
    ]
    .into_iter()
    .enumerate()
    {
        let asked = world.ask(n).await?;
        fails_with(&world, &asked, &[Effect::Answer { status, code }], reason)
            .await
            .with_context(|| code.to_string())?;
        try_again(&world, &asked).await.with_context(|| code.to_string())?;
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn exchange_without_answer_fails_session_and_allows_retry() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    for effect in [
        Effect::Cut,
        Effect::LostAnswer,
        Effect::MalformedBody,
        Effect::Answer { status: 502, code: 0 },
        Effect::Hang,
    ] {
        let asked = world.ask(0).await?;
        let codes = world.sim.stats().calls(Endpoint::TokenCode);
        let named = format!("{effect:?}");
        fails_with(&world, &asked, &[effect], FailureReason::ExchangeOutcomeUnknown)
            .await
            .context(named.clone())?;
        assert_eq!(
            world.sim.stats().calls(Endpoint::TokenCode) - codes,
            1,
            "{named}: a code that may be used up is not repeated"
        );
        try_again(&world, &asked).await.context(named)?;
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn exchange_with_busy_lark_completes_later() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    for effects in [
        [Effect::Answer { status: 500, code: 20050 }, Effect::Answer { status: 503, code: 20072 }],
        [Effect::TooManyRequests(1), Effect::TooManyRequests(2)],
    ] {
        let asked = world.ask(1).await?;
        for effect in effects {
            world.sim.faults().push(Fault::at(Endpoint::TokenCode, effect));
        }
        completes(&world, &asked).await?;
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn user_info_with_transient_errors_is_retried_and_needs_few_fields() -> anyhow::Result<()> {
    let users = vec![SimUser::numbered(1), SimUser::numbered(2).without_contact_data()];
    let world =
        World::start(Options { sim: SimConfig { users, ..SimConfig::default() }, ..Options::default() })
            .await?;
    for effects in [
        vec![Effect::Cut, Effect::LostAnswer, Effect::MalformedBody],
        vec![
            Effect::TooManyRequests(1),
            Effect::Answer { status: 500, code: 0 },
            Effect::Answer { status: 200, code: 77 },
        ],
    ] {
        let asked = world.ask(0).await?;
        for effect in effects {
            world.sim.faults().push(Fault::at(Endpoint::UserInfo, effect));
        }
        completes(&world, &asked).await?;
    }
    for (status, code, reason) in [
        (200, 20021, FailureReason::UserUnavailable),
        (200, 20008, FailureReason::UserUnavailable),
        (200, 20005, FailureReason::UpstreamUnavailable),
    ] {
        let asked = world.ask(0).await?;
        world.sim.faults().push(Fault::at(Endpoint::UserInfo, Effect::Answer { status, code }));
        fails_with(&world, &asked, &[], reason).await?;
        try_again(&world, &asked).await?;
    }
    // Neither mail nor mobile nor user id.
    let asked = world.ask(1).await?;
    completes(&world, &asked).await?;
    assert_eq!(world.api.session(asked.session_id, 0).await?.user_id, None);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_of_refused_application_stops_invitations_until_repaired() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    let asked = world.ask(0).await?;
    fails_with(
        &world,
        &asked,
        &[Effect::Answer { status: 400, code: 20002 }],
        FailureReason::AppMisconfigured,
    )
    .await?;

    // The gateway caches an application for some seconds. No card is sent during that time either.
    let cards = world.sim.messages().len();
    let body = json!({"app_id": world.app_id(), "open_id": world.person(1)});
    let refused = eventually(TIMEOUT, async || {
        let answer = world.api.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body.clone())).await?;
        Ok((answer.status != 201).then_some(answer))
    })
    .await?;
    assert_eq!((refused.status, &refused.json["code"]), (503, &"app_frozen".into()), "{refused:?}");
    assert!(refused.retry_after.is_some());
    world.quiet().await?;
    assert_eq!(world.sim.messages().len(), cards, "no card was sent");
    let open = world.api.send(reqwest::Method::GET, "/v1/auth/sessions?state=pending", None).await?;
    assert_eq!(open.json["items"], json!([]), "no session is left pending");
    let click = world.sim.click(&asked.message_id, "retry", &asked.person).await?;
    assert!(is_try_again(&click), "{click:?}");

    // An operator corrects the application and registers it again, as a restart does.
    let mut world = world;
    world.start_service(Kind::AuthWorker, &[]).await?;
    eventually(TIMEOUT, async || {
        let answer = world.api.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body.clone())).await?;
        Ok((answer.status == 201).then_some(()))
    })
    .await?;
    world.card(&world.person(1), "authorize").await?;
    world.finish().await
}

/// Consents while these faults wait at the token endpoint; the session must fail so, be stored nowhere, and its card
/// must offer to try again.
async fn fails_with(
    world: &World,
    asked: &Asked,
    faults: &[Effect],
    reason: FailureReason,
) -> anyhow::Result<()> {
    let before = world.api.token(world.app_id(), &asked.person).await?;
    for effect in faults {
        world.sim.faults().push(Fault::at(Endpoint::TokenCode, effect.clone()));
    }
    let page = world.sim.follow(&world.consent(asked).await?).await?;
    ensure!(matches!(page.status, 202 | 400), "{page:?}");
    let session = world.api.session(asked.session_id, 30).await?;
    ensure!((session.state, session.failure_reason) == (SessionState::Failed, Some(reason)), "{session:?}");
    let after = world.api.token(world.app_id(), &asked.person).await?;
    ensure!(
        (before.status, &before.json["generation"]) == (after.status, &after.json["generation"]),
        "{after:?}"
    );
    world.shows(asked, "red").await?;
    let buttons = world.sim.message(&asked.message_id).context("the card")?.buttons();
    ensure!(buttons.iter().any(|button| button.is_called("retry")), "{buttons:?}");
    Ok(())
}
