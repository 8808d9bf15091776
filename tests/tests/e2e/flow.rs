//! The main job, from card to token, and the ways it can end.

use anyhow::Context;
use larkauth_models::{FailureReason, SessionState};
use larkauth_tests::{Options, World};

#[tokio::test(flavor = "multi_thread")]
async fn authorization_from_card_stores_token() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    let person = world.person(0);
    let missing = world.api.token(world.app_id(), &person).await?;
    assert_eq!((missing.status, &missing.json["code"]), (404, &"authentication_required".into()));

    let session = world.api.invite(world.app_id(), &person).await?;
    assert_eq!(session.state, SessionState::Pending);
    let card = world.card(&person, "authorize").await?;
    let click = world.sim.click(&card.message_id, "authorize", &person).await?;
    assert!(click.answered && click.card_changed && click.error.is_none(), "{click:?}");
    let url = click.url.context("the authorize button opens the consent page")?;
    let redirect = world.sim.consent(&url, &person).await?;
    let page = world.sim.follow(&redirect).await?;
    assert_eq!(page.status, 200, "{page:?}");

    let session = world.api.session(session.session_id, 30).await?;
    assert_eq!(session.state, SessionState::Completed);
    assert!(session.user_name.is_some() && session.completed_at.is_some());
    world.card(&person, "\"green\"").await?;

    let token = world.api.token(world.app_id(), &person).await?;
    assert_eq!(token.status, 200, "{token:?}");
    let access_token = token.json["access_token"].as_str().context("a token")?.to_owned();
    assert!(world.sim.issued_secrets().contains(&access_token));

    // The same redirect again, as a reloaded page sends it, changes nothing and shows the same.
    let again = world.sim.follow(&redirect).await?;
    assert_eq!(again.status, 200);
    assert_eq!(
        world.api.token(world.app_id(), &person).await?.json["access_token"],
        token.json["access_token"]
    );
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_of_another_person_stores_nothing() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    let (asked, other) = (world.person(0), world.person(1));
    let session = world.api.invite(world.app_id(), &asked).await?;
    let card = world.card(&asked, "authorize").await?;
    let url = world.sim.click(&card.message_id, "authorize", &asked).await?.url.context("a link")?;
    let redirect = world.sim.consent(&url, &other).await?;
    world.sim.follow(&redirect).await?;

    let session = world.api.session(session.session_id, 30).await?;
    assert_eq!(
        (session.state, session.failure_reason),
        (SessionState::Failed, Some(FailureReason::IdentityMismatch))
    );
    for person in [&asked, &other] {
        assert_eq!(world.api.token(world.app_id(), person).await?.status, 404);
    }
    world.card(&asked, "\"red\"").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn decline_on_card_or_page_rejects_session() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    let (on_card, on_page) = (world.person(0), world.person(1));

    let session = world.api.invite(world.app_id(), &on_card).await?;
    let card = world.card(&on_card, "cancel").await?;
    let click = world.sim.click(&card.message_id, "cancel", &on_card).await?;
    assert!(click.card_changed, "the answer brings the final face: {click:?}");
    assert_eq!(world.api.session(session.session_id, 30).await?.state, SessionState::Rejected);

    let session = world.api.invite(world.app_id(), &on_page).await?;
    let card = world.card(&on_page, "authorize").await?;
    let url = world.sim.click(&card.message_id, "authorize", &on_page).await?.url.context("a link")?;
    let redirect = world.sim.decline(&url).await?;
    assert_eq!(world.sim.follow(&redirect).await?.status, 200);
    assert_eq!(world.api.session(session.session_id, 30).await?.state, SessionState::Rejected);
    world.card(&on_page, "grey").await?;
    world.finish().await
}
