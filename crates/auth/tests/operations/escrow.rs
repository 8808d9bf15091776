//! Nothing that Lark gave is lost: tokens are in escrow until their session ends.

use std::{fs, path::PathBuf, time::Duration};

use larkauth_auth::Policy;
use larkauth_contracts::{
    message::{AuthorizationCodeReceived, Envelope, EscrowPlace, SealedText, SessionEnded, TokenEscrowed},
    topology::Queue,
};
use larkauth_lark::api::CodeGrant;
use larkauth_lark_sim::{Effect, Endpoint, Fault};
use larkauth_messaging::Disposition;
use larkauth_models::{Backoff, FailureReason, SecretString, SessionState, TokenApi, TokenPair};
use larkauth_storage::{seal_escrow, testing::act};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    codes::{COMPLETED, failed},
    fixture::{ACTOR, Fixture, Invited, Setup, delivery, policy, reply, running},
};

/// Claims expire at once, so that the next look takes them over, and Lark is asked for a second at most.
pub(crate) async fn impatient() -> Fixture {
    let handler_deadline = Policy::default().handler_deadline;
    let policy = Policy {
        exchange_claim: Duration::ZERO,
        resume_pause: Duration::ZERO,
        commit_reserve: Duration::from_secs(20),
        resume_deadline: handler_deadline,
        retry: Backoff::new(Duration::from_millis(20), Duration::from_millis(100), 0.2),
        ..policy(100)
    };
    Fixture::with(Setup { policy, ..Setup::default() }).await
}

/// A person whose code is on its way to the worker.
pub(crate) struct Consented {
    pub(crate) invited: Invited,
    code: SecretString,
    pub(crate) message: Envelope<AuthorizationCodeReceived>,
}

impl Fixture {
    pub(crate) async fn consented(&self) -> Consented {
        let invited = self.invited(0).await;
        let code = self.consent(&invited, 0).await;
        let message = self.code_message(&invited, &code).await;
        Consented { invited, code, message }
    }

    /// Claims, marks as sent and exchanges the code, as a worker that is killed then. The claim has expired.
    pub(crate) async fn exchanged_and_killed(&self, consented: &Consented) -> (Uuid, TokenPair) {
        let (id, claim) = (consented.invited.session_id, self.context.new_uuid());
        let store = &self.parts.store;
        store.claim_exchange(id, None, claim, Duration::ZERO).await.unwrap();
        assert!(store.mark_exchange_sent(id, claim).await.unwrap());
        let app = self.parts.apps.get(&self.app_id()).await.unwrap();
        let grant = CodeGrant {
            code: consented.code.clone(),
            redirect_uri: app.application.redirect_uri.clone(),
            code_verifier: Some(self.session(id).await.consent.unwrap().pkce_verifier),
        };
        let until = Instant::now() + Duration::from_secs(20);
        (claim, app.client.exchange_code(TokenApi::V2, &grant, until).await.unwrap())
    }

    pub(crate) async fn resume(&self) -> u64 {
        self.context.resume_exchanges(&ACTOR, self.context.now(), &running()).await.unwrap()
    }

    pub(crate) async fn state(&self, of: &Consented) -> SessionState {
        self.session(of.invited.session_id).await.state
    }

    /// Has the database refuse every change of a session whose code was sent.
    async fn refuse_rows(&self) {
        self.sql(
            "create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
             create trigger refuse before update on user_auth_sessions for each row
             when (old.exchange_sent_at is not null) execute function refuse()",
        )
        .await;
    }

    async fn accept_rows(&self) {
        self.sql("drop trigger refuse on user_auth_sessions; drop function refuse()").await;
    }

    /// The number of sessions with tokens in escrow.
    pub(crate) async fn in_escrow(&self) -> i64 {
        let mut db = self.database.connection().await;
        let count = "select count(*) from user_auth_sessions where exchange_escrow_sealed is not null";
        sqlx::query_scalar(count).fetch_one(&mut db).await.unwrap()
    }

    fn spooled(&self) -> Vec<PathBuf> {
        let folder = self.spool.path().join("escrow");
        let files =
            fs::read_dir(folder).map_or(Vec::new(), |files| files.map(|file| file.unwrap().path()).collect());
        files.into_iter().filter(|file| file.extension().is_some_and(|ending| ending != "reserve")).collect()
    }

    fn assert_no_token_in(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for secret in self.sim.issued_secrets() {
            assert!(!text.contains(&secret), "a token in the clear");
        }
    }

    pub(crate) async fn assert_completed(&self, consented: &Consented) {
        assert_eq!(self.ended(&consented.invited).await, COMPLETED);
        assert!(self.token(&consented.invited.open_id).await.is_some());
        assert_eq!(self.in_escrow().await, 0, "wiped with the end of the session");
        assert_eq!(self.sim.stats().calls(Endpoint::TokenCode), 1, "the code was sent once");
        assert_eq!(self.sim.violations(), []);
    }
}

fn user_info_down() -> Fault {
    Fault::at(Endpoint::UserInfo, Effect::Answer { status: 503, code: 1 }).until_cleared()
}

#[tokio::test]
async fn exchange_while_user_info_is_down_completes_afterwards() {
    for by_delivery in [false, true] {
        let fixture = impatient().await;
        let consented = fixture.consented().await;
        fixture.sim.faults().push(user_info_down());
        reply(fixture.deliver(consented.message.clone()).await);
        assert_eq!((fixture.state(&consented).await, fixture.in_escrow().await), (SessionState::Pending, 1));
        // Longer than the code and the invitation live.
        fixture.clock.advance(Duration::from_secs(15 * 60));
        assert_eq!(
            fixture.context.expire_sessions(&ACTOR, fixture.context.now(), &running()).await.unwrap(),
            0
        );
        assert_eq!(fixture.resume().await, 0);
        assert_eq!((fixture.state(&consented).await, fixture.in_escrow().await), (SessionState::Pending, 1));
        assert!(fixture.token(&consented.invited.open_id).await.is_none());

        fixture.sim.faults().clear();
        if by_delivery {
            reply(fixture.deliver(consented.message.clone()).await);
        } else {
            assert_eq!(fixture.resume().await, 1);
        }
        fixture.assert_completed(&consented).await;
        assert_eq!(fixture.resume().await, 0);
    }
}

#[tokio::test]
async fn exchange_while_user_info_is_down_until_token_expires_fails_session() {
    let fixture = impatient().await;
    let consented = fixture.consented().await;
    fixture.sim.faults().push(user_info_down());
    reply(fixture.deliver(consented.message.clone()).await);
    fixture.clock.advance(Duration::from_secs(3 * 3600));
    assert_eq!(fixture.resume().await, 1);
    assert_eq!(fixture.ended(&consented.invited).await, failed(FailureReason::UpstreamUnavailable));
    assert_eq!(fixture.in_escrow().await, 0);
}

#[tokio::test]
async fn resume_exchanges_of_other_person_wipes_escrow() {
    let fixture = impatient().await;
    let invited = fixture.invited(0).await;
    let code = fixture.consent(&invited, 1).await;
    let message = fixture.code_message(&invited, &code).await;
    fixture.sim.faults().push(user_info_down());
    reply(fixture.deliver(message).await);
    assert_eq!(fixture.in_escrow().await, 1);
    fixture.sim.faults().clear();
    assert_eq!(fixture.resume().await, 1);
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::IdentityMismatch));
    assert_eq!(fixture.in_escrow().await, 0);
    for n in [0, 1] {
        assert!(fixture.token(&fixture.person(n)).await.is_none(), "nothing is stored");
    }
}

#[tokio::test]
async fn exchange_killed_after_escrow_resumed_by_next_delivery_or_sweep() {
    for by_delivery in [true, false] {
        let fixture = Fixture::new().await;
        let consented = fixture.consented().await;
        let (claim, pair) = fixture.exchanged_and_killed(&consented).await;
        let id = consented.invited.session_id;
        let sealed = seal_escrow(&fixture.parts.cipher, id, &pair).unwrap();
        fixture.assert_no_token_in(&sealed.0);
        assert!(fixture.parts.store.escrow_exchange(id, claim, &sealed).await.unwrap());
        if by_delivery {
            reply(fixture.deliver(consented.message.clone()).await);
        } else {
            assert_eq!(fixture.resume().await, 1);
        }
        fixture.assert_completed(&consented).await;
    }
}

#[tokio::test]
async fn exchange_killed_before_sent_exchanged_again() {
    let fixture = Fixture::new().await;
    let consented = fixture.consented().await;
    let (store, claim) = (&fixture.parts.store, fixture.context.new_uuid());
    store.claim_exchange(consented.invited.session_id, None, claim, Duration::ZERO).await.unwrap();
    assert_eq!(fixture.resume().await, 0, "the next delivery of the code exchanges it");
    reply(fixture.deliver(consented.message.clone()).await);
    fixture.assert_completed(&consented).await;
}

#[tokio::test]
async fn exchange_killed_after_sent_without_escrow_fails_after_a_wait() {
    for by_delivery in [true, false] {
        let fixture = impatient().await;
        let consented = fixture.consented().await;
        fixture.exchanged_and_killed(&consented).await;
        // The first look waits for an escrow that may be on its way.
        if by_delivery {
            let disposition = fixture.deliver(consented.message.clone()).await;
            assert!(matches!(disposition, Disposition::Retry { after: Some(_), .. }), "{disposition:?}");
            reply(fixture.deliver(consented.message.clone()).await);
        } else {
            assert_eq!(fixture.resume().await, 0);
            assert_eq!(fixture.resume().await, 1);
        }
        assert_eq!(fixture.ended(&consented.invited).await, failed(FailureReason::ExchangeOutcomeUnknown));
        assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 1, "the code is not used again");
    }
}

#[tokio::test]
async fn exchange_with_refused_row_completes_by_bus() {
    let fixture = impatient().await;
    let consented = fixture.consented().await;
    fixture.refuse_rows().await;
    reply(fixture.deliver(consented.message.clone()).await);
    assert_eq!((fixture.state(&consented).await, fixture.in_escrow().await), (SessionState::Pending, 0));
    let escrowed = fixture.bus.take::<TokenEscrowed>();
    fixture.assert_no_token_in(&escrowed.encode().unwrap());

    // The row is still refused: retried with backoff, then published anew instead of becoming a dead letter.
    let mut again = delivery(&escrowed);
    assert!(matches!(fixture.handle(again.clone()).await, Disposition::Retry { after: None, .. }));
    again.attempt = 5;
    assert_eq!(fixture.handle(again).await, Disposition::DONE);
    let (later, wait) = fixture.bus.take_delayed::<TokenEscrowed>();
    assert_eq!((&later, wait), (&escrowed, Some((Queue::Escrows, Duration::from_secs(16)))));

    fixture.accept_rows().await;
    assert_eq!(fixture.deliver(later).await, Disposition::DONE);
    fixture.assert_completed(&consented).await;
    assert_eq!(fixture.deliver(escrowed).await, Disposition::DONE, "a repeated message has no second effect");
    assert_eq!(fixture.bus.left(), [""; 0]);
}

#[tokio::test]
async fn exchange_with_refused_row_and_bus_down_completes_by_spool() {
    let fixture = impatient().await;
    let consented = fixture.consented().await;
    fixture.refuse_rows().await;
    fixture.bus.go_down();
    reply(fixture.deliver(consented.message.clone()).await);
    assert_eq!(fixture.state(&consented).await, SessionState::Pending);
    let files = fixture.spooled();
    assert_eq!(files.len(), 1);
    fixture.assert_no_token_in(&fs::read(&files[0]).unwrap());

    let replay =
        async || fixture.context.replay_spool(&ACTOR, fixture.context.now(), &running()).await.unwrap();
    assert_eq!((replay().await, fixture.spooled().len()), (0, 1), "the row is still refused");
    fixture.accept_rows().await;
    fixture.bus.come_back();
    fs::write(fixture.spool.path().join("escrow/other.escrow"), "not a message").unwrap();
    assert_eq!(replay().await, 1);
    fixture.assert_completed(&consented).await;
    let left = fixture.spooled();
    assert_eq!(left.len(), 1);
    assert!(left[0].ends_with("other.broken"), "set aside: {left:?}");
    assert_eq!(replay().await, 0);
}

#[tokio::test]
async fn escrow_of_moved_or_ended_session_changes_nothing() {
    let fixture = impatient().await;
    let (consented, other) = (fixture.consented().await, fixture.invited(1).await);
    let (claim, pair) = fixture.exchanged_and_killed(&consented).await;
    let sealed = seal_escrow(&fixture.parts.cipher, consented.invited.session_id, &pair).unwrap();
    let store = &fixture.parts.store;
    let message = |session_id| {
        let place = EscrowPlace::Session { session_id, claim };
        fixture.message(TokenEscrowed { place, pair: SealedText(sealed.to_text()) })
    };
    // Moved to another session, the value does not open there.
    store.claim_exchange(other.session_id, None, claim, Duration::ZERO).await.unwrap();
    assert!(store.mark_exchange_sent(other.session_id, claim).await.unwrap());
    assert_eq!(fixture.deliver(message(other.session_id)).await, Disposition::DONE);
    assert!(fixture.token(&other.open_id).await.is_none());
    assert_eq!(fixture.session(other.session_id).await.state, SessionState::Pending);

    let failure = larkauth_storage::SessionEnding::Failed(FailureReason::ExchangeOutcomeUnknown);
    let id = consented.invited.session_id;
    assert!(store.end_session(id, failure, &act(fixture.context.now())).await.unwrap());
    assert_eq!(fixture.deliver(message(id)).await, Disposition::DONE);
    assert_eq!(fixture.state(&consented).await, SessionState::Failed);
    assert!(fixture.token(&consented.invited.open_id).await.is_none());
    assert!(!fixture.bus.left().contains(&<SessionEnded as larkauth_contracts::message::Message>::TYPE));
}
