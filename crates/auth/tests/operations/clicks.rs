//! Clicks on a card: only the person who was asked changes anything, and the same click never twice.

use std::time::Duration;

use larkauth_contracts::message::{CardActionKind, CardFaceRequested, SessionEnded};
use larkauth_lark_sim::Endpoint;
use larkauth_messaging::Verdict;
use larkauth_models::{CardFace, OpenId, Person, SessionState, TokenApi, TokenKind, UserId};

use crate::fixture::{Setup, Stage, delivery, reply, seen};

#[tokio::test]
async fn authorize_shows_processing_and_keeps_the_button() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let reply = reply(stage.deliver(stage.click(&invited, CardActionKind::Authorize)).await);

    assert_eq!(reply.shows, Some((invited.session_id, CardFace::Processing)));
    assert_eq!(seen(&reply).1.as_deref(), Some("blue"));
    let answer = reply.answer.unwrap().to_string();
    assert!(answer.contains("open_url") && answer.contains(r#""action":"authorize""#), "{answer}");
    assert_eq!(stage.session(invited.session_id).await.state, SessionState::Pending);
    assert_eq!(stage.bus.left(), [""; 0], "nothing has ended");
}

#[tokio::test]
async fn cancel_ends_the_session_and_the_answer_shows_it() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let click = stage.click(&invited, CardActionKind::Cancel);
    let first = reply(stage.deliver(click.clone()).await);

    assert_eq!(first.shows, Some((invited.session_id, CardFace::Declined)));
    assert_eq!(seen(&first).1.as_deref(), Some("grey"));
    assert_eq!(stage.session(invited.session_id).await.state, SessionState::Rejected);
    let ended = stage.bus.take::<SessionEnded>();
    assert_eq!((ended.data.state, ended.data.card_answer_pending), (SessionState::Rejected, true));

    // The same event again, and another click on what is over: the same answer, no second effect.
    for again in [click, stage.click(&invited, CardActionKind::Authorize)] {
        assert_eq!(seen(&reply(stage.deliver(again).await)), seen(&first));
    }
    assert_eq!(stage.bus.left(), [""; 0]);
}

#[tokio::test]
async fn a_worker_that_died_before_the_announcement_is_made_up_for() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let click = stage.click(&invited, CardActionKind::Cancel);
    // The first worker ended the session and died: no announcement, no record of the event.
    let ending = larkauth_storage::SessionEnding::Rejected;
    assert!(stage.parts.store.end_session(invited.session_id, ending, stage.context.now()).await.unwrap());

    let mut again = delivery(&click);
    again.redelivered = true;
    reply(stage.handle(again).await);
    assert_eq!(stage.bus.take::<SessionEnded>().data.state, SessionState::Rejected);
}

#[tokio::test]
async fn somebody_else_changes_nothing() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    for action in [CardActionKind::Authorize, CardActionKind::Cancel, CardActionKind::Retry] {
        let mut click = stage.click(&invited, action);
        click.data.operator_open_id = stage.person(1);
        let reply = reply(stage.deliver(click).await);
        assert_eq!((reply.shows, seen(&reply).1), (None, None), "a toast and nothing else");
        assert!(
            seen(&reply).0.contains("somebody else") || seen(&reply).0.contains("someone else"),
            "{reply:?}"
        );
    }
    assert_eq!(stage.session(invited.session_id).await.state, SessionState::Pending);
    assert_eq!(stage.bus.left(), [""; 0]);
}

#[tokio::test]
async fn a_person_known_by_user_id_is_recognised_by_it() {
    let stage = Stage::new().await;
    let user_id = UserId::new(stage.sim.users()[0].user_id.clone().unwrap()).unwrap();
    let person = Person { open_id: None, user_id: Some(user_id.clone()) };
    let invited = stage.invited_as(0, person).await;

    let mut stranger = stage.click(&invited, CardActionKind::Cancel);
    stranger.data.operator_user_id = Some(UserId::new("another").unwrap());
    assert_eq!(reply(stage.deliver(stranger).await).shows, None);
    let mut nameless = stage.click(&invited, CardActionKind::Cancel);
    nameless.data.operator_user_id = None;
    let unclear = reply(stage.deliver(nameless).await);
    assert_eq!(unclear.shows, None);
    assert!(seen(&unclear).0.contains("not set up correctly"), "nobody is called somebody else: {unclear:?}");
    assert_eq!(stage.session(invited.session_id).await.person.open_id, None);

    let mut click = stage.click(&invited, CardActionKind::Authorize);
    click.data.operator_user_id = Some(user_id);
    assert_eq!(reply(stage.deliver(click).await).shows.unwrap().1, CardFace::Processing);
    assert_eq!(stage.session(invited.session_id).await.person.open_id, Some(invited.open_id));
}

#[tokio::test]
async fn a_click_after_the_end_of_time_expires_the_session() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    stage.clock.advance(Duration::from_secs(600));
    let reply = reply(stage.deliver(stage.click(&invited, CardActionKind::Authorize)).await);
    assert_eq!(reply.shows, Some((invited.session_id, CardFace::Expired)));
    assert_eq!(stage.session(invited.session_id).await.state, SessionState::Expired);
    assert_eq!(stage.bus.take::<SessionEnded>().data.state, SessionState::Expired);
}

#[tokio::test]
async fn a_click_in_time_counts_even_if_it_is_handled_late() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    stage.clock.advance(Duration::from_secs(599));
    let click = stage.click(&invited, CardActionKind::Cancel);
    stage.clock.advance(Duration::from_secs(30));
    reply(stage.deliver(click).await);
    assert_eq!(stage.session(invited.session_id).await.state, SessionState::Rejected);
}

#[tokio::test]
async fn a_card_of_no_known_session_says_so() {
    let stage = Stage::new().await;
    let mut invited = stage.invited(0).await;
    invited.session_id = larkauth_models::SessionId(uuid::Uuid::from_u128(7));
    let reply = reply(stage.deliver(stage.click(&invited, CardActionKind::Authorize)).await);
    assert_eq!((reply.shows, seen(&reply).1), (None, None));
}

#[tokio::test]
async fn retry_goes_on_with_the_same_card_and_one_new_session() {
    let stage = Stage::new().await;
    let old = stage.invited(0).await;
    stage.clock.advance(Duration::from_secs(600));
    stage.context.expire_sessions().await.unwrap();
    stage.bus.take::<SessionEnded>();

    let click = stage.click(&old, CardActionKind::Retry);
    let first = reply(stage.deliver(click.clone()).await);
    let (session_id, face) = first.shows.unwrap();
    assert!(session_id != old.session_id && face == CardFace::Invitation);
    let session = stage.session(session_id).await;
    assert_eq!((session.state, session.message_id.as_ref()), (SessionState::Pending, Some(&old.message_id)));
    assert_eq!(stage.session(old.session_id).await.message_id, None, "the card has changed hands");
    let (request, later) = stage.bus.take_delayed::<CardFaceRequested>();
    assert_eq!((request.data.session_id, later.is_some()), (session_id, true));

    // Delivered again before and after it was noted as handled: the same session.
    let mut again = delivery(&click);
    again.redelivered = true;
    assert_eq!(reply(stage.handle(again).await).shows.unwrap().0, session_id);
    let all = stage.parts.store.list_sessions(&Default::default(), None, 10).await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(stage.sim.stats().calls(Endpoint::MessageSend), 1, "no second card is sent");
}

#[tokio::test]
async fn retry_is_limited_like_any_invitation() {
    let stage = Stage::with(Setup { limit: 1, ..Setup::default() }).await;
    let old = stage.invited(0).await;
    reply(stage.deliver(stage.click(&old, CardActionKind::Cancel)).await);
    let ending = stage.bus.take::<SessionEnded>();
    assert_eq!(ending.data.state, SessionState::Rejected);

    let refused = reply(stage.deliver(stage.click(&old, CardActionKind::Retry)).await);
    assert_eq!((refused.shows, seen(&refused).1), (None, None));
    let all = stage.parts.store.list_sessions(&Default::default(), None, 10).await.unwrap();
    assert_eq!(all.len(), 1);

    stage.clock.advance(Duration::from_secs(61));
    let granted = reply(stage.deliver(stage.click(&old, CardActionKind::Retry)).await);
    assert_eq!(granted.shows.unwrap().1, CardFace::Invitation);
}

#[tokio::test]
async fn retry_on_a_card_that_is_not_over_changes_nothing() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let reply = reply(stage.deliver(stage.click(&invited, CardActionKind::Retry)).await);
    assert_eq!(reply.shows, Some((invited.session_id, CardFace::Processing)));
    assert_eq!(stage.bus.left(), [""; 0]);
}

#[tokio::test]
async fn nobody_is_asked_again_for_a_frozen_application() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    reply(stage.deliver(stage.click(&invited, CardActionKind::Cancel)).await);
    stage.open_breaker("the secret is wrong").await;
    let reply = reply(stage.deliver(stage.click(&invited, CardActionKind::Retry)).await);
    assert_eq!((reply.shows, seen(&reply).1), (None, None));
}

async fn a_code_inside_the_callback(token_api: TokenApi, endpoint: Endpoint) {
    let stage = Stage::with(Setup { token_api, ..Setup::default() }).await;
    let invited = stage.invited(0).await;
    let code = stage.card_code(&invited).await;
    let mut click = stage.click(&invited, CardActionKind::Authorize);
    click.data.code = Some(stage.sealed(invited.session_id, &code));
    let first = reply(stage.deliver(click.clone()).await);

    assert_eq!(first.shows, Some((invited.session_id, CardFace::Done)));
    assert_eq!(seen(&first).1.as_deref(), Some("green"));
    let ended = stage.bus.take::<SessionEnded>();
    assert_eq!((ended.data.state, ended.data.card_answer_pending), (SessionState::Completed, true));
    let token = stage.parts.store.token(&stage.app_id(), &invited.open_id, TokenKind::User).await.unwrap();
    assert_eq!(token.unwrap().generation, 1);
    assert_eq!(seen(&reply(stage.deliver(click).await)), seen(&first));
    assert_eq!(stage.sim.stats().calls(endpoint), 1, "a code is used once");
    assert_eq!(stage.sim.violations(), []);
}

#[tokio::test]
async fn a_code_inside_the_callback_is_exchanged_with_the_current_endpoint() {
    a_code_inside_the_callback(TokenApi::V2, Endpoint::TokenCode).await;
}

#[tokio::test]
async fn a_code_inside_the_callback_is_exchanged_with_the_historical_endpoint() {
    a_code_inside_the_callback(TokenApi::V1, Endpoint::OidcCode).await;
}

#[tokio::test]
async fn what_is_no_click_is_dead_at_once() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let good = delivery(&stage.click(&invited, CardActionKind::Authorize));
    for body in ["", "{}", "[]", "{\"type\":\"larkauth.card.action_triggered.v1\"}", "\u{0}\u{1}"] {
        let mut poison = good.clone();
        poison.body = body.to_owned().into();
        assert!(matches!(stage.handle(poison).await, Verdict::Dead { .. }), "{body}");
    }
    let text = String::from_utf8(good.body.to_vec()).unwrap();
    for (from, to) in [
        ("action_triggered.v1", "action_triggered.v2"),
        ("\"authorize\"", "\"delete\""),
        (invited.open_id.as_str(), "not an id!"),
    ] {
        let mut poison = good.clone();
        poison.body = text.replace(from, to).into();
        let Verdict::Dead { reason } = stage.handle(poison).await else { panic!("{to} is not dead") };
        assert!(!reason.contains(OpenId::as_str(&invited.open_id)), "{reason}");
    }
}

#[tokio::test]
async fn a_code_sealed_for_another_session_is_dead() {
    let stage = Stage::new().await;
    let (invited, other) = (stage.invited(0).await, stage.invited(1).await);
    let code = stage.card_code(&other).await;
    let mut click = stage.click(&invited, CardActionKind::Authorize);
    click.data.code = Some(stage.sealed(other.session_id, &code));
    assert!(matches!(stage.deliver(click).await, Verdict::Dead { .. }));
    assert_eq!(stage.sim.stats().calls(Endpoint::TokenCode), 0);
}
