//! The device flow: a card whose page needs no redirect, and polls that end in the same states and checks as a code.

use std::time::Duration;

use larkauth_auth::{AuthError, Context};
use larkauth_contracts::message::{CardActionKind, CardFaceRequested, Envelope, InvitationRequested};
use larkauth_lark_sim::{Effect, Endpoint, Fault, Lifetimes, SimConfig, ViolationKind};
use larkauth_messaging::Disposition;
use larkauth_models::{AuthMethod, ExposeSecret, FailureReason, Person, SessionId, SessionState, TokenApi};

use crate::{
    codes::{COMPLETED, failed},
    fixture::{ACTOR, APP, Fixture, Invited, Setup, reply, running, seen},
};

pub(crate) const PENDING: (SessionState, Option<FailureReason>) = (SessionState::Pending, None);
/// Longer than any pause of these tests: by the clock of the simulator, which counts polls that are too early.
pub(crate) const STEP: Duration = Duration::from_secs(20);

/// What is stored of the polls of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Polls {
    /// Whole seconds until the next one, rounded up.
    pub(crate) due_in: i32,
    pub(crate) interval: i32,
    pub(crate) failures: i32,
    pub(crate) is_answer_lost: bool,
}

impl Fixture {
    /// Asks the n-th person, and returns the message that has the card sent.
    pub(crate) async fn device_asked(&self, n: usize) -> (SessionId, Envelope<InvitationRequested>) {
        let mut invite = self.invitation(Person { open_id: Some(self.person(n)), user_id: None });
        invite.auth_method = AuthMethod::DeviceCode;
        let session = self.context.invite(&ACTOR, self.context.now(), invite).await.unwrap();
        (session.id, self.bus.take())
    }

    /// The n-th person is asked and has the card.
    pub(crate) async fn device(&self, n: usize) -> Invited {
        let (session_id, message) = self.device_asked(n).await;
        assert_eq!(self.deliver(message).await, Disposition::DONE);
        self.device_card(session_id, n).await
    }

    async fn device_card(&self, session_id: SessionId, n: usize) -> Invited {
        let message_id = self.session(session_id).await.message_id.unwrap();
        Invited { session_id, message_id, open_id: self.person(n) }
    }

    async fn user_code(&self, of: &Invited) -> String {
        self.session(of.session_id).await.device.unwrap().user_code.expose_secret().to_owned()
    }

    /// The n-th person agrees on the device page, or declines.
    pub(crate) async fn decide(&self, of: &Invited, n: Option<usize>) {
        let code = self.user_code(of).await;
        let person = n.map(|n| self.person(n));
        assert!(self.sim.decide_device(&code, person.as_ref().map(|id| id.as_str())).unwrap());
    }

    /// Lets the pauses of all polls pass.
    pub(crate) async fn polls_due(&self) {
        self.clock.advance(STEP);
        self.sql("update user_auth_sessions set device_poll_at = 'epoch' where device_poll_at is not null")
            .await;
    }

    /// Polls what is due, as the job does. Returns the number of ended sessions.
    pub(crate) async fn poll_due(&self) -> u64 {
        self.context.poll_device_codes(&ACTOR, self.context.now(), &running()).await.unwrap()
    }

    pub(crate) async fn poll(&self) -> u64 {
        self.polls_due().await;
        self.poll_due().await
    }

    pub(crate) async fn polls_of(&self, of: &Invited) -> Polls {
        let mut db = self.database.connection().await;
        let (due_in, interval, failures, is_answer_lost) = sqlx::query_as(
            "select ceil(extract(epoch from device_poll_at - clock_timestamp()))::integer,
                    device_interval_seconds, device_poll_failures, device_answer_lost
             from user_auth_sessions where session_id = $1",
        )
        .bind(of.session_id.0)
        .fetch_one(&mut db)
        .await
        .unwrap();
        Polls { due_in, interval, failures, is_answer_lost }
    }

    pub(crate) async fn state_of(&self, of: &Invited) -> (SessionState, Option<FailureReason>) {
        let session = self.session(of.session_id).await;
        (session.state, session.failure_reason)
    }

    fn card_text(&self, of: &Invited) -> String {
        self.sim.card(of.message_id.as_str()).unwrap().to_string()
    }

    pub(crate) fn polled(&self) -> u64 {
        self.sim.stats().calls(Endpoint::TokenDevice)
    }

    /// The person's consent is stored, in one poll without a violation.
    pub(crate) async fn completes(&self, of: &Invited) {
        assert_eq!(self.poll().await, 1);
        assert_eq!(self.ended(of).await, COMPLETED);
        assert!(self.token(&of.open_id).await.unwrap().pair.refresh_token.is_some());
        assert!(self.session(of.session_id).await.device.is_none(), "the codes of an ended session are gone");
    }
}

#[tokio::test]
async fn card_opens_page_and_poll_stores_token() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    let user_code = fixture.user_code(&invited).await;
    let card = fixture.card_text(&invited);
    assert!(card.contains(&format!("user_code={user_code}")), "the button opens the page: {card}");
    assert!(card.contains(&format!("shows the code {user_code}")), "{card}");
    assert!(card.contains("within 10 minutes"), "the session outlives its first codes: {card}");
    assert_eq!((fixture.poll_due().await, fixture.polled()), (0, 0), "the first poll is after the interval");
    let Polls { due_in, interval, .. } = fixture.polls_of(&invited).await;
    assert!((4..=5).contains(&due_in) && interval == 5, "{due_in} {interval}");

    assert_eq!(fixture.poll().await, 0);
    let polls = fixture.polls_of(&invited).await;
    assert_eq!(polls, Polls { due_in: 5, interval: 5, failures: 0, is_answer_lost: false });
    let clicked = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Authorize)).await);
    assert_eq!(
        seen(&clicked),
        ("Please confirm on the page that opened".to_owned(), Some("blue".to_owned()))
    );
    assert!(clicked.answer.unwrap().to_string().contains(&user_code), "a closed page can be opened again");

    fixture.decide(&invited, Some(0)).await;
    fixture.completes(&invited).await;
    assert_eq!((fixture.poll().await, fixture.polled()), (0, 2), "an ended session is not polled");
    assert_eq!(fixture.sim.violations(), []);
}

/// The tokens of the device flow come from the v2 endpoint, and v1 refuses their refresh.
#[tokio::test]
async fn application_with_token_api_v1_is_refused() {
    let fixture = Fixture::new().await;
    let (session_id, message) = fixture.device_asked(0).await;
    let now = fixture.context.now();
    let v1 = fixture.application(APP, TokenApi::V1);
    fixture.context.register_application(&ACTOR, now, &v1).await.unwrap();

    let mut invite = fixture.invitation(Person { open_id: Some(fixture.person(1)), user_id: None });
    invite.auth_method = AuthMethod::DeviceCode;
    let refused = fixture.context.invite(&ACTOR, now, invite).await.unwrap_err();
    assert!(matches!(&refused, AuthError::Invalid(text) if text.contains("token API v1")), "{refused}");
    fixture.authorized(2).await;

    assert_eq!(fixture.deliver(message).await, Disposition::DONE);
    let session = fixture.session(session_id).await;
    assert_eq!(session.failure_reason, Some(FailureReason::AppMisconfigured), "one that was open before");
    assert_eq!(fixture.sim.stats().calls(Endpoint::DeviceAuthorization), 0);
}

#[tokio::test]
async fn polls_are_rarer_until_the_page_is_opened() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    let due = "update user_auth_sessions set device_poll_at = clock_timestamp() - interval '5 s'";
    fixture.clock.advance(STEP);
    fixture.sql(due).await;
    assert_eq!((fixture.poll_due().await, fixture.polled()), (0, 0));
    reply(fixture.deliver(fixture.click(&invited, CardActionKind::Authorize)).await);
    assert_eq!((fixture.poll_due().await, fixture.polled()), (0, 1));
}

#[tokio::test]
async fn worker_that_stops_between_authorization_and_card_loses_no_codes() {
    let fixture = Fixture::new().await;
    let (session_id, message) = fixture.device_asked(0).await;
    fixture
        .sim
        .faults()
        .push(Fault::at(Endpoint::MessageSend, Effect::Answer { status: 500, code: 1 }).times(3));
    assert!(matches!(fixture.deliver(message.clone()).await, Disposition::Retry { .. }));
    let stored = fixture.session(session_id).await.device.unwrap();
    fixture.sim.faults().clear();
    assert_eq!(fixture.deliver(message).await, Disposition::DONE);
    let invited = fixture.device_card(session_id, 0).await;
    assert!(fixture.card_text(&invited).contains(stored.user_code.expose_secret()));
    assert_eq!(fixture.sim.stats().calls(Endpoint::DeviceAuthorization), 1);
    fixture.decide(&invited, Some(0)).await;
    fixture.completes(&invited).await;
    assert_eq!(fixture.sim.messages().len(), 1);
}

#[tokio::test]
async fn two_workers_send_one_card_with_the_codes_that_are_polled() {
    let fixture = Fixture::new().await;
    let (session_id, message) = fixture.device_asked(0).await;
    let (first, second) = tokio::join!(fixture.deliver(message.clone()), fixture.deliver(message));
    assert_eq!((first, second), (Disposition::DONE, Disposition::DONE));
    assert_eq!(fixture.sim.messages().len(), 1);
    let invited = fixture.device_card(session_id, 0).await;
    assert!(fixture.card_text(&invited).contains(&fixture.user_code(&invited).await));
    fixture.decide(&invited, Some(0)).await;
    fixture.completes(&invited).await;
}

#[tokio::test]
async fn many_pollers_poll_each_session_once() {
    let fixture = Fixture::new().await;
    for n in 0..3 {
        fixture.device(n).await;
    }
    fixture.polls_due().await;
    let pollers = (0..4).map(|_| async {
        let context = Context::new(fixture.parts.clone());
        for _ in 0..3 {
            context.poll_device_codes(&ACTOR, context.now(), &running()).await.unwrap();
        }
    });
    futures::future::join_all(pollers).await;
    assert_eq!(fixture.polled(), 3, "one poll an interval and session");
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn slow_down_makes_polls_rarer_for_good() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    fixture.poll().await;
    // As if another program polled the same code.
    fixture.sql("update user_auth_sessions set device_poll_at = 'epoch'").await;
    fixture.poll_due().await;
    let kinds: Vec<_> = fixture.sim.violations().iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [ViolationKind::DevicePolledEarly]);
    let slower = Polls { due_in: 10, interval: 10, failures: 0, is_answer_lost: false };
    assert_eq!(fixture.polls_of(&invited).await, slower);
    fixture.poll().await;
    assert_eq!(fixture.polls_of(&invited).await, slower);
    fixture.decide(&invited, Some(0)).await;
    fixture.completes(&invited).await;
}

#[tokio::test]
async fn lost_answer_with_pair_is_repeated_or_outcome_is_unknown() {
    for repeats in [true, false] {
        let sim = SimConfig { device_pair_repeats: repeats, ..SimConfig::default().with_users(1) };
        let fixture = Fixture::with(Setup { sim, ..Setup::default() }).await;
        let invited = fixture.device(0).await;
        fixture.decide(&invited, Some(0)).await;
        fixture.sim.faults().push(Fault::at(Endpoint::TokenDevice, Effect::LostAnswer));
        assert_eq!(fixture.poll().await, 0);
        assert_eq!(fixture.state_of(&invited).await, PENDING);
        let polls = fixture.polls_of(&invited).await;
        assert_eq!((polls.failures, polls.is_answer_lost, polls.due_in), (1, true, 10));
        if repeats {
            fixture.completes(&invited).await;
        } else {
            assert_eq!(fixture.poll().await, 1);
            assert_eq!(fixture.ended(&invited).await, failed(FailureReason::ExchangeOutcomeUnknown));
            assert!(fixture.token(&invited.open_id).await.is_none());
        }
    }
}

#[tokio::test]
async fn lost_answer_without_pair_changes_nothing() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenDevice, Effect::LostAnswer));
    fixture.poll().await;
    assert!(fixture.polls_of(&invited).await.is_answer_lost);
    fixture.poll().await;
    let polls = fixture.polls_of(&invited).await;
    assert_eq!((polls.failures, polls.is_answer_lost, polls.due_in), (0, false, 5));
    fixture.decide(&invited, Some(0)).await;
    fixture.completes(&invited).await;
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn consent_of_another_person_stores_nothing() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    fixture.decide(&invited, Some(1)).await;
    assert_eq!(fixture.poll().await, 1);
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::IdentityMismatch));
    for n in [0, 1] {
        assert!(fixture.token(&fixture.person(n)).await.is_none());
    }
}

#[tokio::test]
async fn decline_on_page_rejects() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    fixture.decide(&invited, None).await;
    assert_eq!(fixture.poll().await, 1);
    assert_eq!(fixture.ended(&invited).await, (SessionState::Rejected, None));
}

#[tokio::test]
async fn cancel_on_card_ends_polls_also_during_one() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    let cancel = fixture.click(&invited, CardActionKind::Cancel);
    assert_eq!(seen(&reply(fixture.deliver(cancel).await)).1.unwrap(), "grey");
    assert_eq!(fixture.ended(&invited).await, (SessionState::Rejected, None));
    assert_eq!((fixture.poll().await, fixture.polled()), (0, 0));

    // The pair of a poll that is under way is not wanted any more.
    let invited = fixture.device(1).await;
    fixture.decide(&invited, Some(1)).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenDevice, Effect::LateAnswer(1000)));
    let cancel = async {
        let asked =
            |sim: &larkauth_lark_sim::Sim| (sim.stats().calls(Endpoint::TokenDevice) > 0).then_some(());
        fixture.sim.wait_until(STEP, asked).await.unwrap();
        let cancel = fixture.click(&invited, CardActionKind::Cancel);
        assert_eq!(seen(&reply(fixture.deliver(cancel).await)).1.unwrap(), "grey");
    };
    tokio::join!(fixture.poll(), cancel);
    assert_eq!(fixture.ended(&invited).await, (SessionState::Rejected, None));
    assert!(fixture.token(&invited.open_id).await.is_none());
    assert_eq!(fixture.bus.left(), [""; 0], "ended once");
}

#[tokio::test]
async fn expired_codes_are_replaced_and_card_opens_the_new_page() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    let first = fixture.user_code(&invited).await;
    fixture.clock.advance(Duration::from_secs(240));
    assert_eq!(fixture.poll().await, 0);
    assert_eq!(fixture.polled(), 0, "codes that are over are not polled");
    let second = fixture.user_code(&invited).await;
    assert!(second != first && !fixture.sim.decide_device(&first, Some(invited.open_id.as_str())).unwrap());

    // The request is repeated until the card shows the codes.
    fixture.bus.take::<CardFaceRequested>();
    fixture.poll().await;
    let request = fixture.bus.take::<CardFaceRequested>();
    assert_eq!(fixture.deliver(request).await, Disposition::DONE);
    let card = fixture.card_text(&invited);
    assert!(card.contains(&second) && !card.contains(&first), "{card}");
    fixture.poll().await;
    assert_eq!(fixture.bus.left(), [""; 0], "the card is up to date");
    fixture.decide(&invited, Some(0)).await;
    fixture.completes(&invited).await;
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn codes_that_lark_ends_early_are_replaced() {
    let lifetimes = Lifetimes { device: Duration::from_secs(30), ..Lifetimes::default() };
    let sim = SimConfig { lifetimes, ..SimConfig::default().with_users(1) };
    let fixture = Fixture::with(Setup { sim, ..Setup::default() }).await;
    let invited = fixture.device(0).await;
    let first = fixture.user_code(&invited).await;
    // This process believes in 240 s.
    fixture
        .sql("update user_auth_sessions set device_expires_at = device_expires_at + interval '210 s'")
        .await;
    fixture.poll().await;
    assert_eq!((fixture.polled(), fixture.user_code(&invited).await), (1, first.clone()));
    fixture.poll().await;
    assert_eq!(fixture.polled(), 2);
    assert_ne!(fixture.user_code(&invited).await, first);
    assert_eq!(fixture.state_of(&invited).await, PENDING);
}

#[tokio::test]
async fn session_over_expires_and_asks_again_with_new_codes() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    let first = fixture.user_code(&invited).await;
    fixture.clock.advance(Duration::from_secs(600));
    assert_eq!((fixture.poll().await, fixture.polled()), (1, 0));
    assert_eq!(fixture.ended(&invited).await, (SessionState::Expired, None));

    let again = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Retry)).await);
    let (new_id, _) = again.shows.unwrap();
    let new = Invited { session_id: new_id, ..invited.clone() };
    let second = fixture.user_code(&new).await;
    assert_ne!(first, second);
    assert!(again.answer.unwrap().to_string().contains(&second), "the answer's button opens the page");
    // The answer may arrive too late: the update after it shows the same.
    let request = fixture.bus.take::<CardFaceRequested>();
    assert_eq!(fixture.deliver(request).await, Disposition::DONE);
    assert!(fixture.card_text(&new).contains(&second));
    fixture.decide(&new, Some(0)).await;
    fixture.completes(&new).await;
}
