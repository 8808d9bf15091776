//! Asking a person: the session, its card, and who is to blame when the card does not arrive.

use std::time::Duration;

use larkauth_auth::AuthError;
use larkauth_contracts::message::{CardActionKind, CardFaceRequested, InvitationRequested, SessionEnded};
use larkauth_lark::api::Receiver;
use larkauth_lark_sim::{Effect, Endpoint, Fault, UserStatus};
use larkauth_messaging::Verdict;
use larkauth_models::{
    AuthMethod, AuthSession, CardFace, CardOptions, ConsentSecrets, FailureReason, Person, SessionState,
};
use larkauth_storage::{InvitationLimit, NewSession, SessionEnding};

use crate::fixture::{ACTOR, Invited, Setup, Stage, delivery, reply};

impl Stage {
    fn somebody(&self, n: usize) -> Person {
        Person { open_id: Some(self.person(n)), user_id: None }
    }

    /// Asks the n-th person; gives the session as it is after the card was to be sent.
    async fn asked(&self, n: usize) -> (AuthSession, Verdict) {
        let session =
            self.context.invite(&ACTOR, self.context.now(), self.invitation(self.somebody(n))).await.unwrap();
        let verdict = self.deliver(self.bus.take::<InvitationRequested>()).await;
        (self.session(session.id).await, verdict)
    }
}

#[tokio::test]
async fn a_session_is_created_with_its_end_and_its_card() {
    let stage = Stage::new().await;
    let session =
        stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(0))).await.unwrap();
    assert_eq!(session.id.0.get_version_num(), 7);
    assert_eq!(session.expires_at - session.created_at, chrono::TimeDelta::seconds(600));
    assert_eq!(
        (session.state, session.scopes.as_slice()),
        (SessionState::Pending, &["offline_access".to_owned()][..])
    );

    let message = stage.bus.take::<InvitationRequested>();
    let first = delivery(&message);
    assert_eq!(stage.handle(first.clone()).await, Verdict::DONE);
    let session = stage.session(session.id).await;
    assert_eq!(session.card_face, Some(CardFace::Invitation));
    // Again, and again as if the record of the card had been lost: Lark shows one card.
    assert_eq!(stage.handle(first).await, Verdict::DONE);
    assert_eq!(stage.sim.messages_for(stage.person(0).as_str()).len(), 1);
    let card = stage.sim.messages_for(stage.person(0).as_str())[0].card().to_string();
    for expected in ["authorize", "cancel", "code_challenge_method=S256", &session.id.to_string()] {
        assert!(card.contains(expected), "{expected} in {card}");
    }
}

#[tokio::test]
async fn no_card_is_sent_for_what_is_over_or_needs_none() {
    let stage = Stage::new().await;
    let expired =
        stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(0))).await.unwrap();
    let message = stage.bus.take::<InvitationRequested>();
    stage.clock.advance(Duration::from_secs(600));
    assert_eq!(stage.deliver(message.clone()).await, Verdict::DONE);
    stage.parts.store.end_session(expired.id, SessionEnding::Expired, stage.context.now()).await.unwrap();
    assert_eq!(stage.deliver(message).await, Verdict::DONE);

    let mut oauth = stage.invitation(stage.somebody(0));
    oauth.auth_method = AuthMethod::Oauth;
    stage.context.invite(&ACTOR, stage.context.now(), oauth).await.unwrap();
    assert_eq!((stage.bus.left(), stage.sim.messages().len()), (vec![], 0));
}

#[tokio::test]
async fn a_person_who_cannot_be_reached_is_told_apart_from_an_application_at_fault() {
    let stage = Stage::new().await;
    for status in [UserStatus::OutOfRange, UserStatus::BotStopped, UserStatus::Resigned] {
        stage.sim.set_status(stage.person(0).as_str(), status).unwrap();
        let (session, verdict) = stage.asked(0).await;
        assert_eq!(verdict, Verdict::DONE);
        assert_eq!(session.failure_reason, Some(FailureReason::CardUndeliverable), "{status:?}");
        assert_eq!(stage.bus.take::<SessionEnded>().data.state, SessionState::Failed);
    }
    stage
        .context
        .invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(1)))
        .await
        .expect("others can be asked");
    stage.bus.take::<InvitationRequested>();

    let stage = Stage::new().await;
    stage.sim.change_app(crate::fixture::APP, |app| app.secret = "another".to_owned().into()).unwrap();
    let (session, verdict) = stage.asked(2).await;
    assert_eq!(verdict, Verdict::DONE);
    assert_eq!(session.failure_reason, Some(FailureReason::AppMisconfigured));
    let refused = stage
        .context
        .invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(1)))
        .await
        .unwrap_err();
    assert!(matches!(refused, AuthError::AppFrozen { .. }), "{refused}");
}

#[tokio::test]
async fn trouble_at_lark_is_waited_out_and_the_card_is_sent_once() {
    let stage = Stage::new().await;
    let session =
        stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(0))).await.unwrap();
    let message = stage.bus.take::<InvitationRequested>();
    // Longer than the client waits by itself.
    stage.sim.faults().push(Fault::at(Endpoint::MessageSend, Effect::TooManyRequests(20)));
    let verdict = stage.deliver(message.clone()).await;
    assert!(
        matches!(verdict, Verdict::Retry { after: Some(wait), .. } if wait.as_secs() == 20),
        "{verdict:?}"
    );
    // Handled, but the answer was lost.
    stage.sim.faults().push(Fault::at(Endpoint::MessageSend, Effect::LostAnswer).times(5));
    assert!(matches!(stage.deliver(message.clone()).await, Verdict::Retry { .. }));
    stage.sim.faults().clear();
    assert_eq!(stage.deliver(message).await, Verdict::DONE);
    assert_eq!(stage.sim.messages().len(), 1);
    assert!(stage.session(session.id).await.message_id.is_some());
}

#[tokio::test]
async fn an_end_while_the_card_was_on_its_way_is_shown_on_it() {
    let stage = Stage::new().await;
    let session =
        stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(0))).await.unwrap();
    let message = stage.bus.take::<InvitationRequested>();
    // Long enough for the end to be written down first, on a busy machine too.
    stage.sim.faults().push(Fault::at(Endpoint::MessageSend, Effect::Latency(2000)));
    let ending = async {
        stage
            .sim
            .wait_until(Duration::from_secs(10), |sim| {
                (sim.stats().calls(Endpoint::MessageSend) > 0).then_some(())
            })
            .await
            .ok();
        stage.parts.store.end_session(session.id, SessionEnding::Rejected, stage.context.now()).await.unwrap()
    };
    let (verdict, ended) = tokio::join!(stage.deliver(message), ending);
    assert_eq!((verdict, ended), (Verdict::DONE, true));
    assert!(stage.session(session.id).await.message_id.is_some(), "the card is known");
    let request = stage.bus.take::<CardFaceRequested>();
    assert_eq!(request.data.session_id, session.id);
    assert_eq!(stage.deliver(request).await, Verdict::DONE);
    assert_eq!(stage.sim.messages()[0].card()["header"]["template"], "grey");
}

/// Scopes at their limit, with so many characters each that take three bytes in the address of the consent page.
fn scopes(colons: usize) -> Vec<String> {
    (0..49).map(|n| format!("{n:0>width$}{}", ":".repeat(colons), width = 128 - colons)).collect()
}

#[tokio::test]
async fn a_card_that_is_too_large_is_refused_before_anybody_is_asked() {
    let stage = Stage::new().await;
    let largest = |colons| {
        let mut invite = stage.invitation(stage.somebody(0));
        invite.scopes = Some(scopes(colons));
        invite.card.custom_message = Some("好".repeat(1000));
        invite.card.privacy_policy_url = format!("https://example.com/{}", "p".repeat(1900)).parse().ok();
        invite
    };
    let refused = stage.context.invite(&ACTOR, stage.context.now(), largest(120)).await.unwrap_err();
    assert!(
        matches!(&refused, AuthError::Invalid(why) if why.contains("fewer or shorter scopes")),
        "{refused}"
    );
    assert_eq!((stage.bus.left(), stage.sim.messages().len()), (vec![], 0));

    // Without a card there is nothing to be too large.
    let mut oauth = largest(120);
    oauth.auth_method = AuthMethod::Oauth;
    stage.context.invite(&ACTOR, stage.context.now(), oauth).await.unwrap();
    let fits = stage.context.invite(&ACTOR, stage.context.now(), largest(10)).await.unwrap();
    assert_eq!(stage.deliver(stage.bus.take::<InvitationRequested>()).await, Verdict::DONE);
    assert!(stage.session(fits.id).await.message_id.is_some());
}

#[tokio::test]
async fn a_card_that_lark_cannot_take_ends_its_own_session_only() {
    let stage = Stage::new().await;
    // As an earlier version, which did not look at the size, let it pass.
    let new = NewSession {
        id: larkauth_models::SessionId(uuid::Uuid::from_u128(7)),
        app_id: stage.app_id(),
        person: stage.somebody(0),
        auth_method: AuthMethod::WebsocketCard,
        scopes: (0..4).flat_map(|_| scopes(120)).collect(),
        card: CardOptions::default(),
        consent: ConsentSecrets { state: "state".into(), pkce_verifier: "verifier".into() },
        created_at: stage.context.now(),
        expires_at: stage.context.now() + chrono::TimeDelta::seconds(600),
        takes_card_of: None,
    };
    let limit = InvitationLimit { max: 100, window: Duration::from_secs(60) };
    stage.parts.store.create_session(&new, limit).await.unwrap();
    let requested = stage.message(InvitationRequested { session_id: new.id });
    assert_eq!(stage.deliver(requested).await, Verdict::DONE);
    assert_eq!(stage.session(new.id).await.failure_reason, Some(FailureReason::CardUndeliverable));
    assert_eq!(stage.bus.take::<SessionEnded>().data.session_id, new.id);
    let (other, _) = stage.asked(1).await;
    assert_eq!(other.state, SessionState::Pending, "everybody else can be asked");
}

#[tokio::test]
async fn a_bus_that_is_down_leaves_nobody_waiting() {
    let stage = Stage::new().await;
    stage.bus.go_down();
    let refused = stage
        .context
        .invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(0)))
        .await
        .unwrap_err();
    assert!(matches!(refused, AuthError::Bus(_)), "{refused}");
    let all = stage.parts.store.list_sessions(&Default::default(), None, 10).await.unwrap();
    assert_eq!(
        (all[0].state, all[0].failure_reason),
        (SessionState::Failed, Some(FailureReason::CardUndeliverable))
    );
    let metrics = stage.context.metrics().render();
    let counted =
        metrics.lines().any(|line| line.contains("reason=\"card_undeliverable\"") && line.ends_with(" 1"));
    assert!(counted, "{metrics}");
}

#[tokio::test]
async fn a_card_whose_sender_died_before_the_session_ended_still_shows_the_end() {
    let stage = Stage::new().await;
    for known_to_have_ended in [true, false] {
        let session = stage
            .context
            .invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(0)))
            .await
            .unwrap();
        let mut invitation = delivery(&stage.bus.take::<InvitationRequested>());
        // Sent, and the one who sent it died before writing it down.
        let app = stage.parts.apps.get(&stage.app_id()).await.unwrap();
        let card = serde_json::json!({ "schema": "2.0", "config": { "update_multi": true }, "body": { "elements": [] } });
        let receiver = Receiver::OpenId(stage.person(0));
        let card = app.client.send_card(&receiver, &card, &session.id.to_string()).await.unwrap();
        stage.clock.advance(Duration::from_secs(600));
        if known_to_have_ended {
            assert_eq!(stage.context.expire_sessions().await.unwrap(), 1);
            stage.bus.take::<SessionEnded>();
        }
        let sent = stage.sim.messages().len();
        invitation.redelivered = true;
        assert_eq!(stage.handle(invitation).await, Verdict::DONE);
        assert_eq!(stage.sim.messages().len(), sent, "nothing is sent twice");
        assert_eq!(stage.session(session.id).await.message_id, Some(card.clone()));
        let verdict = if known_to_have_ended {
            stage.deliver(stage.bus.take::<CardFaceRequested>()).await
        } else {
            assert_eq!(stage.context.expire_sessions().await.unwrap(), 1);
            stage.deliver(stage.bus.take::<SessionEnded>()).await
        };
        assert_eq!(verdict, Verdict::DONE);
        assert_eq!(stage.sim.card(card.as_str()).unwrap()["header"]["template"], "grey");
    }
}

#[tokio::test]
async fn a_card_that_went_on_to_the_next_session_is_not_wanted_back() {
    let stage = Stage::new().await;
    let session =
        stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(0))).await.unwrap();
    let mut invitation = delivery(&stage.bus.take::<InvitationRequested>());
    let first = stage.handle(invitation.clone()).await;
    assert_eq!(first, Verdict::DONE);
    let message_id = stage.session(session.id).await.message_id.unwrap();
    let invited =
        Invited { session_id: session.id, message_id: message_id.clone(), open_id: stage.person(0) };
    reply(stage.deliver(stage.click(&invited, CardActionKind::Cancel)).await);
    let again = reply(stage.deliver(stage.click(&invited, CardActionKind::Retry)).await);
    let (successor, _) = again.shows.unwrap();
    assert_eq!(stage.session(successor).await.message_id.as_ref(), Some(&message_id));

    invitation.redelivered = true;
    assert_eq!(stage.handle(invitation).await, Verdict::DONE);
    assert_eq!(stage.session(session.id).await.message_id, None);
    assert_eq!(stage.session(successor).await.message_id, Some(message_id));
    assert_eq!(stage.sim.messages().len(), 1);
}

#[tokio::test]
async fn a_person_is_not_asked_too_often() {
    let stage = Stage::with(Setup { limit: 2, ..Setup::default() }).await;
    for _ in 0..2 {
        stage.invited(0).await;
    }
    // What is left of the minute is told rounded up, so that nobody comes back too early.
    stage.clock.advance(Duration::from_millis(10_500));
    let refused = stage
        .context
        .invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(0)))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, AuthError::RateLimited { max: 2, retry_after, .. } if retry_after == Duration::from_secs(50)),
        "{refused}"
    );
    assert!(refused.to_string().ends_with("try again in 50 s"), "{refused}");
    stage.invited(1).await;
    stage.clock.advance(Duration::from_secs(61));
    stage.invited(0).await;
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    let stage = Stage::new().await;
    let mut device = stage.invitation(stage.somebody(0));
    device.auth_method = AuthMethod::DeviceCode;
    assert!(matches!(
        stage.context.invite(&ACTOR, stage.context.now(), device).await,
        Err(AuthError::AuthMethodUnavailable(_))
    ));

    let mut unknown = stage.invitation(stage.somebody(0));
    unknown.app_id = larkauth_models::AppId::new("cli_ffffffffffffffff").unwrap();
    assert!(matches!(
        stage.context.invite(&ACTOR, stage.context.now(), unknown).await,
        Err(AuthError::AppNotFound(_))
    ));

    stage.parts.store.set_application_enabled(&stage.app_id(), false, stage.context.now()).await.unwrap();
    let off = stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(stage.somebody(0))).await;
    assert!(matches!(off, Err(AuthError::AppDisabled(_))));

    let missing = stage
        .context
        .session(&ACTOR, stage.context.now(), larkauth_models::SessionId(uuid::Uuid::from_u128(1)))
        .await;
    assert!(matches!(missing, Err(AuthError::SessionNotFound(_))));
}
