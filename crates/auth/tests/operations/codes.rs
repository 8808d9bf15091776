//! What the browser brings back: a code becomes a token once, or the session ends visibly.

use std::time::Duration;

use larkauth_auth::{AuthError, Policy, redirect::Consent};
use larkauth_contracts::message::{AuthorizationCodeReceived, AuthorizationDenied, SessionEnded};
use larkauth_lark::api::CodeGrant;
use larkauth_lark_sim::{Effect, Endpoint, Fault, SimConfig, SimUser};
use larkauth_messaging::Disposition;
use larkauth_models::{
    AuthMethod, Backoff, ExposeSecret, FailureReason, OpenId, Person, SecretString, SessionState,
    StoredToken, TokenApi, TokenKind, UserId,
};

use serde_json::json;
use tokio::time::Instant;

use crate::fixture::{ACTOR, Fixture, Invited, Setup, delivery, policy, reply};

impl Fixture {
    pub(crate) async fn token(&self, of: &OpenId) -> Option<StoredToken> {
        self.parts.store.token(&self.app_id(), of, TokenKind::User).await.unwrap()
    }

    /// Consents and delivers the code. Returns the end of the session.
    pub(crate) async fn end_of(&self, invited: &Invited) -> (SessionState, Option<FailureReason>) {
        let code = self.consent(invited, 0).await;
        let reply = reply(self.deliver(self.code_message(invited, &code).await).await);
        assert_eq!((reply.answer, reply.shows), (None, None), "the waiting browser only needs to look");
        self.ended(invited).await
    }

    /// How the session ended, as announced.
    pub(crate) async fn ended(&self, invited: &Invited) -> (SessionState, Option<FailureReason>) {
        let session = self.session(invited.session_id).await;
        let announced = self.bus.take::<SessionEnded>().data;
        assert_eq!((announced.state, announced.failure_reason), (session.state, session.failure_reason));
        assert!(session.consent.is_none(), "the secrets of an ended session are gone");
        (session.state, session.failure_reason)
    }
}

pub(crate) const COMPLETED: (SessionState, Option<FailureReason>) = (SessionState::Completed, None);

pub(crate) const fn failed(reason: FailureReason) -> (SessionState, Option<FailureReason>) {
    (SessionState::Failed, Some(reason))
}

#[tokio::test]
async fn exchange_stores_token_and_profile() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let code = fixture.consent(&invited, 0).await;
    let message = fixture.code_message(&invited, &code).await;
    reply(fixture.deliver(message.clone()).await);

    let ended = fixture.bus.take::<SessionEnded>();
    assert_eq!((ended.data.state, ended.data.card_answer_pending), (SessionState::Completed, false));
    let session = fixture.session(invited.session_id).await;
    let user = &fixture.sim.users()[0];
    assert_eq!(session.user_name.as_deref(), Some(user.name.as_str()));
    assert_eq!(fixture.context.english_name(&session).await.as_deref(), Some(user.en_name.as_str()));
    assert_eq!(session.mobile.unwrap().expose_secret(), user.mobile.as_deref().unwrap());
    assert_eq!(session.completed_at, Some(fixture.context.now()));
    let token = fixture.token(&invited.open_id).await.unwrap();
    let secret = token.pair.access_token.readable().unwrap().expose_secret();
    assert!(fixture.sim.issued_secrets().iter().any(|s| s == secret));
    assert!(token.pair.refresh_token.is_some() && token.pair.access_expires_at > fixture.context.now());
    let profile = fixture.parts.store.profile(&fixture.app_id(), &invited.open_id).await.unwrap().unwrap();
    assert_eq!(profile.email.unwrap().expose_secret(), user.email.as_deref().unwrap());

    // The same event again, as a reloaded page publishes it, and the same code under another id.
    reply(fixture.deliver(message).await);
    reply(fixture.deliver(fixture.code_message(&invited, &code).await).await);
    assert_eq!(fixture.bus.left(), [""; 0]);
    assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 1);
    assert_eq!(fixture.token(&invited.open_id).await.unwrap().generation, token.generation);
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn exchange_of_v1_application_uses_v1_endpoint() {
    let fixture = Fixture::with(Setup { token_api: TokenApi::V1, ..Setup::default() }).await;
    let invited = fixture.invited(0).await;
    assert_eq!(fixture.end_of(&invited).await, COMPLETED);
    assert_eq!(
        (fixture.sim.stats().calls(Endpoint::OidcCode), fixture.sim.stats().calls(Endpoint::TokenCode)),
        (1, 0)
    );
}

#[tokio::test]
async fn exchange_without_contact_data_completes() {
    let sim = SimConfig { users: vec![SimUser::numbered(1).without_contact_data()], ..SimConfig::default() };
    let fixture = Fixture::with(Setup { sim, ..Setup::default() }).await;
    let invited = fixture.invited(0).await;
    assert_eq!(fixture.end_of(&invited).await, COMPLETED);
    let session = fixture.session(invited.session_id).await;
    assert!(session.email.is_none() && session.mobile.is_none() && session.person.user_id.is_none());
    assert!(fixture.token(&invited.open_id).await.is_some());
}

#[tokio::test]
async fn exchange_by_user_id_records_open_id() {
    let fixture = Fixture::new().await;
    let user_id = UserId::new(fixture.sim.users()[0].user_id.clone().unwrap()).unwrap();
    let invited = fixture.invited_as(0, Person { open_id: None, user_id: Some(user_id) }).await;
    assert_eq!(fixture.end_of(&invited).await, COMPLETED);
    assert_eq!(fixture.session(invited.session_id).await.person.open_id.as_ref(), Some(&invited.open_id));
    assert!(fixture.token(&invited.open_id).await.is_some());
}

#[tokio::test]
async fn exchange_without_user_id_permission_fails_as_misconfigured() {
    let sim = SimConfig { users: vec![SimUser::numbered(1).without_contact_data()], ..SimConfig::default() };
    let fixture = Fixture::with(Setup { sim, ..Setup::default() }).await;
    let person = Person { open_id: None, user_id: Some(UserId::new("u1").unwrap()) };
    let mut invite = fixture.invitation(person);
    invite.auth_method = AuthMethod::Oauth;
    let session = fixture.context.invite(&ACTOR, fixture.context.now(), invite).await.unwrap();
    let message_id = "om_none".parse().unwrap();
    let invited = Invited { session_id: session.id, message_id, open_id: fixture.person(0) };
    assert_eq!(fixture.end_of(&invited).await, failed(FailureReason::AppMisconfigured));
    assert!(fixture.token(&invited.open_id).await.is_none(), "nothing is stored without proof");
}

#[tokio::test]
async fn exchange_by_other_person_stores_nothing() {
    let fixture = Fixture::new().await;
    let by_open_id = fixture.invited(0).await;
    let user_id = UserId::new(fixture.sim.users()[0].user_id.clone().unwrap()).unwrap();
    let by_user_id = fixture.invited_as(0, Person { open_id: None, user_id: Some(user_id) }).await;
    for invited in [by_open_id, by_user_id] {
        let code = fixture.consent(&invited, 1).await;
        reply(fixture.deliver(fixture.code_message(&invited, &code).await).await);
        assert_eq!(fixture.ended(&invited).await, failed(FailureReason::IdentityMismatch));
    }
    for n in [0, 1] {
        assert!(fixture.token(&fixture.person(n)).await.is_none());
        let profile = fixture.parts.store.profile(&fixture.app_id(), &fixture.person(n)).await.unwrap();
        assert!(profile.is_none(), "nothing at all is stored");
    }
}

#[tokio::test]
async fn exchange_of_invalid_code_fails_session() {
    let fixture = Fixture::new().await;
    // Unknown to Lark.
    let invited = fixture.invited(0).await;
    reply(fixture.deliver(fixture.code_message(&invited, &SecretString::from("never-issued")).await).await);
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::CodeInvalid));
    // Expired: it lives 5 minutes, the invitation 10.
    let invited = fixture.invited(1).await;
    let code = fixture.consent(&invited, 1).await;
    fixture.clock.advance(Duration::from_secs(301));
    reply(fixture.deliver(fixture.code_message(&invited, &code).await).await);
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::CodeInvalid));
    // Expired in the queue, and come back from a worker that crashed before it sent the code.
    let invited = fixture.invited(1).await;
    let code = fixture.consent(&invited, 1).await;
    let message = fixture.code_message(&invited, &code).await;
    fixture.clock.advance(Duration::from_secs(301));
    let mut again = delivery(&message);
    again.redelivered = true;
    reply(fixture.handle(again).await);
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::CodeInvalid));
    // Used before.
    let (first, second) = (fixture.invited(2).await, fixture.invited(2).await);
    let code = fixture.consent(&first, 2).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::LostAnswer));
    reply(fixture.deliver(fixture.code_message(&first, &code).await).await);
    assert_eq!(fixture.ended(&first).await, failed(FailureReason::ExchangeOutcomeUnknown));
    reply(fixture.deliver(fixture.code_message(&second, &code).await).await);
    assert_eq!(fixture.ended(&second).await, failed(FailureReason::CodeInvalid));
}

#[tokio::test]
async fn exchange_after_expiry_expires_session() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let code = fixture.consent(&invited, 0).await;
    fixture.clock.advance(Duration::from_secs(600));
    reply(fixture.deliver(fixture.code_message(&invited, &code).await).await);
    assert_eq!(fixture.ended(&invited).await, (SessionState::Expired, None));
    assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 0);
}

#[tokio::test]
async fn exchange_after_transient_error_retries_same_code() {
    for effect in [
        Effect::Cut,
        Effect::Answer { status: 503, code: 20072 },
        Effect::Answer { status: 500, code: 20050 },
        // The second delivery waits for the rest of it.
        Effect::TooManyRequests(1),
    ] {
        let fixture = Fixture::new().await;
        let invited = fixture.invited(0).await;
        // More often than the client repeats by itself.
        fixture.sim.faults().push(Fault::at(Endpoint::TokenCode, effect.clone()).times(1));
        let code = fixture.consent(&invited, 0).await;
        let message = fixture.code_message(&invited, &code).await;
        let disposition = fixture.deliver(message.clone()).await;
        if effect == Effect::Cut {
            // The request went out and nothing came back: the code may be used up.
            assert!(matches!(disposition, Disposition::Done { .. }), "{disposition:?}");
            assert_eq!(fixture.ended(&invited).await, failed(FailureReason::ExchangeOutcomeUnknown));
            continue;
        }
        let Disposition::Retry { after, .. } = disposition else { panic!("{effect:?}: {disposition:?}") };
        assert_eq!(after, matches!(effect, Effect::TooManyRequests(_)).then_some(Duration::from_secs(1)));
        let mut again = delivery(&message);
        again.attempt = 2;
        reply(fixture.handle(again).await);
        assert_eq!(fixture.ended(&invited).await, COMPLETED, "{effect:?}");
        assert_eq!(fixture.sim.violations(), []);
    }
}

#[tokio::test]
async fn exchange_of_code_consumed_by_failed_attempt_fails_session() {
    for code in [20050, 20072] {
        let fixture = Fixture::new().await;
        let invited = fixture.invited(0).await;
        let authorization = fixture.consent(&invited, 0).await;
        let message = fixture.code_message(&invited, &authorization).await;
        fixture.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 500, code }));
        assert!(matches!(fixture.deliver(message.clone()).await, Disposition::Retry { .. }));
        // Lark had acted on it all the same.
        let app = fixture.parts.apps.get(&fixture.app_id()).await.unwrap();
        let grant = CodeGrant {
            code: authorization,
            redirect_uri: app.application.redirect_uri.clone(),
            code_verifier: Some(fixture.session(invited.session_id).await.consent.unwrap().pkce_verifier),
        };
        let until = Instant::now() + Duration::from_secs(20);
        app.client.exchange_code(TokenApi::V2, &grant, until).await.unwrap();

        let mut again = delivery(&message);
        again.attempt = 2;
        reply(fixture.handle(again).await);
        assert_eq!(fixture.ended(&invited).await, failed(FailureReason::ExchangeOutcomeUnknown));
        assert!(fixture.token(&invited.open_id).await.is_none());
    }
}

#[tokio::test]
async fn exchange_after_code_lifetime_fails_session() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let code = fixture.consent(&invited, 0).await;
    let message = fixture.code_message(&invited, &code).await;
    fixture
        .sim
        .faults()
        .push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 503, code: 20072 }).until_cleared());
    assert!(matches!(fixture.deliver(message.clone()).await, Disposition::Retry { .. }));
    fixture.clock.advance(Duration::from_secs(280));
    reply(fixture.deliver(message).await);
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::UpstreamUnavailable));
}

#[tokio::test]
async fn identity_check_after_transient_errors_retries_then_fails() {
    let retry = Backoff::new(Duration::from_millis(20), Duration::from_millis(100), 0.2);
    let policy = Policy { retry, ..policy(100) };
    let fixture = Fixture::with(Setup { policy, ..Setup::default() }).await;
    let invited = fixture.invited(0).await;
    fixture
        .sim
        .faults()
        .push(Fault::at(Endpoint::UserInfo, Effect::Answer { status: 503, code: 1 }).times(4));
    assert_eq!(fixture.end_of(&invited).await, COMPLETED, "a short trouble is waited out");

    for (code, reason) in
        [(20022, FailureReason::UserUnavailable), (20005, FailureReason::UpstreamUnavailable)]
    {
        let invited = fixture.invited(0).await;
        fixture
            .sim
            .faults()
            .push(Fault::at(Endpoint::UserInfo, Effect::Answer { status: 200, code }).times(1));
        assert_eq!(fixture.end_of(&invited).await, failed(reason), "{code}");
    }
}

#[tokio::test]
async fn exchange_refused_for_application_opens_breaker_until_success() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 400, code: 20002 }));
    assert_eq!(fixture.end_of(&invited).await, failed(FailureReason::AppMisconfigured));

    let person = Person { open_id: Some(fixture.person(1)), user_id: None };
    let refused =
        fixture.context.invite(&ACTOR, fixture.context.now(), fixture.invitation(person)).await.unwrap_err();
    assert!(matches!(refused, AuthError::AppFrozen { .. }), "{refused}");
    assert_eq!(fixture.bus.left(), [""; 0], "no person is invited");

    // After a while an invitation may try. That a card could be sent says nothing about the token endpoint; a code that
    // was exchanged does, and closes the breaker.
    fixture.clock.advance(Duration::from_secs(301));
    let probe = fixture.invited(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 400, code: 20002 }));
    assert_eq!(fixture.end_of(&probe).await, failed(FailureReason::AppMisconfigured));
    let person = Person { open_id: Some(fixture.person(1)), user_id: None };
    let refused =
        fixture.context.invite(&ACTOR, fixture.context.now(), fixture.invitation(person)).await.unwrap_err();
    assert!(
        matches!(refused, AuthError::AppFrozen { .. }),
        "one was let through, and refused again: {refused}"
    );

    fixture.clock.advance(Duration::from_secs(301));
    let again = fixture.invited(0).await;
    let frozen =
        async || fixture.parts.store.application(&fixture.app_id()).await.unwrap().unwrap().frozen_since;
    assert!(frozen().await.is_some());
    fixture.end_of(&again).await;
    assert_eq!(frozen().await, None);
}

#[tokio::test]
async fn exchange_with_wrong_setting_keeps_breaker_closed() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 400, code: 20071 }));
    assert_eq!(fixture.end_of(&invited).await, failed(FailureReason::AppMisconfigured));
    fixture.invited(1).await;
}

#[tokio::test]
async fn exchange_under_foreign_claim_retries() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let code = fixture.consent(&invited, 0).await;
    let message = fixture.code_message(&invited, &code).await;
    let (store, claim) = (&fixture.parts.store, fixture.context.new_uuid());
    store.claim_exchange(invited.session_id, None, claim, Duration::from_secs(60)).await.unwrap();
    let disposition = fixture.deliver(message.clone()).await;
    assert!(matches!(disposition, Disposition::Retry { after: Some(_), .. }), "{disposition:?}");
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);
    assert!(store.release_exchange(invited.session_id, claim).await.unwrap());
    reply(fixture.deliver(message).await);
    assert_eq!(fixture.ended(&invited).await, COMPLETED);
}

#[tokio::test]
async fn exchange_of_superseded_code_changes_nothing() {
    let fixture = Fixture::new().await;
    for reloaded in [false, true] {
        let invited = fixture.invited(0).await;
        let state = fixture.session(invited.session_id).await.consent.unwrap().state;
        let land = async |code: &SecretString| {
            // The bus has no consumer, but the message is on it.
            fixture.context.take_redirect(&state, Consent::Code(code.clone())).await.unwrap_err();
            fixture.bus.take::<AuthorizationCodeReceived>()
        };
        let codes = [fixture.consent(&invited, 0).await, fixture.consent(&invited, 0).await];
        let (first, second) = (land(&codes[0]).await, land(&codes[1]).await);
        assert_ne!(first.id, second.id, "the second is no duplicate of the first");
        let calls = fixture.sim.stats().calls(Endpoint::TokenCode);
        let passed_over = async |message| {
            reply(fixture.deliver(message).await);
            assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), calls, "it is not exchanged");
            assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);
            assert_eq!(fixture.bus.left(), [""; 0]);
        };
        passed_over(first.clone()).await;
        let newest = if reloaded {
            let again = land(&codes[0]).await;
            assert_eq!(again.id, first.id);
            passed_over(second).await;
            again
        } else {
            second
        };
        reply(fixture.deliver(newest).await);
        assert_eq!(fixture.ended(&invited).await, COMPLETED);
    }
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn denial_rejects_session_once() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let denied = fixture.message(AuthorizationDenied { session_id: invited.session_id });
    reply(fixture.deliver(denied.clone()).await);
    assert_eq!(fixture.ended(&invited).await, (SessionState::Rejected, None));
    reply(fixture.deliver(denied).await);
    assert_eq!(fixture.bus.left(), [""; 0]);

    // Too late: the token is there.
    let invited = fixture.invited(0).await;
    assert_eq!(fixture.end_of(&invited).await, COMPLETED);
    reply(fixture.deliver(fixture.message(AuthorizationDenied { session_id: invited.session_id })).await);
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Completed);
    assert_eq!(fixture.bus.left(), [""; 0]);
}

#[tokio::test]
async fn code_malformed_is_dead_letter() {
    let fixture = Fixture::new().await;
    let (invited, other) = (fixture.invited(0).await, fixture.invited(1).await);
    let code = fixture.consent(&other, 1).await;
    let dead = async |delivery| match fixture.handle(delivery).await {
        Disposition::Dead { reason, .. } => reason,
        disposition => panic!("{disposition:?}"),
    };
    let good = delivery(&fixture.code_message(&invited, &code).await);
    for body in ["", "{}", "{\"type\":\"larkauth.oauth.code_received.v1\",\"data\":{}}"] {
        let mut poison = good.clone();
        poison.body = body.to_owned().into();
        dead(poison).await;
    }
    let mut unknown = good.clone();
    unknown.r#type = "larkauth.oauth.code_received.v9".to_owned();
    dead(unknown).await;

    let mut moved = fixture.code_message(&other, &code).await;
    moved.data.session_id = invited.session_id;
    let reason = dead(delivery(&moved)).await;
    assert!(!reason.contains(code.expose_secret()), "{reason}");

    let mut nobodys = fixture.code_message(&invited, &code).await;
    nobodys.data.session_id = larkauth_models::SessionId(uuid::Uuid::from_u128(9));
    assert!(dead(delivery(&nobodys)).await.contains("no session"));

    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);
}

#[tokio::test]
async fn exchange_odd_answers_completes() {
    let person =
        json!({ "data": { "name": 7, "email": [], "mobile": null, "user_id": {}, "avatar_url": null } });
    for (endpoint, status, merge) in [
        (
            Endpoint::TokenCode,
            200,
            json!({ "code": "0", "expires_in": "7200s", "scope": ["offline_access"] }),
        ),
        (Endpoint::TokenCode, 200, json!({ "code": null, "expires_in": null, "scope": null })),
        (Endpoint::TokenCode, 200, json!({ "expires_in": -1, "refresh_token_expires_in": 1e300, "new": {} })),
        (Endpoint::TokenCode, 400, json!({ "expires_in": 7200.0 })),
        (Endpoint::UserInfo, 200, person),
        (Endpoint::UserInfo, 200, json!({ "code": "0", "msg": {} })),
    ] {
        let fixture = Fixture::new().await;
        let invited = fixture.invited(0).await;
        fixture.sim.faults().push(Fault::at(endpoint, Effect::Reshaped { status, merge: merge.clone() }));
        assert_eq!(fixture.end_of(&invited).await, COMPLETED, "{merge}");
        assert!(fixture.token(&invited.open_id).await.unwrap().pair.refresh_token.is_some(), "{merge}");
    }
}

#[tokio::test]
async fn exchange_refused_for_good_fails_session_at_once() {
    use FailureReason::{AppMisconfigured, CodeInvalid, UserUnavailable};
    for (answer, reason) in [
        (json!({ "code": "20003" }), CodeInvalid),
        (json!({ "code": 29999, "error": "invalid_grant" }), CodeInvalid),
        (json!({ "code": null, "error": "invalid_grant" }), CodeInvalid),
        (json!({ "code": 29999, "error": "access_denied" }), UserUnavailable),
        (json!({ "code": 29999, "error": "invalid_client" }), AppMisconfigured),
        (json!({ "code": 29999, "error": "invalid_scope" }), AppMisconfigured),
        (json!({ "code": 20027, "error": "server_error" }), AppMisconfigured),
        (json!({ "code": 99_992_402, "error": null }), AppMisconfigured),
        (json!({ "code": 1_000_040_351, "error": null }), AppMisconfigured),
    ] {
        let fixture = Fixture::new().await;
        let invited = fixture.invited(0).await;
        let mut merge = answer.clone();
        merge["access_token"] = json!(null);
        fixture.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Reshaped { status: 400, merge }));
        assert_eq!(fixture.end_of(&invited).await, failed(reason), "{answer}");
        assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 1, "{answer}");
    }
}
