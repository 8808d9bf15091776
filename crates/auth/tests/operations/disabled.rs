//! An application that is switched off while a session is open.

use larkauth_contracts::message::{CardActionKind, InvitationRequested};
use larkauth_lark_sim::Endpoint;
use larkauth_messaging::Disposition;
use larkauth_models::{FailureReason, Person};
use larkauth_storage::testing::act;

use crate::{
    codes::{COMPLETED, failed},
    fixture::{ACTOR, Fixture, reply, seen},
};

impl Fixture {
    async fn switch(&self, enabled: bool) {
        let now = self.context.now();
        self.context.set_application_enabled(&ACTOR, now, &self.app_id(), enabled).await.unwrap();
    }
}

#[tokio::test]
async fn code_of_disabled_application_is_not_sent_and_ends_session() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let code = fixture.consent(&invited, 0).await;
    // Another process switches the application off: this one has it in its cache.
    let store = &fixture.parts.store;
    assert!(
        store.set_application_enabled(&fixture.app_id(), false, &act(fixture.context.now())).await.unwrap()
    );
    let message = fixture.code_message(&invited, &code).await;
    reply(fixture.deliver(message.clone()).await);
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::AppDisabled));
    assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 0);
    assert!(fixture.token(&invited.open_id).await.is_none());

    // Switched on again, the ended session stays ended, and a new one works.
    fixture.switch(true).await;
    reply(fixture.deliver(message).await);
    assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 0);
    let again = fixture.invited(0).await;
    assert_eq!(fixture.end_of(&again).await, COMPLETED);
}

#[tokio::test]
async fn click_of_disabled_application_ends_session_and_says_so() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    fixture.switch(false).await;
    let answered = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Authorize)).await);
    assert!(seen(&answered).0.contains("switched off"), "{answered:?}");
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::AppDisabled));
    // "Ask again" sends no invitation.
    let answered = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Retry)).await);
    assert!(seen(&answered).0.contains("switched off"), "{answered:?}");
    assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 0);

    // A code inside the click is not sent either.
    fixture.switch(true).await;
    let invited = fixture.invited(0).await;
    let code = fixture.card_code(&invited).await;
    fixture.switch(false).await;
    let mut click = fixture.click(&invited, CardActionKind::Authorize);
    click.data.code = Some(fixture.sealed(invited.session_id, &code));
    let answered = reply(fixture.deliver(click).await);
    assert!(seen(&answered).0.contains("switched off"), "{answered:?}");
    assert_eq!(fixture.sim.stats().calls(Endpoint::TokenCode), 0);
}

#[tokio::test]
async fn invitation_of_application_disabled_before_its_card_ends() {
    let fixture = Fixture::new().await;
    let person = Person { open_id: Some(fixture.person(0)), user_id: None };
    let session =
        fixture.context.invite(&ACTOR, fixture.context.now(), fixture.invitation(person)).await.unwrap();
    fixture.switch(false).await;
    let requested = fixture.bus.take::<InvitationRequested>();
    assert_eq!(fixture.deliver(requested).await, Disposition::DONE);
    let session = fixture.session(session.id).await;
    assert_eq!(session.failure_reason, Some(FailureReason::AppDisabled));
}
