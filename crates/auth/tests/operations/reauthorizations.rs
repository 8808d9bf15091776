//! Asking people again: one card, in working hours or when it matters, and peace for who does not want one.

use std::time::Duration;

use larkauth_auth::{Context, ContextParts, Policy, ReauthorizePolicy};
use larkauth_contracts::message::{CardActionKind, InvitationRequested, Message, SessionEnded};
use larkauth_lark_sim::{Effect, Endpoint, Fault, UserStatus};
use larkauth_messaging::Disposition;
use larkauth_models::{
    AuthSession, CardFace, OpenId, ReauthorizationReason, SessionState, Timestamp, TokenKind, TokenStatus,
};
use larkauth_storage::SessionFilter;

use crate::fixture::{ACTOR, APP, Fixture, Invited, policy, reply, running};

const A_DAY: Duration = Duration::from_secs(24 * 3600);
/// A Monday, 10 o'clock in Shanghai, after the time at which fixtures begin.
const MONDAY_MORNING: &str = "2026-09-28T02:00:00Z";

impl Fixture {
    /// Sets the clock forward.
    fn at(&self, time: &str) {
        let time: Timestamp = time.parse().unwrap();
        self.clock.advance((time - self.context.now()).to_std().unwrap());
    }

    /// The login of the n-th person has ended at Lark.
    async fn ended_login(&self, n: usize) -> OpenId {
        let person = self.authorized(n).await;
        // Sessions are ordered by their time.
        self.clock.advance(Duration::from_secs(1));
        self.end_login(&person).await;
        person
    }

    async fn end_login(&self, person: &OpenId) {
        let revoked = Effect::Answer { status: 400, code: 20_064 };
        self.sim.faults().push(Fault::at(Endpoint::TokenRefresh, revoked));
        let (app_id, now) = (self.app_id(), self.context.now());
        let refused = self.context.refresh_token(&ACTOR, now, &app_id, person, None).await;
        assert!(refused.is_err());
        let token = self.parts.store.token(&app_id, person, TokenKind::User).await.unwrap().unwrap();
        assert_eq!(token.status, TokenStatus::ReauthorizationRequired);
        while self.bus.left().contains(&SessionEnded::TYPE) {
            self.bus.take::<SessionEnded>();
        }
    }

    async fn ask_again(&self) -> u64 {
        self.context.reauthorize(&ACTOR, self.context.now(), &running()).await.unwrap()
    }

    /// Sessions of a person in which larkauth asked by itself, the newest first.
    async fn asked_again(&self, person: &OpenId) -> Vec<AuthSession> {
        let filter = SessionFilter { open_id: Some(person.clone()), ..SessionFilter::default() };
        let mut sessions = self.parts.store.list_sessions(&filter, None, 50).await.unwrap();
        sessions.retain(|session| session.card.reauthorize.is_some());
        sessions
    }

    /// Sends the cards that were requested.
    async fn send_cards(&self) {
        while self.bus.left().contains(&InvitationRequested::TYPE) {
            let message = self.bus.take::<InvitationRequested>();
            assert_eq!(self.deliver(message).await, Disposition::DONE);
        }
    }

    /// The card of the newest session of a person.
    async fn card_of(&self, person: &OpenId) -> Invited {
        self.send_cards().await;
        let session = self.asked_again(person).await.remove(0);
        Invited { session_id: session.id, message_id: session.message_id.unwrap(), open_id: person.clone() }
    }

    async fn expire(&self) {
        self.context.expire_sessions(&ACTOR, self.context.now(), &running()).await.unwrap();
    }
}

#[tokio::test]
async fn reauthorize_after_end_sends_one_card_that_says_why() {
    let fixture = Fixture::new().await;
    fixture.at(MONDAY_MORNING);
    let person = fixture.ended_login(0).await;
    assert_eq!(fixture.ask_again().await, 1);
    let session = fixture.asked_again(&person).await.remove(0);
    assert_eq!(session.card.reauthorize, Some(ReauthorizationReason::Ended));
    assert_eq!(session.scopes, ["offline_access"], "what was granted before");
    assert_eq!(session.expires_at - session.created_at, chrono::TimeDelta::days(1));
    let card = fixture.card_of(&person).await;
    assert_eq!(fixture.session(session.id).await.card_face, Some(CardFace::Reauthorize));
    assert_eq!(fixture.colour(&card), "orange");
    let text = fixture.sim.card(card.message_id.as_str()).unwrap().to_string();
    assert!(
        text.contains("之前的授权已经失效") && text.contains("Your earlier authorization has ended"),
        "{text}"
    );
    // Not again while the card is open.
    for _ in 0..10 {
        fixture.clock.advance(Duration::from_secs(600));
        assert_eq!(fixture.ask_again().await, 0);
    }
    let code = fixture.consent(&card, 0).await;
    reply(fixture.deliver(fixture.code_message(&card, &code).await).await);
    assert!(fixture.served(&person, 60).await.is_ok());
    fixture.clock.advance(A_DAY * 3);
    assert_eq!(fixture.ask_again().await, 0, "the login lives");
    assert_eq!(fixture.asked_again(&person).await.len(), 1);
    let metrics = fixture.parts.metrics.render();
    assert!(
        metrics.contains(&format!(r#"reauthorization_total{{app_id="{APP}",outcome="asked"}} 1"#)),
        "{metrics}"
    );
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn reauthorize_by_two_processes_sends_one_card() {
    let fixture = Fixture::new().await;
    fixture.at(MONDAY_MORNING);
    let people = [fixture.ended_login(0).await, fixture.ended_login(1).await, fixture.ended_login(2).await];
    let other = Context::new(fixture.parts.clone());
    let (now, running, actor) = (fixture.context.now(), running(), ACTOR);
    let both = tokio::join!(
        fixture.context.reauthorize(&actor, now, &running),
        other.reauthorize(&actor, now, &running)
    );
    assert_eq!(both.0.unwrap() + both.1.unwrap(), 3);
    for person in &people {
        assert_eq!(fixture.asked_again(person).await.len(), 1);
    }
    fixture.send_cards().await;
    assert_eq!(fixture.sim.messages().len(), 6, "the first card of each, and one more");
}

#[tokio::test]
async fn reauthorize_after_a_stop_before_the_publish_sends_the_card_later() {
    let fixture = Fixture::new().await;
    fixture.at(MONDAY_MORNING);
    let person = fixture.ended_login(0).await;
    assert_eq!(fixture.ask_again().await, 1);
    // The process was killed between the insert and the publish, and never noted when to look again.
    fixture.bus.take::<InvitationRequested>();
    fixture.sql("update access_tokens set ask_at = 'epoch'").await;
    assert_eq!(fixture.ask_again().await, 0);
    assert_eq!(fixture.asked_again(&person).await.len(), 1, "the same session");
    fixture.card_of(&person).await;
    // The same again, after the card was sent: nothing more.
    fixture.sql("update access_tokens set ask_at = 'epoch'").await;
    assert_eq!(fixture.ask_again().await, 0);
    assert!(fixture.bus.left().is_empty(), "{:?}", fixture.bus.left());
}

#[tokio::test]
async fn reauthorize_with_the_bus_down_leaves_no_one_out() {
    let fixture = Fixture::new().await;
    fixture.at(MONDAY_MORNING);
    let person = fixture.ended_login(0).await;
    fixture.bus.go_down();
    assert!(fixture.context.reauthorize(&ACTOR, fixture.context.now(), &running()).await.is_err());
    let states: Vec<_> = fixture.asked_again(&person).await.iter().map(|session| session.state).collect();
    assert_eq!(states, [SessionState::Failed], "no invitation without a card");
    fixture.bus.come_back();
    fixture.clock.advance(Duration::from_secs(120));
    assert_eq!(fixture.ask_again().await, 1);
}

#[tokio::test]
async fn reauthorize_never_for_a_fault_of_the_application_or_of_no_one() {
    let fixture = Fixture::new().await;
    fixture.at(MONDAY_MORNING);
    let person = fixture.ended_login(0).await;
    fixture.open_breaker("wrong secret").await;
    assert_eq!(fixture.ask_again().await, 0);
    let (now, app_id) = (fixture.context.now(), fixture.app_id());
    fixture.parts.store.set_application_frozen(&app_id, None, now).await.unwrap();
    fixture.context.set_application_enabled(&ACTOR, now, &app_id, false).await.unwrap();
    assert_eq!(fixture.ask_again().await, 0);
    fixture.context.set_application_enabled(&ACTOR, now, &app_id, true).await.unwrap();

    // Switched off by the operator; suspended; revoked here.
    let reauthorize = ReauthorizePolicy { enabled: false, ..ReauthorizePolicy::default() };
    let off = ContextParts { policy: Policy { reauthorize, ..policy(100) }, ..fixture.parts.clone() };
    assert_eq!(Context::new(off).reauthorize(&ACTOR, now, &running()).await.unwrap(), 0);
    fixture.sql("update access_tokens set status = 'suspended'").await;
    assert_eq!(fixture.ask_again().await, 0);
    fixture.sql("update access_tokens set status = 'reauthorization_required'").await;
    assert!(fixture.context.revoke_token(&ACTOR, now, &app_id, &person).await.unwrap());
    assert_eq!(fixture.ask_again().await, 0);
    assert_eq!((fixture.asked_again(&person).await.len(), fixture.sim.messages().len()), (0, 1));
    // An outage, and an application that Lark refuses, end no login.
    fixture.authorized(0).await;
    for code in [20_050, 20_002] {
        fixture.clock.advance(Duration::from_secs(7201));
        fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::Answer { status: 400, code }));
        assert!(fixture.served(&person, 60).await.is_err());
        assert_eq!(fixture.ask_again().await, 0);
    }
}

#[tokio::test]
async fn reauthorize_after_no_leaves_the_person_in_growing_peace() {
    let fixture = Fixture::new().await;
    fixture.at(MONDAY_MORNING);
    let person = fixture.ended_login(0).await;
    assert_eq!(fixture.ask_again().await, 1);
    let mut days = Vec::new();
    for _ in 0..4 {
        let card = fixture.card_of(&person).await;
        reply(fixture.deliver(fixture.click(&card, CardActionKind::Cancel)).await);
        let declined = fixture.context.now();
        while fixture.ask_again().await == 0 {
            fixture.clock.advance(Duration::from_secs(3600));
        }
        days.push((fixture.context.now() - declined).num_days());
    }
    // 1, 2, 4, 8 days, and the rest of a night or a weekend.
    for (least, waited) in [1, 2, 4, 8].into_iter().zip(&days) {
        assert!((least..least + 3).contains(waited), "{days:?}");
    }
    // What a caller asks for is the caller's: it has pauses of its own.
    fixture.bus.take::<InvitationRequested>();
    let invitation =
        fixture.invitation(larkauth_models::Person { open_id: Some(person.clone()), user_id: None });
    let session =
        fixture.context.invite_unless_asked(&ACTOR, fixture.context.now(), invitation).await.unwrap();
    assert_eq!(session.id, fixture.asked_again(&person).await[0].id, "the open card");
}

#[tokio::test]
async fn reauthorize_of_who_does_not_answer_or_cannot_be_reached_pauses() {
    let fixture = Fixture::new().await;
    fixture.at(MONDAY_MORNING);
    let (silent, stopped) = (fixture.ended_login(0).await, fixture.ended_login(1).await);
    fixture.sim.set_status(stopped.as_str(), UserStatus::BotStopped).unwrap();
    assert_eq!(fixture.ask_again().await, 2);
    fixture.send_cards().await;
    assert_eq!(fixture.asked_again(&stopped).await[0].state, SessionState::Failed);
    // A week of minutes would be slow: every hour.
    for _ in 0..24 * 6 {
        fixture.clock.advance(Duration::from_secs(3600));
        fixture.expire().await;
        fixture.ask_again().await;
        fixture.send_cards().await;
    }
    // Monday and Wednesday; and Monday, Tuesday, Thursday, as that card failed at once.
    assert_eq!((fixture.asked_again(&silent).await.len(), fixture.asked_again(&stopped).await.len()), (2, 3));
    let open: Vec<_> =
        fixture.asked_again(&silent).await.into_iter().filter(|s| s.state == SessionState::Pending).collect();
    assert!(open.len() <= 1, "never two at once");
}

#[tokio::test]
async fn reauthorize_at_night_only_who_was_using_it() {
    let fixture = Fixture::new().await;
    // A Saturday evening.
    fixture.at("2026-09-26T12:00:00Z");
    let (used, idle) = (fixture.ended_login(0).await, fixture.ended_login(1).await);
    let mut connection = fixture.database.connection().await;
    let long_ago = fixture.context.now() - chrono::TimeDelta::days(3);
    let idles = "update access_tokens set last_used_at = $2, granted_at = $2 where open_id = $1";
    sqlx::query(idles).bind(idle.as_str()).bind(long_ago).execute(&mut connection).await.unwrap();
    assert_eq!(fixture.ask_again().await, 1);
    assert_eq!(fixture.asked_again(&used).await.len(), 1);
    fixture.at("2026-09-28T00:59:00Z");
    assert_eq!((fixture.ask_again().await, fixture.asked_again(&idle).await.len()), (0, 0));
    fixture.at("2026-09-28T01:00:00Z");
    fixture.expire().await;
    fixture.ask_again().await;
    assert_eq!(fixture.asked_again(&idle).await.len(), 1, "on Monday at 9 o'clock");
}

#[tokio::test]
async fn reauthorize_ahead_of_the_end_in_working_hours_only() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    let ahead =
        |days: i64| format!("update access_tokens set granted_at = granted_at - interval '{days} days'");
    let age = |days: i64| {
        let statement: &'static str = ahead(days).leak();
        fixture.sql(statement)
    };
    fixture.at(MONDAY_MORNING);
    age(340).await;
    assert_eq!(fixture.ask_again().await, 0, "more than 14 days are left");
    age(10).await;
    fixture.at("2026-10-01T12:00:00Z");
    assert_eq!(fixture.ask_again().await, 0, "in the evening");
    fixture.at("2026-10-02T02:00:00Z");
    assert_eq!(fixture.ask_again().await, 1);
    let session = fixture.asked_again(&person).await.remove(0);
    assert_eq!(session.card.reauthorize, Some(ReauthorizationReason::EndsSoon));
    let card = fixture.card_of(&person).await;
    let text = fixture.sim.card(card.message_id.as_str()).unwrap().to_string();
    assert!(text.contains("即将到期") && text.contains("ends soon"), "{text}");
    let code = fixture.consent(&card, 0).await;
    reply(fixture.deliver(fixture.code_message(&card, &code).await).await);
    fixture.clock.advance(A_DAY * 4);
    assert_eq!(fixture.ask_again().await, 0, "the consent is new");
    let token =
        fixture.parts.store.token(&fixture.app_id(), &person, TokenKind::User).await.unwrap().unwrap();
    assert_eq!(token.status, TokenStatus::Active);
}

#[tokio::test]
async fn reauthorize_of_ten_thousand_people_keeps_to_its_budget() {
    let fixture = Fixture::new().await;
    fixture.at(MONDAY_MORNING);
    let person = fixture.ended_login(0).await;
    // The others have the same row, and secrets that are bound to another one.
    fixture
        .sql("insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, scopes, issued_at,
                                         granted_at, status)
              select app_id, 'ou_' || lpad(n::text, 32, '0'), 'user', access_token_sealed, access_expires_at, scopes,
                     issued_at, granted_at, status
              from access_tokens, generate_series(1, 9999) n")
        .await;
    let claimed = "select count(*) from access_tokens where ask_at > 'epoch'";
    let mut connection = fixture.database.connection().await;
    for run in 1..=3 {
        fixture.ask_again().await;
        let so_far: i64 = sqlx::query_scalar(claimed).fetch_one(&mut connection).await.unwrap();
        assert_eq!(so_far, 100 * run, "a tenth of what Lark takes in a minute");
        fixture.clock.advance(Duration::from_secs(60));
    }
    assert!(fixture.asked_again(&person).await.len() <= 1);
}
