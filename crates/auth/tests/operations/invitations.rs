//! Asking a person: the session, its card, and who is to blame when the card does not arrive.

use std::time::Duration;

use larkauth_auth::AuthError;
use larkauth_contracts::message::{CardActionKind, CardFaceRequested, InvitationRequested, SessionEnded};
use larkauth_lark::api::Receiver;
use larkauth_lark_sim::{Effect, Endpoint, Fault, UserStatus};
use larkauth_messaging::Disposition;
use larkauth_models::{
    Actor, AuthMethod, AuthSession, CardFace, CardOptions, ConsentSecrets, FailureReason, KeyAccess, Person,
    Principal, SessionState,
};
use larkauth_storage::{InvitationLimit, NewSession, SessionEnding, testing::act};

use crate::fixture::{ACTOR, Fixture, Invited, Setup, delivery, policy, reply, running};

impl Fixture {
    fn invitee(&self, n: usize) -> Person {
        Person { open_id: Some(self.person(n)), user_id: None }
    }

    /// Asks the n-th person. Returns the session after its card was to be sent.
    async fn asked(&self, n: usize) -> (AuthSession, Disposition) {
        let session =
            self.context.invite(&ACTOR, self.context.now(), self.invitation(self.invitee(n))).await.unwrap();
        let disposition = self.deliver(self.bus.take::<InvitationRequested>()).await;
        (self.session(session.id).await, disposition)
    }
}

#[tokio::test]
async fn invite_creates_session_and_sends_one_card() {
    let fixture = Fixture::new().await;
    let session = fixture
        .context
        .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(0)))
        .await
        .unwrap();
    assert_eq!(session.id.0.get_version_num(), 7);
    assert_eq!(session.expires_at - session.created_at, chrono::TimeDelta::seconds(600));
    assert_eq!(
        (session.state, session.scopes.as_slice()),
        (SessionState::Pending, &["offline_access".to_owned()][..])
    );

    let message = fixture.bus.take::<InvitationRequested>();
    let first = delivery(&message);
    assert_eq!(fixture.handle(first.clone()).await, Disposition::DONE);
    let session = fixture.session(session.id).await;
    assert_eq!(session.card_face, Some(CardFace::Invitation));
    // Again, and again as if the record of the card had been lost: Lark shows one card.
    assert_eq!(fixture.handle(first).await, Disposition::DONE);
    assert_eq!(fixture.sim.messages_for(fixture.person(0).as_str()).len(), 1);
    let card = fixture.sim.messages_for(fixture.person(0).as_str())[0].card().to_string();
    for expected in ["authorize", "cancel", "code_challenge_method=S256", &session.id.to_string()] {
        assert!(card.contains(expected), "{expected} in {card}");
    }
}

#[tokio::test]
async fn card_names_application_and_caller() {
    let fixture = Fixture::new().await;
    let (id, access) = (uuid::Uuid::from_u128(7), KeyAccess::default());
    let caller = Actor { principal: Principal::ApiKey { id, name: "crm".to_owned(), access }, ..ACTOR };
    let mut invite = fixture.invitation(fixture.invitee(0));
    invite.scopes = Some(vec!["calendar:calendar:readonly".to_owned()]);
    fixture.context.invite(&caller, fixture.context.now(), invite).await.unwrap();
    fixture.deliver(fixture.bus.take::<InvitationRequested>()).await;
    let card = fixture.sim.messages_for(fixture.person(0).as_str())[0].card().to_string();
    for expected in
        ["Demo Bot needs your permission", "Requested by crm", "See your calendars", "查看你的日历"]
    {
        assert!(card.contains(expected), "{expected} in {card}");
    }
}

#[tokio::test]
async fn card_without_name_from_lark_is_sent() {
    let fixture = Fixture::new().await;
    fixture
        .sim
        .faults()
        .push(Fault::at(Endpoint::BotInfo, Effect::Answer { status: 400, code: 11_205 }).times(9));
    let (session, disposition) = fixture.asked(0).await;
    assert_eq!((session.state, disposition), (SessionState::Pending, Disposition::DONE));
    let card = fixture.sim.messages_for(fixture.person(0).as_str())[0].card().to_string();
    assert!(card.contains("This app needs your permission"), "{card}");
}

#[tokio::test]
async fn send_card_of_ended_or_cardless_session_sends_nothing() {
    let fixture = Fixture::new().await;
    let expired = fixture
        .context
        .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(0)))
        .await
        .unwrap();
    let message = fixture.bus.take::<InvitationRequested>();
    fixture.clock.advance(Duration::from_secs(600));
    assert_eq!(fixture.deliver(message.clone()).await, Disposition::DONE);
    fixture
        .parts
        .store
        .end_session(expired.id, SessionEnding::Expired, &act(fixture.context.now()))
        .await
        .unwrap();
    assert_eq!(fixture.deliver(message).await, Disposition::DONE);

    let mut oauth = fixture.invitation(fixture.invitee(0));
    oauth.auth_method = AuthMethod::Oauth;
    fixture.context.invite(&ACTOR, fixture.context.now(), oauth).await.unwrap();
    assert_eq!((fixture.bus.left(), fixture.sim.messages().len()), (vec![], 0));
}

#[tokio::test]
async fn send_card_failure_is_attributed_to_person_or_application() {
    let fixture = Fixture::new().await;
    for status in [UserStatus::OutOfRange, UserStatus::BotStopped, UserStatus::Resigned] {
        fixture.sim.set_status(fixture.person(0).as_str(), status).unwrap();
        let (session, disposition) = fixture.asked(0).await;
        assert_eq!(disposition, Disposition::DONE);
        assert_eq!(session.failure_reason, Some(FailureReason::CardUndeliverable), "{status:?}");
        assert_eq!(fixture.bus.take::<SessionEnded>().data.state, SessionState::Failed);
    }
    fixture
        .context
        .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(1)))
        .await
        .expect("others can be asked");
    fixture.bus.take::<InvitationRequested>();

    let fixture = Fixture::new().await;
    fixture.sim.change_app(crate::fixture::APP, |app| app.secret = "another".to_owned().into()).unwrap();
    let (session, disposition) = fixture.asked(2).await;
    assert_eq!(disposition, Disposition::DONE);
    assert_eq!(session.failure_reason, Some(FailureReason::AppMisconfigured));
    let refused = fixture
        .context
        .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(1)))
        .await
        .unwrap_err();
    assert!(matches!(refused, AuthError::AppFrozen { .. }), "{refused}");
}

#[tokio::test]
async fn send_card_after_transient_errors_sends_one_card() {
    let fixture = Fixture::new().await;
    let session = fixture
        .context
        .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(0)))
        .await
        .unwrap();
    let message = fixture.bus.take::<InvitationRequested>();
    // Longer than the client waits by itself.
    fixture.sim.faults().push(Fault::at(Endpoint::MessageSend, Effect::TooManyRequests(4)));
    let disposition = fixture.deliver(message.clone()).await;
    assert!(
        matches!(disposition, Disposition::Retry { after: Some(wait), .. } if wait.as_secs() == 4),
        "{disposition:?}"
    );
    // The limiter waits for the rest of it. Then the card is sent, and the answer is lost.
    fixture.sim.faults().push(Fault::at(Endpoint::MessageSend, Effect::LostAnswer).times(5));
    assert!(matches!(fixture.deliver(message.clone()).await, Disposition::Retry { .. }));
    fixture.sim.faults().clear();
    assert_eq!(fixture.deliver(message).await, Disposition::DONE);
    assert_eq!(fixture.sim.messages().len(), 1);
    assert!(fixture.session(session.id).await.message_id.is_some());
}

#[tokio::test]
async fn send_card_during_end_requests_update() {
    let fixture = Fixture::new().await;
    let session = fixture
        .context
        .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(0)))
        .await
        .unwrap();
    let message = fixture.bus.take::<InvitationRequested>();
    // Long enough for the end to be written down first, on a busy machine too.
    fixture.sim.faults().push(Fault::at(Endpoint::MessageSend, Effect::Latency(2000)));
    let ending = async {
        fixture
            .sim
            .wait_until(Duration::from_secs(10), |sim| {
                (sim.stats().calls(Endpoint::MessageSend) > 0).then_some(())
            })
            .await
            .ok();
        fixture
            .parts
            .store
            .end_session(session.id, SessionEnding::Rejected, &act(fixture.context.now()))
            .await
            .unwrap()
    };
    let (disposition, ended) = tokio::join!(fixture.deliver(message), ending);
    assert_eq!((disposition, ended), (Disposition::DONE, true));
    assert!(fixture.session(session.id).await.message_id.is_some(), "the card is known");
    let request = fixture.bus.take::<CardFaceRequested>();
    assert_eq!(request.data.session_id, session.id);
    assert_eq!(fixture.deliver(request).await, Disposition::DONE);
    assert_eq!(fixture.sim.messages()[0].card()["header"]["template"], "grey");
}

/// Scopes at their limit, with so many characters each that take three bytes in the address of the consent page.
fn scopes(colons: usize) -> Vec<String> {
    (0..49).map(|n| format!("{n:0>width$}{}", ":".repeat(colons), width = 128 - colons)).collect()
}

#[tokio::test]
async fn invite_with_oversized_card_is_invalid() {
    let fixture = Fixture::new().await;
    let largest = |colons| {
        let mut invite = fixture.invitation(fixture.invitee(0));
        invite.scopes = Some(scopes(colons));
        invite.card.custom_message = Some("好".repeat(1000));
        invite.card.privacy_policy_url = format!("https://example.com/{}", "p".repeat(1900)).parse().ok();
        invite
    };
    let refused = fixture.context.invite(&ACTOR, fixture.context.now(), largest(120)).await.unwrap_err();
    assert!(
        matches!(&refused, AuthError::Invalid(why) if why.contains("fewer or shorter scopes")),
        "{refused}"
    );
    assert_eq!((fixture.bus.left(), fixture.sim.messages().len()), (vec![], 0));

    // Without a card there is nothing to be too large.
    let mut oauth = largest(120);
    oauth.auth_method = AuthMethod::Oauth;
    fixture.context.invite(&ACTOR, fixture.context.now(), oauth).await.unwrap();
    let fits = fixture.context.invite(&ACTOR, fixture.context.now(), largest(10)).await.unwrap();
    assert_eq!(fixture.deliver(fixture.bus.take::<InvitationRequested>()).await, Disposition::DONE);
    assert!(fixture.session(fits.id).await.message_id.is_some());
}

#[tokio::test]
async fn send_card_of_oversized_card_fails_its_session_only() {
    let fixture = Fixture::new().await;
    // As an earlier version, which did not look at the size, let it pass.
    let new = NewSession {
        id: larkauth_models::SessionId(uuid::Uuid::from_u128(7)),
        app_id: fixture.app_id(),
        person: fixture.invitee(0),
        auth_method: AuthMethod::WebsocketCard,
        scopes: (0..4).flat_map(|_| scopes(120)).collect(),
        card: CardOptions::default(),
        consent: ConsentSecrets { state: "state".into(), pkce_verifier: "verifier".into() },
        created_at: fixture.context.now(),
        expires_at: fixture.context.now() + chrono::TimeDelta::seconds(600),
        takes_card_of: None,
        audit: act(fixture.context.now()),
    };
    let limit = InvitationLimit { max: 100, window: Duration::from_secs(60) };
    fixture.parts.store.create_session(&new, limit).await.unwrap();
    let requested = fixture.message(InvitationRequested { session_id: new.id });
    assert_eq!(fixture.deliver(requested).await, Disposition::DONE);
    assert_eq!(fixture.session(new.id).await.failure_reason, Some(FailureReason::CardUndeliverable));
    assert_eq!(fixture.bus.take::<SessionEnded>().data.session_id, new.id);
    let (other, _) = fixture.asked(1).await;
    assert_eq!(other.state, SessionState::Pending, "other people can be invited");
}

#[tokio::test]
async fn invite_with_bus_down_withdraws_session() {
    let fixture = Fixture::new().await;
    fixture.bus.go_down();
    let refused = fixture
        .context
        .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(0)))
        .await
        .unwrap_err();
    assert!(matches!(refused, AuthError::Bus(_)), "{refused}");
    let all = fixture.parts.store.list_sessions(&Default::default(), None, 10).await.unwrap();
    assert_eq!(
        (all[0].state, all[0].failure_reason),
        (SessionState::Failed, Some(FailureReason::ServiceUnavailable))
    );
    let metrics = fixture.context.metrics().render();
    let counted =
        metrics.lines().any(|line| line.contains("reason=\"service_unavailable\"") && line.ends_with(" 1"));
    assert!(counted, "{metrics}");
}

#[tokio::test]
async fn send_card_redelivered_after_end_shows_end() {
    let fixture = Fixture::new().await;
    for known_to_have_ended in [true, false] {
        let session = fixture
            .context
            .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(0)))
            .await
            .unwrap();
        let mut invitation = delivery(&fixture.bus.take::<InvitationRequested>());
        // Sent, and the one who sent it died before writing it down.
        let app = fixture.parts.apps.get(&fixture.app_id()).await.unwrap();
        let card = serde_json::json!({ "schema": "2.0", "config": { "update_multi": true }, "body": { "elements": [] } });
        let receiver = Receiver::OpenId(fixture.person(0));
        let card = app.client.send_card(&receiver, &card, &session.id.to_string()).await.unwrap();
        fixture.clock.advance(Duration::from_secs(600));
        if known_to_have_ended {
            assert_eq!(
                fixture.context.expire_sessions(&ACTOR, fixture.context.now(), &running()).await.unwrap(),
                1
            );
            fixture.bus.take::<SessionEnded>();
        }
        let sent = fixture.sim.messages().len();
        invitation.redelivered = true;
        assert_eq!(fixture.handle(invitation).await, Disposition::DONE);
        assert_eq!(fixture.sim.messages().len(), sent, "nothing is sent twice");
        assert_eq!(fixture.session(session.id).await.message_id, Some(card.clone()));
        let disposition = if known_to_have_ended {
            fixture.deliver(fixture.bus.take::<CardFaceRequested>()).await
        } else {
            assert_eq!(
                fixture.context.expire_sessions(&ACTOR, fixture.context.now(), &running()).await.unwrap(),
                1
            );
            fixture.deliver(fixture.bus.take::<SessionEnded>()).await
        };
        assert_eq!(disposition, Disposition::DONE);
        assert_eq!(fixture.sim.card(card.as_str()).unwrap()["header"]["template"], "grey");
    }
}

#[tokio::test]
async fn send_card_redelivered_after_takeover_keeps_successor() {
    let fixture = Fixture::new().await;
    let session = fixture
        .context
        .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(0)))
        .await
        .unwrap();
    let mut invitation = delivery(&fixture.bus.take::<InvitationRequested>());
    let first = fixture.handle(invitation.clone()).await;
    assert_eq!(first, Disposition::DONE);
    let message_id = fixture.session(session.id).await.message_id.unwrap();
    let invited =
        Invited { session_id: session.id, message_id: message_id.clone(), open_id: fixture.person(0) };
    reply(fixture.deliver(fixture.click(&invited, CardActionKind::Cancel)).await);
    let again = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Retry)).await);
    let (successor, _) = again.shows.unwrap();
    assert_eq!(fixture.session(successor).await.message_id.as_ref(), Some(&message_id));

    invitation.redelivered = true;
    assert_eq!(fixture.handle(invitation).await, Disposition::DONE);
    assert_eq!(fixture.session(session.id).await.message_id, None);
    assert_eq!(fixture.session(successor).await.message_id, Some(message_id));
    assert_eq!(fixture.sim.messages().len(), 1);
}

#[tokio::test]
async fn invite_over_limit_is_rate_limited() {
    let fixture = Fixture::with(Setup { policy: policy(2), ..Setup::default() }).await;
    for _ in 0..2 {
        fixture.invited(0).await;
    }
    // What is left of the minute is rounded up, so that no caller comes back too early.
    fixture.clock.advance(Duration::from_millis(10_500));
    let refused = fixture
        .context
        .invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(0)))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, AuthError::RateLimited { max: 2, retry_after, .. } if retry_after == Duration::from_secs(50)),
        "{refused}"
    );
    assert!(refused.to_string().ends_with("try again in 50 s"), "{refused}");
    fixture.invited(1).await;
    fixture.clock.advance(Duration::from_secs(61));
    fixture.invited(0).await;
}

#[tokio::test]
async fn invite_of_unavailable_method_or_application_fails() {
    let fixture = Fixture::new().await;
    let mut device = fixture.invitation(fixture.invitee(0));
    device.auth_method = AuthMethod::DeviceCode;
    assert!(matches!(
        fixture.context.invite(&ACTOR, fixture.context.now(), device).await,
        Err(AuthError::AuthMethodUnavailable(_))
    ));

    let mut unknown = fixture.invitation(fixture.invitee(0));
    unknown.app_id = larkauth_models::AppId::new("cli_ffffffffffffffff").unwrap();
    assert!(matches!(
        fixture.context.invite(&ACTOR, fixture.context.now(), unknown).await,
        Err(AuthError::AppNotFound(_))
    ));

    fixture
        .parts
        .store
        .set_application_enabled(&fixture.app_id(), false, &act(fixture.context.now()))
        .await
        .unwrap();
    let off =
        fixture.context.invite(&ACTOR, fixture.context.now(), fixture.invitation(fixture.invitee(0))).await;
    assert!(matches!(off, Err(AuthError::AppDisabled(_))));

    let missing = fixture
        .context
        .session(&ACTOR, fixture.context.now(), larkauth_models::SessionId(uuid::Uuid::from_u128(1)))
        .await;
    assert!(matches!(missing, Err(AuthError::SessionNotFound(_))));
}

#[tokio::test]
async fn send_card_refused_for_good_fails_session_at_once() {
    use FailureReason::{AppMisconfigured, CardUndeliverable, UserUnavailable};
    let fixture = Fixture::new().await;
    for (code, reason) in [
        (99_992_351, UserUnavailable),
        (99_992_361, CardUndeliverable),
        (99_992_364, CardUndeliverable),
        (99_992_402, CardUndeliverable),
        (230_054, CardUndeliverable),
        (230_099, CardUndeliverable),
        (11_310, CardUndeliverable),
        (200_800, CardUndeliverable),
        (230_027, AppMisconfigured),
        (1_000_040_351, AppMisconfigured),
    ] {
        // The breaker, which some of the codes open, lets an invitation through after a while.
        fixture.clock.advance(Duration::from_secs(301));
        let before = fixture.sim.stats().calls(Endpoint::MessageSend);
        fixture.sim.faults().push(Fault::at(Endpoint::MessageSend, Effect::Answer { status: 400, code }));
        let person = Person { open_id: Some(fixture.person(0)), user_id: None };
        let invite = fixture.invitation(person);
        let session = fixture.context.invite(&ACTOR, fixture.context.now(), invite).await.unwrap();
        let message = fixture.bus.take::<InvitationRequested>();
        assert_eq!(fixture.deliver(message).await, Disposition::DONE, "{code}");
        let session = fixture.session(session.id).await;
        assert_eq!(session.failure_reason, Some(reason), "{code}");
        assert_eq!(fixture.sim.stats().calls(Endpoint::MessageSend), before + 1, "{code}");
        fixture.bus.take::<SessionEnded>();
    }
}
