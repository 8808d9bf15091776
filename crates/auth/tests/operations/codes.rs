//! What the browser brings back: a code becomes a token once, or the session ends visibly.

use std::time::Duration;

use larkauth_auth::{AuthError, redirect::Consent};
use larkauth_contracts::message::{AuthorizationCodeReceived, AuthorizationDenied, SessionEnded};
use larkauth_lark::api::CodeGrant;
use larkauth_lark_sim::{Effect, Endpoint, Fault, SimConfig, SimUser};
use larkauth_messaging::Verdict;
use larkauth_models::{
    AuthMethod, ExposeSecret, FailureReason, OpenId, Person, SecretString, SessionState, StoredToken,
    TokenApi, TokenKind, UserId,
};

use tokio::time::Instant;

use crate::fixture::{ACTOR, Invited, Setup, Stage, delivery, reply};

impl Stage {
    async fn token(&self, of: &OpenId) -> Option<StoredToken> {
        self.parts.store.token(&self.app_id(), of, TokenKind::User).await.unwrap()
    }

    /// Consents, brings the code back, and gives how the session ended.
    async fn end_of(&self, invited: &Invited) -> (SessionState, Option<FailureReason>) {
        let code = self.consent(invited, 0).await;
        let reply = reply(self.deliver(self.code_message(invited, &code).await).await);
        assert_eq!((reply.answer, reply.shows), (None, None), "the waiting browser only needs to look");
        self.ended(invited).await
    }

    /// How the session ended, as announced.
    async fn ended(&self, invited: &Invited) -> (SessionState, Option<FailureReason>) {
        let session = self.session(invited.session_id).await;
        let announced = self.bus.take::<SessionEnded>().data;
        assert_eq!((announced.state, announced.failure_reason), (session.state, session.failure_reason));
        assert!(session.consent.is_none(), "the secrets of an ended session are gone");
        (session.state, session.failure_reason)
    }
}

const COMPLETED: (SessionState, Option<FailureReason>) = (SessionState::Completed, None);

const fn failed(reason: FailureReason) -> (SessionState, Option<FailureReason>) {
    (SessionState::Failed, Some(reason))
}

#[tokio::test]
async fn a_code_becomes_a_token_and_a_profile() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let code = stage.consent(&invited, 0).await;
    let message = stage.code_message(&invited, &code).await;
    reply(stage.deliver(message.clone()).await);

    let ended = stage.bus.take::<SessionEnded>();
    assert_eq!((ended.data.state, ended.data.card_answer_pending), (SessionState::Completed, false));
    let session = stage.session(invited.session_id).await;
    let user = &stage.sim.users()[0];
    assert_eq!(session.user_name.as_deref(), Some(user.name.as_str()));
    assert_eq!(stage.context.english_name(&session).await.as_deref(), Some(user.en_name.as_str()));
    assert_eq!(session.mobile.unwrap().expose_secret(), user.mobile.as_deref().unwrap());
    assert_eq!(session.completed_at, Some(stage.context.now()));
    let token = stage.token(&invited.open_id).await.unwrap();
    assert!(stage.sim.issued_secrets().iter().any(|s| s == token.pair.access_token.expose_secret()));
    assert!(token.pair.refresh_token.is_some() && token.pair.access_expires_at > stage.context.now());
    let profile = stage.parts.store.profile(&stage.app_id(), &invited.open_id).await.unwrap().unwrap();
    assert_eq!(profile.email.unwrap().expose_secret(), user.email.as_deref().unwrap());

    // The same event again, as a reloaded page publishes it, and the same code under another id.
    reply(stage.deliver(message).await);
    reply(stage.deliver(stage.code_message(&invited, &code).await).await);
    assert_eq!(stage.bus.left(), [""; 0]);
    assert_eq!(stage.sim.stats().calls(Endpoint::TokenCode), 1);
    assert_eq!(stage.token(&invited.open_id).await.unwrap().generation, token.generation);
    assert_eq!(stage.sim.violations(), []);
}

#[tokio::test]
async fn the_historical_endpoint_is_used_where_chosen() {
    let stage = Stage::with(Setup { token_api: TokenApi::V1, ..Setup::default() }).await;
    let invited = stage.invited(0).await;
    assert_eq!(stage.end_of(&invited).await, COMPLETED);
    assert_eq!(
        (stage.sim.stats().calls(Endpoint::OidcCode), stage.sim.stats().calls(Endpoint::TokenCode)),
        (1, 0)
    );
}

#[tokio::test]
async fn a_person_without_contact_data_is_fine() {
    let sim = SimConfig { users: vec![SimUser::numbered(1).without_contact_data()], ..SimConfig::default() };
    let stage = Stage::with(Setup { sim, ..Setup::default() }).await;
    let invited = stage.invited(0).await;
    assert_eq!(stage.end_of(&invited).await, COMPLETED);
    let session = stage.session(invited.session_id).await;
    assert!(session.email.is_none() && session.mobile.is_none() && session.person.user_id.is_none());
    assert!(stage.token(&invited.open_id).await.is_some());
}

#[tokio::test]
async fn a_person_known_by_user_id_gets_their_open_id() {
    let stage = Stage::new().await;
    let user_id = UserId::new(stage.sim.users()[0].user_id.clone().unwrap()).unwrap();
    let invited = stage.invited_as(0, Person { open_id: None, user_id: Some(user_id) }).await;
    assert_eq!(stage.end_of(&invited).await, COMPLETED);
    assert_eq!(stage.session(invited.session_id).await.person.open_id.as_ref(), Some(&invited.open_id));
    assert!(stage.token(&invited.open_id).await.is_some());
}

#[tokio::test]
async fn without_the_permission_to_see_user_ids_nobody_is_taken_for_somebody_else() {
    let sim = SimConfig { users: vec![SimUser::numbered(1).without_contact_data()], ..SimConfig::default() };
    let stage = Stage::with(Setup { sim, ..Setup::default() }).await;
    let person = Person { open_id: None, user_id: Some(UserId::new("u1").unwrap()) };
    let mut invite = stage.invitation(person);
    invite.auth_method = AuthMethod::Oauth;
    let session = stage.context.invite(&ACTOR, stage.context.now(), invite).await.unwrap();
    let message_id = "om_none".parse().unwrap();
    let invited = Invited { session_id: session.id, message_id, open_id: stage.person(0) };
    assert_eq!(stage.end_of(&invited).await, failed(FailureReason::AppMisconfigured));
    assert!(stage.token(&invited.open_id).await.is_none(), "nothing is stored without proof");
}

#[tokio::test]
async fn a_person_who_is_not_the_one_asked_gets_nothing_stored() {
    let stage = Stage::new().await;
    let by_open_id = stage.invited(0).await;
    let user_id = UserId::new(stage.sim.users()[0].user_id.clone().unwrap()).unwrap();
    let by_user_id = stage.invited_as(0, Person { open_id: None, user_id: Some(user_id) }).await;
    for invited in [by_open_id, by_user_id] {
        let code = stage.consent(&invited, 1).await;
        reply(stage.deliver(stage.code_message(&invited, &code).await).await);
        assert_eq!(stage.ended(&invited).await, failed(FailureReason::IdentityMismatch));
    }
    for n in [0, 1] {
        assert!(stage.token(&stage.person(n)).await.is_none());
        let profile = stage.parts.store.profile(&stage.app_id(), &stage.person(n)).await.unwrap();
        assert!(profile.is_none(), "nothing at all is stored");
    }
}

#[tokio::test]
async fn a_dead_code_ends_the_session() {
    let stage = Stage::new().await;
    // Unknown to Lark.
    let invited = stage.invited(0).await;
    reply(stage.deliver(stage.code_message(&invited, &SecretString::from("never-issued")).await).await);
    assert_eq!(stage.ended(&invited).await, failed(FailureReason::CodeInvalid));
    // Expired: it lives 5 minutes, the invitation 10.
    let invited = stage.invited(1).await;
    let code = stage.consent(&invited, 1).await;
    stage.clock.advance(Duration::from_secs(301));
    reply(stage.deliver(stage.code_message(&invited, &code).await).await);
    assert_eq!(stage.ended(&invited).await, failed(FailureReason::CodeInvalid));
    // Used before.
    let (first, second) = (stage.invited(2).await, stage.invited(2).await);
    let code = stage.consent(&first, 2).await;
    stage.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::LostAnswer));
    reply(stage.deliver(stage.code_message(&first, &code).await).await);
    assert_eq!(stage.ended(&first).await, failed(FailureReason::ExchangeOutcomeUnknown));
    reply(stage.deliver(stage.code_message(&second, &code).await).await);
    assert_eq!(stage.ended(&second).await, failed(FailureReason::CodeInvalid));
}

#[tokio::test]
async fn a_code_after_the_end_of_time_expires_the_session() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let code = stage.consent(&invited, 0).await;
    stage.clock.advance(Duration::from_secs(600));
    reply(stage.deliver(stage.code_message(&invited, &code).await).await);
    assert_eq!(stage.ended(&invited).await, (SessionState::Expired, None));
    assert_eq!(stage.sim.stats().calls(Endpoint::TokenCode), 0);
}

#[tokio::test]
async fn what_passes_is_tried_again_with_the_same_code() {
    for effect in [
        Effect::Cut,
        Effect::Answer { status: 503, code: 20072 },
        Effect::Answer { status: 500, code: 20050 },
        Effect::TooManyRequests(7),
    ] {
        let stage = Stage::new().await;
        let invited = stage.invited(0).await;
        // More often than the client repeats by itself.
        stage.sim.faults().push(Fault::at(Endpoint::TokenCode, effect.clone()).times(1));
        let code = stage.consent(&invited, 0).await;
        let message = stage.code_message(&invited, &code).await;
        let verdict = stage.deliver(message.clone()).await;
        if effect == Effect::Cut {
            // The request went out and nothing came back: the code may be used up.
            assert!(matches!(verdict, Verdict::Done { .. }), "{verdict:?}");
            assert_eq!(stage.ended(&invited).await, failed(FailureReason::ExchangeOutcomeUnknown));
            continue;
        }
        let Verdict::Retry { after, .. } = verdict else { panic!("{effect:?}: {verdict:?}") };
        assert_eq!(after, matches!(effect, Effect::TooManyRequests(_)).then_some(Duration::from_secs(7)));
        let mut again = delivery(&message);
        again.attempt = 2;
        reply(stage.handle(again).await);
        assert_eq!(stage.ended(&invited).await, COMPLETED, "{effect:?}");
        assert_eq!(stage.sim.violations(), []);
    }
}

#[tokio::test]
async fn a_code_that_was_used_up_by_a_try_that_lark_called_failed_ends_visibly() {
    for code in [20050, 20072] {
        let stage = Stage::new().await;
        let invited = stage.invited(0).await;
        let authorization = stage.consent(&invited, 0).await;
        let message = stage.code_message(&invited, &authorization).await;
        stage.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 500, code }));
        assert!(matches!(stage.deliver(message.clone()).await, Verdict::Retry { .. }));
        // Lark had acted on it all the same.
        let app = stage.parts.apps.get(&stage.app_id()).await.unwrap();
        let grant = CodeGrant {
            code: authorization,
            redirect_uri: app.application.redirect_uri.clone(),
            code_verifier: Some(stage.session(invited.session_id).await.consent.unwrap().pkce_verifier),
        };
        let until = Instant::now() + Duration::from_secs(20);
        app.client.exchange_code(TokenApi::V2, &grant, until).await.unwrap();

        let mut again = delivery(&message);
        again.attempt = 2;
        reply(stage.handle(again).await);
        assert_eq!(stage.ended(&invited).await, failed(FailureReason::ExchangeOutcomeUnknown));
        assert!(stage.token(&invited.open_id).await.is_none());
    }
}

#[tokio::test]
async fn trying_again_ends_with_the_life_of_the_code() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let code = stage.consent(&invited, 0).await;
    let message = stage.code_message(&invited, &code).await;
    stage
        .sim
        .faults()
        .push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 503, code: 20072 }).until_cleared());
    assert!(matches!(stage.deliver(message.clone()).await, Verdict::Retry { .. }));
    stage.clock.advance(Duration::from_secs(280));
    reply(stage.deliver(message).await);
    assert_eq!(stage.ended(&invited).await, failed(FailureReason::UpstreamUnavailable));
}

#[tokio::test]
async fn who_the_person_is_is_asked_again_and_then_given_up() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    stage.sim.faults().push(Fault::at(Endpoint::UserInfo, Effect::Answer { status: 503, code: 1 }).times(4));
    assert_eq!(stage.end_of(&invited).await, COMPLETED, "a short trouble is waited out");

    for (code, reason) in
        [(20022, FailureReason::UserUnavailable), (20005, FailureReason::UpstreamUnavailable)]
    {
        let invited = stage.invited(0).await;
        stage.sim.faults().push(Fault::at(Endpoint::UserInfo, Effect::Answer { status: 200, code }).times(1));
        assert_eq!(stage.end_of(&invited).await, failed(reason), "{code}");
    }
}

#[tokio::test]
async fn an_application_at_fault_is_frozen_and_thaws() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    stage.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 400, code: 20002 }));
    assert_eq!(stage.end_of(&invited).await, failed(FailureReason::AppMisconfigured));

    let person = Person { open_id: Some(stage.person(1)), user_id: None };
    let refused =
        stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(person)).await.unwrap_err();
    assert!(matches!(refused, AuthError::AppFrozen { .. }), "{refused}");
    assert_eq!(stage.bus.left(), [""; 0], "nobody is asked");

    // After a while an invitation may try. That a card could be sent says nothing about the token endpoint; a code that
    // was exchanged does, and closes the breaker.
    stage.clock.advance(Duration::from_secs(301));
    let probe = stage.invited(0).await;
    stage.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 400, code: 20002 }));
    assert_eq!(stage.end_of(&probe).await, failed(FailureReason::AppMisconfigured));
    let person = Person { open_id: Some(stage.person(1)), user_id: None };
    let refused =
        stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(person)).await.unwrap_err();
    assert!(
        matches!(refused, AuthError::AppFrozen { .. }),
        "one was let through, and refused again: {refused}"
    );

    stage.clock.advance(Duration::from_secs(301));
    let again = stage.invited(0).await;
    let frozen = async || stage.parts.store.application(&stage.app_id()).await.unwrap().unwrap().frozen_since;
    assert!(frozen().await.is_some());
    stage.end_of(&again).await;
    assert_eq!(frozen().await, None);
}

#[tokio::test]
async fn a_wrong_setting_fails_the_session_and_freezes_nobody() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    stage.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 400, code: 20071 }));
    assert_eq!(stage.end_of(&invited).await, failed(FailureReason::AppMisconfigured));
    stage.invited(1).await;
}

#[tokio::test]
async fn a_code_that_somebody_else_is_exchanging_is_left_alone() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let code = stage.consent(&invited, 0).await;
    let message = stage.code_message(&invited, &code).await;
    let now = stage.context.now();
    let claim = stage.context.new_uuid();
    let until = now + Duration::from_secs(40);
    stage.parts.store.claim_exchange(invited.session_id, None, claim, now, until).await.unwrap();

    let verdict = stage.deliver(message.clone()).await;
    assert!(matches!(verdict, Verdict::Retry { after: Some(_), .. }), "{verdict:?}");
    assert_eq!(stage.session(invited.session_id).await.state, SessionState::Pending);

    // It never said how it went: the code may be used up, so it is not used again.
    stage.clock.advance(Duration::from_secs(41));
    reply(stage.deliver(message).await);
    assert_eq!(stage.ended(&invited).await, failed(FailureReason::ExchangeInterrupted));
    assert_eq!(stage.sim.stats().calls(Endpoint::TokenCode), 0);
}

#[tokio::test]
async fn a_superseded_code_changes_nothing() {
    let stage = Stage::new().await;
    for reloaded in [false, true] {
        let invited = stage.invited(0).await;
        let state = stage.session(invited.session_id).await.consent.unwrap().state;
        let land = async |code: &SecretString| {
            // Nobody answers on this bus, but the message is on it.
            stage.context.take_redirect(&state, Consent::Code(code.clone())).await.unwrap_err();
            stage.bus.take::<AuthorizationCodeReceived>()
        };
        let codes = [stage.consent(&invited, 0).await, stage.consent(&invited, 0).await];
        let (first, second) = (land(&codes[0]).await, land(&codes[1]).await);
        assert_ne!(first.id, second.id, "the second is no duplicate of the first");
        let calls = stage.sim.stats().calls(Endpoint::TokenCode);
        let passed_over = async |message| {
            reply(stage.deliver(message).await);
            assert_eq!(stage.sim.stats().calls(Endpoint::TokenCode), calls, "it is not exchanged");
            assert_eq!(stage.session(invited.session_id).await.state, SessionState::Pending);
            assert_eq!(stage.bus.left(), [""; 0]);
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
        reply(stage.deliver(newest).await);
        assert_eq!(stage.ended(&invited).await, COMPLETED);
    }
    assert_eq!(stage.sim.violations(), []);
}

#[tokio::test]
async fn a_refusal_on_the_page_ends_the_session_once() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let denied = stage.message(AuthorizationDenied { session_id: invited.session_id });
    reply(stage.deliver(denied.clone()).await);
    assert_eq!(stage.ended(&invited).await, (SessionState::Rejected, None));
    reply(stage.deliver(denied).await);
    assert_eq!(stage.bus.left(), [""; 0]);

    // Too late: the token is there.
    let invited = stage.invited(0).await;
    assert_eq!(stage.end_of(&invited).await, COMPLETED);
    reply(stage.deliver(stage.message(AuthorizationDenied { session_id: invited.session_id })).await);
    assert_eq!(stage.session(invited.session_id).await.state, SessionState::Completed);
    assert_eq!(stage.bus.left(), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_read_is_dead_at_once() {
    let stage = Stage::new().await;
    let (invited, other) = (stage.invited(0).await, stage.invited(1).await);
    let code = stage.consent(&other, 1).await;
    let dead = async |delivery| match stage.handle(delivery).await {
        Verdict::Dead { reason } => reason,
        verdict => panic!("{verdict:?}"),
    };
    let good = delivery(&stage.code_message(&invited, &code).await);
    for body in ["", "{}", "{\"type\":\"larkauth.oauth.code_received.v1\",\"data\":{}}"] {
        let mut poison = good.clone();
        poison.body = body.to_owned().into();
        dead(poison).await;
    }
    let mut unknown = good.clone();
    unknown.r#type = "larkauth.oauth.code_received.v9".to_owned();
    dead(unknown).await;

    let mut moved = stage.code_message(&other, &code).await;
    moved.data.session_id = invited.session_id;
    let reason = dead(delivery(&moved)).await;
    assert!(!reason.contains(code.expose_secret()), "{reason}");

    let mut nobodys = stage.code_message(&invited, &code).await;
    nobodys.data.session_id = larkauth_models::SessionId(uuid::Uuid::from_u128(9));
    assert!(dead(delivery(&nobodys)).await.contains("no session"));

    assert_eq!(stage.session(invited.session_id).await.state, SessionState::Pending);
}
