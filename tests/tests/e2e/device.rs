//! The device flow over real services: no redirect reaches them.

use std::time::Duration;

use anyhow::{Context, ensure};
use larkauth_lark_sim::{Effect, Endpoint, Fault, Lifetimes, Message, SimConfig};
use larkauth_models::{FailureReason, SessionState};
use larkauth_tests::{Kind, Options, TIMEOUT, World, eventually};
use reqwest::Url;

/// A world whose Lark is polled each second, and that Lark cannot redirect a browser to.
async fn world(lifetimes: Lifetimes) -> anyhow::Result<World> {
    let lifetimes = Lifetimes { device_interval: Duration::from_secs(1), ..lifetimes };
    let sim = SimConfig { lifetimes, ..SimConfig::default() }.with_users(3);
    let env = vec![("OAUTH_REDIRECT_URI", "http://127.0.0.1:9/oauth/callback".to_owned())];
    World::start(Options { sim, env, ..Options::default() }).await
}

/// Returns the user code in the address that the card's button opens.
fn user_code(card: &Message) -> anyhow::Result<String> {
    let url = card.buttons().into_iter().find_map(|button| button.url).context("the card has no link")?;
    let url = Url::parse(&url)?;
    let code = url.query_pairs().find(|(name, _)| name == "user_code").map(|(_, code)| code.into_owned());
    code.context("the address has no user code")
}

fn polls(world: &World) -> u64 {
    world.sim.stats().calls(Endpoint::TokenDevice)
}

#[tokio::test(flavor = "multi_thread")]
async fn device_flow_stores_token_through_a_restart_of_the_poller() -> anyhow::Result<()> {
    let mut world = world(Lifetimes::default()).await?;
    world.start_service(Kind::TokenRefresher, &[]).await?;
    let person = world.person(0);
    let session = world.api.invite_by("device_code", world.app_id(), &person).await?;
    let card = world.card(&person, "authorize").await?;
    let code = user_code(&card)?;
    let click = world.sim.click(&card.message_id, "authorize", &person).await?;
    assert!(click.answered && click.card_changed && click.error.is_none(), "{click:?}");
    eventually(TIMEOUT, async || Ok((polls(&world) >= 2).then_some(()))).await?;

    // Both pollers end, one of them in the middle of a poll.
    world.sim.faults().push(Fault::at(Endpoint::TokenDevice, Effect::Hang).until_cleared());
    let before = polls(&world);
    eventually(TIMEOUT, async || Ok((polls(&world) > before).then_some(()))).await?;
    for _ in 0..2 {
        world.take(Kind::TokenRefresher)?.kill().await?;
    }
    world.sim.faults().clear();
    assert!(world.sim.decide_device(&code, Some(&person))?);
    world.start_service(Kind::TokenRefresher, &[]).await?;
    // As if the life of the claim had passed, and then the wait for its escrow.
    world.expire_claims().await?;
    let mut database = world.database.connection().await;
    let waits = "select count(*) from user_auth_sessions where exchange_unanswered_at is not null";
    let waiting = eventually(TIMEOUT, async || {
        let count: i64 = sqlx::query_scalar(waits).fetch_one(&mut database).await?;
        Ok((count == 1).then_some(()))
    });
    waiting.await.with_context(|| world.outputs())?;
    world.expire_claims().await?;
    let ended = world.api.session(session.session_id, 30).await?;
    ensure!(ended.state == SessionState::Completed, "{ended:?}\n{}", world.outputs());
    assert_eq!(world.api.token(world.app_id(), &person).await?.status, 200);
    world.card(&person, "\"green\"").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn device_flow_ends_like_every_other() -> anyhow::Result<()> {
    let world = world(Lifetimes::default()).await?;
    let (declines, mistaken, cancels) = (world.person(0), world.person(1), world.person(2));
    let mut asked = Vec::new();
    for person in [&declines, &mistaken, &cancels] {
        let session = world.api.invite_by("device_code", world.app_id(), person).await?;
        let card = world.card(person, "authorize").await?;
        asked.push((session.session_id, card));
    }
    let [(declined, first), (mismatched, second), (cancelled, third)] = &asked[..] else {
        anyhow::bail!("three people")
    };
    world.sim.click(&first.message_id, "authorize", &declines).await?;
    assert!(world.sim.decide_device(&user_code(first)?, None)?);
    world.sim.click(&second.message_id, "authorize", &mistaken).await?;
    assert!(world.sim.decide_device(&user_code(second)?, Some(&declines))?);
    assert!(world.sim.click(&third.message_id, "cancel", &cancels).await?.card_changed);

    assert_eq!(world.api.session(declined, 30).await?.state, SessionState::Rejected);
    let mismatched = world.api.session(mismatched, 30).await?;
    assert_eq!(mismatched.failure_reason, Some(FailureReason::IdentityMismatch));
    assert_eq!(world.api.session(cancelled, 30).await?.state, SessionState::Rejected);
    world.card(&declines, "\"grey\"").await?;
    world.card(&mistaken, "\"red\"").await?;
    for n in 0..3 {
        assert_eq!(world.api.token(world.app_id(), &world.person(n)).await?.status, 404);
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn device_codes_that_expire_are_renewed_on_the_card() -> anyhow::Result<()> {
    let world = world(Lifetimes { device: Duration::from_secs(4), ..Lifetimes::default() }).await?;
    let person = world.person(0);
    let session = world.api.invite_by("device_code", world.app_id(), &person).await?;
    let first = user_code(&world.card(&person, "authorize").await?)?;
    // The person looks at the card and agrees, unless it shows the first codes. A code may expire before the next poll.
    let completed = eventually(2 * TIMEOUT, async || {
        let session = world.api.session(session.session_id, 0).await?;
        ensure!(session.state != SessionState::Failed, "{session:?}");
        if session.state == SessionState::Completed {
            return Ok(Some(()));
        }
        let code = user_code(&world.card(&person, "authorize").await?)?;
        if code != first {
            world.sim.decide_device(&code, Some(&person))?;
        }
        Ok(None)
    });
    completed.await.with_context(|| world.outputs())?;
    world.finish().await
}
