//! The end of a session is announced at least once, through any outage.

use std::{collections::BTreeMap, time::Duration};

use larkauth_auth::{AuthError, Policy};
use larkauth_contracts::message::{CardActionKind, SessionEnded};
use larkauth_messaging::BusError;
use larkauth_models::{Person, SessionState};
use tokio_util::sync::CancellationToken;

use crate::fixture::{ACTOR, Fixture, Setup, policy, reply, running};

impl Fixture {
    async fn announce(&self) -> Result<u64, AuthError> {
        self.context.announce_ends(&ACTOR, self.context.now(), &running()).await
    }

    /// Lets every end become older than the grace.
    fn pass_grace(&self) {
        self.clock.advance(self.context.policy().announce_grace + Duration::from_millis(1));
    }
}

#[tokio::test]
async fn announce_ends_after_outage_announces_every_ending() {
    let fixture = Fixture::new().await;
    let [declined, consented, forgotten] =
        [fixture.invited(0).await, fixture.invited(1).await, fixture.invited(2).await];
    let code = fixture.consent(&consented, 1).await;
    let code = fixture.code_message(&consented, &code).await;
    let decline = fixture.click(&declined, CardActionKind::Cancel);

    // The bus is cut between each end and its announcement. The handlers are done all the same.
    fixture.bus.go_down();
    reply(fixture.deliver(decline).await);
    reply(fixture.deliver(code).await);
    let other = Person { open_id: Some("ou_9".parse().unwrap()), user_id: None };
    let unsent = fixture.context.invite(&ACTOR, fixture.context.now(), fixture.invitation(other)).await;
    assert!(matches!(unsent, Err(AuthError::Bus(_))), "{unsent:?}");
    fixture.clock.advance(Duration::from_secs(600));
    let now = fixture.context.now();
    assert_eq!(fixture.context.expire_sessions(&ACTOR, now, &running()).await.unwrap(), 1);
    fixture.pass_grace();
    for _ in 0..2 {
        let down = fixture.announce().await;
        assert!(matches!(down, Err(AuthError::Bus(BusError::Unavailable { .. }))), "{down:?}");
    }

    fixture.bus.come_back();
    assert_eq!(fixture.announce().await.unwrap(), 4);
    let mut announced = BTreeMap::new();
    for _ in 0..4 {
        let end = fixture.bus.take::<SessionEnded>();
        assert_eq!(end.id.as_str(), format!("ended-{}", end.data.session_id), "the id of every announcement");
        assert_eq!(end.data.state, fixture.session(end.data.session_id).await.state);
        announced.insert(end.data.session_id, end.data.state);
    }
    for (session, state) in [
        (&declined, SessionState::Rejected),
        (&consented, SessionState::Completed),
        (&forgotten, SessionState::Expired),
    ] {
        assert_eq!(announced.remove(&session.session_id), Some(state));
    }
    assert_eq!(
        announced.into_values().collect::<Vec<_>>(),
        [SessionState::Failed],
        "the invitation never sent"
    );
    assert_eq!(fixture.announce().await.unwrap(), 0);
    assert_eq!(fixture.bus.left(), [""; 0]);
}

#[tokio::test]
async fn announce_ends_of_announced_end_publishes_nothing() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    reply(fixture.deliver(fixture.click(&invited, CardActionKind::Cancel)).await);
    fixture.bus.take::<SessionEnded>();
    fixture.pass_grace();
    assert_eq!(fixture.announce().await.unwrap(), 0);
    assert_eq!(fixture.bus.left(), [""; 0]);
}

#[tokio::test]
async fn announce_ends_of_several_batches_announces_all_after_grace() {
    let policy = Policy { sweep_batch: 10, ..policy(100) };
    let fixture = Fixture::with(Setup { policy, ..Setup::default() }).await;
    for n in 0..25 {
        let person = Person { open_id: Some(format!("ou_{n}").parse().unwrap()), user_id: None };
        fixture.context.invite(&ACTOR, fixture.context.now(), fixture.invitation(person)).await.unwrap();
    }
    fixture.clock.advance(Duration::from_secs(600));
    fixture.bus.go_down();
    let now = fixture.context.now();
    assert_eq!(fixture.context.expire_sessions(&ACTOR, now, &running()).await.unwrap(), 25);
    fixture.bus.come_back();
    assert_eq!(fixture.announce().await.unwrap(), 0, "their processes may be about to announce them");
    fixture.pass_grace();
    assert_eq!(fixture.announce().await.unwrap(), 25);
    assert_eq!(fixture.announce().await.unwrap(), 0);
}

#[tokio::test]
async fn sweeps_of_stopping_process_end_at_once() {
    let fixture = Fixture::new().await;
    let invited = [fixture.invited(0).await, fixture.invited(1).await];
    fixture.clock.advance(Duration::from_secs(600));
    let stopping = CancellationToken::new();
    stopping.cancel();
    let now = fixture.context.now();
    assert_eq!(fixture.context.expire_sessions(&ACTOR, now, &stopping).await.unwrap(), 2);
    assert_eq!(fixture.bus.left(), [""; 0], "the announcements are left to the sweep");
    fixture.clock.advance(Duration::from_secs(120));
    let now = fixture.context.now();
    assert_eq!(fixture.context.announce_ends(&ACTOR, now, &stopping).await.unwrap(), 0);
    assert_eq!(fixture.context.reconcile_cards(&ACTOR, now, &stopping).await.unwrap(), 0);
    assert_eq!(fixture.bus.left(), [""; 0]);
    assert_eq!(fixture.announce().await.unwrap(), invited.len() as u64);
}
