//! Clicks on a card: only the person who was asked changes anything, and the same click never twice.

use std::time::Duration;

use larkauth_contracts::message::{
    AuthorizationDenied, CardActionKind, CardFaceRequested, InvitationRequested, Reply, SessionEnded,
};
use larkauth_lark_sim::Endpoint;
use larkauth_messaging::Disposition;
use larkauth_models::{AppId, CardFace, OpenId, Person, SessionState, TokenApi, TokenKind, UserId};

use crate::fixture::{ACTOR, Fixture, Setup, delivery, policy, reply, running, seen};
use larkauth_storage::testing::act;

#[tokio::test]
async fn authorize_keeps_button_and_shows_processing() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let reply = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Authorize)).await);

    assert_eq!(reply.shows, Some((invited.session_id, CardFace::Processing)));
    assert_eq!(seen(&reply).1.as_deref(), Some("blue"));
    let answer = reply.answer.unwrap().to_string();
    assert!(answer.contains("open_url") && answer.contains(r#""action":"authorize""#), "{answer}");
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);
    assert_eq!(fixture.bus.left(), [""; 0], "nothing has ended");
}

#[tokio::test]
async fn cancel_rejects_session_and_answer_shows_end() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let click = fixture.click(&invited, CardActionKind::Cancel);
    let first = reply(fixture.deliver(click.clone()).await);

    assert_eq!(first.shows, Some((invited.session_id, CardFace::Declined)));
    assert_eq!(seen(&first).1.as_deref(), Some("grey"));
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Rejected);
    let ended = fixture.bus.take::<SessionEnded>();
    assert_eq!((ended.data.state, ended.data.card_answer_pending), (SessionState::Rejected, true));

    // The same event again, and another click on what is over: the same answer, no second effect.
    for again in [click, fixture.click(&invited, CardActionKind::Authorize)] {
        assert_eq!(seen(&reply(fixture.deliver(again).await)), seen(&first));
    }
    assert_eq!(fixture.bus.left(), [""; 0]);
}

#[tokio::test]
async fn click_redelivered_after_crash_leaves_end_to_sweep() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let click = fixture.click(&invited, CardActionKind::Cancel);
    // The first worker ended the session and died: no announcement, no record of the event.
    let ending = larkauth_storage::SessionEnding::Rejected;
    assert!(
        fixture
            .parts
            .store
            .end_session(invited.session_id, ending, &act(fixture.context.now()))
            .await
            .unwrap()
    );

    let mut again = delivery(&click);
    again.redelivered = true;
    reply(fixture.handle(again).await);
    assert_eq!(fixture.bus.left(), [""; 0]);
    fixture.clock.advance(fixture.context.policy().announce_grace + Duration::from_secs(1));
    let now = fixture.context.now();
    assert_eq!(fixture.context.announce_ends(&ACTOR, now, &running()).await.unwrap(), 1);
    assert_eq!(fixture.bus.take::<SessionEnded>().data.state, SessionState::Rejected);
}

#[tokio::test]
async fn click_by_other_person_changes_nothing() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    for action in [CardActionKind::Authorize, CardActionKind::Cancel, CardActionKind::Retry] {
        let mut click = fixture.click(&invited, action);
        click.data.operator_open_id = fixture.person(1);
        let reply = reply(fixture.deliver(click).await);
        assert_eq!((reply.shows, seen(&reply).1), (None, None), "a toast and nothing else");
        assert!(seen(&reply).0.contains("another person"), "{reply:?}");
    }
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);
    assert_eq!(fixture.bus.left(), [""; 0]);
}

#[tokio::test]
async fn click_by_user_id_records_open_id() {
    let fixture = Fixture::new().await;
    let user_id = UserId::new(fixture.sim.users()[0].user_id.clone().unwrap()).unwrap();
    let person = Person { open_id: None, user_id: Some(user_id.clone()) };
    let invited = fixture.invited_as(0, person).await;

    let mut stranger = fixture.click(&invited, CardActionKind::Cancel);
    stranger.data.operator_user_id = Some(UserId::new("another").unwrap());
    assert_eq!(reply(fixture.deliver(stranger).await).shows, None);
    let mut nameless = fixture.click(&invited, CardActionKind::Cancel);
    nameless.data.operator_user_id = None;
    let unclear = reply(fixture.deliver(nameless).await);
    assert_eq!(unclear.shows, None);
    assert!(seen(&unclear).0.contains("not set up correctly"), "{unclear:?}");
    assert_eq!(fixture.session(invited.session_id).await.person.open_id, None);

    let mut click = fixture.click(&invited, CardActionKind::Authorize);
    click.data.operator_user_id = Some(user_id);
    assert_eq!(reply(fixture.deliver(click).await).shows.unwrap().1, CardFace::Processing);
    assert_eq!(fixture.session(invited.session_id).await.person.open_id, Some(invited.open_id));
}

#[tokio::test]
async fn click_after_expiry_expires_session() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    fixture.clock.advance(Duration::from_secs(600));
    let reply = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Authorize)).await);
    assert_eq!(reply.shows, Some((invited.session_id, CardFace::Expired)));
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Expired);
    assert_eq!(fixture.bus.take::<SessionEnded>().data.state, SessionState::Expired);
}

#[tokio::test]
async fn click_before_expiry_handled_late_counts() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    fixture.clock.advance(Duration::from_secs(599));
    let click = fixture.click(&invited, CardActionKind::Cancel);
    fixture.clock.advance(Duration::from_secs(30));
    reply(fixture.deliver(click).await);
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Rejected);
}

#[tokio::test]
async fn click_on_unknown_session_is_counted_and_told_to_the_person() {
    let fixture = Fixture::new().await;
    let mut invited = fixture.invited(0).await;
    invited.session_id = larkauth_models::SessionId(uuid::Uuid::from_u128(7));
    let reply = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Authorize)).await);
    assert_eq!((reply.shows, reply.unknown_session), (None, true));
    let (toast, colour) = seen(&reply);
    assert!(toast.contains("another program") && colour.is_none(), "{toast}");
    let metrics = fixture.context.metrics().render();
    assert!(
        metrics.contains("lark_service_unknown_session_clicks_total{app_id=\"cli_0123456789abcdef\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn retry_after_end_reuses_card_for_one_new_session() {
    let fixture = Fixture::new().await;
    let old = fixture.invited(0).await;
    fixture.clock.advance(Duration::from_secs(600));
    fixture.context.expire_sessions(&ACTOR, fixture.context.now(), &running()).await.unwrap();
    fixture.bus.take::<SessionEnded>();

    let click = fixture.click(&old, CardActionKind::Retry);
    let first = reply(fixture.deliver(click.clone()).await);
    let (session_id, face) = first.shows.unwrap();
    assert!(session_id != old.session_id && face == CardFace::Invitation);
    let session = fixture.session(session_id).await;
    assert_eq!((session.state, session.message_id.as_ref()), (SessionState::Pending, Some(&old.message_id)));
    assert_eq!(fixture.session(old.session_id).await.message_id, None, "the card has changed hands");
    let (request, later) = fixture.bus.take_delayed::<CardFaceRequested>();
    assert_eq!((request.data.session_id, later.is_some()), (session_id, true));

    // Delivered again before and after it was noted as handled: the same session.
    let mut again = delivery(&click);
    again.redelivered = true;
    assert_eq!(reply(fixture.handle(again).await).shows.unwrap().0, session_id);
    let all = fixture.parts.store.list_sessions(&Default::default(), None, 10).await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(fixture.sim.stats().calls(Endpoint::MessageSend), 1, "no second card is sent");
}

#[tokio::test]
async fn retry_over_limit_is_refused() {
    let fixture = Fixture::with(Setup { policy: policy(1), ..Setup::default() }).await;
    let old = fixture.invited(0).await;
    reply(fixture.deliver(fixture.click(&old, CardActionKind::Cancel)).await);
    let ending = fixture.bus.take::<SessionEnded>();
    assert_eq!(ending.data.state, SessionState::Rejected);

    let refused = reply(fixture.deliver(fixture.click(&old, CardActionKind::Retry)).await);
    assert_eq!((refused.shows, seen(&refused).1), (None, None));
    let all = fixture.parts.store.list_sessions(&Default::default(), None, 10).await.unwrap();
    assert_eq!(all.len(), 1);

    fixture.clock.advance(Duration::from_secs(61));
    let granted = reply(fixture.deliver(fixture.click(&old, CardActionKind::Retry)).await);
    assert_eq!(granted.shows.unwrap().1, CardFace::Invitation);
}

#[tokio::test]
async fn retry_on_pending_session_changes_nothing() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let reply = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Retry)).await);
    assert_eq!(reply.shows, Some((invited.session_id, CardFace::Processing)));
    assert_eq!(fixture.bus.left(), [""; 0]);
}

#[tokio::test]
async fn retry_with_open_breaker_is_refused() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    reply(fixture.deliver(fixture.click(&invited, CardActionKind::Cancel)).await);
    fixture.open_breaker("the secret is wrong").await;
    let reply = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Retry)).await);
    assert_eq!((reply.shows, seen(&reply).1), (None, None));
}

async fn click_with_code(token_api: TokenApi, endpoint: Endpoint) {
    let fixture = Fixture::with(Setup { token_api, ..Setup::default() }).await;
    let invited = fixture.invited(0).await;
    let code = fixture.card_code(&invited).await;
    let mut click = fixture.click(&invited, CardActionKind::Authorize);
    click.data.code = Some(fixture.sealed(invited.session_id, &code));
    let first = reply(fixture.deliver(click.clone()).await);

    assert_eq!(first.shows, Some((invited.session_id, CardFace::Done)));
    assert_eq!(seen(&first).1.as_deref(), Some("green"));
    let ended = fixture.bus.take::<SessionEnded>();
    assert_eq!((ended.data.state, ended.data.card_answer_pending), (SessionState::Completed, true));
    let token =
        fixture.parts.store.token(&fixture.app_id(), &invited.open_id, TokenKind::User).await.unwrap();
    assert_eq!(token.unwrap().generation, 1);
    assert_eq!(seen(&reply(fixture.deliver(click).await)), seen(&first));
    assert_eq!(fixture.sim.stats().calls(endpoint), 1, "a code is used once");
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn click_with_code_exchanges_at_v2_endpoint() {
    click_with_code(TokenApi::V2, Endpoint::TokenCode).await;
}

#[tokio::test]
async fn click_with_code_exchanges_at_v1_endpoint() {
    click_with_code(TokenApi::V1, Endpoint::OidcCode).await;
}

#[tokio::test]
async fn click_malformed_is_dead_letter() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let good = delivery(&fixture.click(&invited, CardActionKind::Authorize));
    for body in ["", "{}", "[]", "{\"type\":\"larkauth.card.action_triggered.v1\"}", "\u{0}\u{1}"] {
        let mut poison = good.clone();
        poison.body = body.to_owned().into();
        assert!(matches!(fixture.handle(poison).await, Disposition::Dead { .. }), "{body}");
    }
    let text = String::from_utf8(good.body.to_vec()).unwrap();
    for (from, to) in [
        ("action_triggered.v1", "action_triggered.v2"),
        ("\"authorize\"", "\"delete\""),
        (invited.open_id.as_str(), "not an id!"),
    ] {
        let mut poison = good.clone();
        poison.body = text.replace(from, to).into();
        let Disposition::Dead { reason, .. } = fixture.handle(poison).await else {
            panic!("{to} is not dead")
        };
        assert!(!reason.contains(OpenId::as_str(&invited.open_id)), "{reason}");
    }
}

#[tokio::test]
async fn message_of_other_application_is_dead_letter_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let other = AppId::new("cli_fedcba9876543210").unwrap();
    fixture
        .parts
        .store
        .put_application(&fixture.application(other.as_str(), TokenApi::V2), &act(fixture.context.now()))
        .await
        .unwrap();
    for action in [CardActionKind::Authorize, CardActionKind::Cancel, CardActionKind::Retry] {
        let mut click = fixture.click(&invited, action);
        click.appid = other.clone();
        let Disposition::Dead { reason, reply } = fixture.deliver(click).await else { panic!("{action:?}") };
        assert!(reason.contains("another application"), "{reason}");
        let reply: Reply = serde_json::from_slice(&reply.expect("the person gets an answer")).unwrap();
        assert!(seen(&reply).0.contains("not known here"), "{reply:?}");
    }
    let code = fixture.consent(&invited, 0).await;
    let mut code = fixture.code_message(&invited, &code).await;
    code.appid = other.clone();
    assert!(matches!(fixture.deliver(code).await, Disposition::Dead { .. }));
    let mut denied = fixture.message(AuthorizationDenied { session_id: invited.session_id });
    denied.appid = other.clone();
    assert!(matches!(fixture.deliver(denied).await, Disposition::Dead { .. }));
    let mut sent = fixture.message(InvitationRequested { session_id: invited.session_id });
    sent.appid = other.clone();
    assert!(matches!(fixture.deliver(sent).await, Disposition::Dead { .. }));
    let mut face = fixture.message(CardFaceRequested { session_id: invited.session_id });
    face.appid = other;
    assert!(matches!(fixture.deliver(face).await, Disposition::Dead { .. }));
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);
    assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 0);
}

#[tokio::test]
async fn click_with_code_of_other_session_is_dead_letter() {
    let fixture = Fixture::new().await;
    let (invited, other) = (fixture.invited(0).await, fixture.invited(1).await);
    let code = fixture.card_code(&other).await;
    let mut click = fixture.click(&invited, CardActionKind::Authorize);
    click.data.code = Some(fixture.sealed(other.session_id, &code));
    assert!(matches!(fixture.deliver(click).await, Disposition::Dead { .. }));
    assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 0);
}
