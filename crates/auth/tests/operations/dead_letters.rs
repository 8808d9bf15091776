//! A dead letter ends the session that it belongs to, or leaves it open knowingly.

use std::time::Duration;

use larkauth_auth::handlers;
use larkauth_contracts::{
    message::{
        AuthorizationDenied, CardActionKind, Envelope, InvitationRequested, Message, SessionEnded,
        TokenEscrowed,
    },
    topology::Queue,
};
use larkauth_messaging::{Delivery, Disposition};
use larkauth_models::{FailureReason, Person, SessionId, SessionState};
use larkauth_storage::{ExchangeClaim, seal_escrow};

use crate::{
    codes::{COMPLETED, failed},
    fixture::{ACTOR, Fixture, delivery},
};

impl Fixture {
    /// Passes the copy of a dead letter to the handler of the notices.
    async fn notice(&self, dead: Delivery) -> Disposition {
        let consumers = handlers::consumers(&self.context, 1);
        let (_, handler) =
            consumers.into_iter().find(|(what, _)| what.queue == Queue::DeadLetterNotices).unwrap();
        handler.handle(dead).await
    }

    /// Lets the extended claim of a sent code expire, by the clock of the database.
    async fn expire_wait(&self, id: SessionId) {
        let mut db = self.database.connection().await;
        sqlx::query("update user_auth_sessions set exchange_claimed_until = now() where session_id = $1")
            .bind(id.0)
            .execute(&mut db)
            .await
            .unwrap();
    }

    async fn notice_of<T: Message>(&self, dead: &Envelope<T>) {
        // A repeated notice has no second effect.
        for _ in 0..2 {
            assert_eq!(self.notice(delivery(dead)).await, Disposition::DONE);
        }
    }
}

#[tokio::test]
async fn dead_invitation_fails_its_session() {
    let fixture = Fixture::new().await;
    let person = Person { open_id: Some(fixture.person(0)), user_id: None };
    let session =
        fixture.context.invite(&ACTOR, fixture.context.now(), fixture.invitation(person)).await.unwrap();
    let dead = fixture.bus.take::<InvitationRequested>();
    fixture.notice_of(&dead).await;
    let session = fixture.session(session.id).await;
    assert_eq!((session.state, session.failure_reason), failed(FailureReason::CardUndeliverable));
    assert_eq!(fixture.bus.take::<SessionEnded>().data.session_id, session.id);
    assert_eq!(fixture.bus.left(), [""; 0]);
}

#[tokio::test]
async fn dead_invitation_whose_card_was_sent_leaves_session_open() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let dead = fixture.message(InvitationRequested { session_id: invited.session_id });
    fixture.notice_of(&dead).await;
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);
}

#[tokio::test]
async fn dead_code_that_was_never_sent_fails_its_session() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let code = fixture.consent(&invited, 0).await;
    let dead = fixture.code_message(&invited, &code).await;
    fixture.notice_of(&dead).await;
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::ServiceUnavailable));
    assert!(fixture.token(&invited.open_id).await.is_none());
}

#[tokio::test]
async fn dead_code_with_tokens_in_escrow_completes_its_session() {
    let fixture = Fixture::new().await;
    let consented = fixture.consented().await;
    let id = consented.invited.session_id;
    let (claim, pair) = fixture.exchanged_and_killed(&consented).await;
    let (cipher, store) = (&fixture.parts.cipher, &fixture.parts.store);
    assert!(store.escrow_exchange(id, claim, &seal_escrow(cipher, id, &pair).unwrap()).await.unwrap());
    let renew = async |life| store.claim_exchange(id, None, claim, life).await.unwrap();

    assert_eq!(renew(Duration::from_secs(60)).await, ExchangeClaim::Escrowed);
    let held = fixture.notice(delivery(&consented.message)).await;
    assert!(matches!(held, Disposition::Retry { after: Some(_), .. }), "its worker may live: {held:?}");
    assert_eq!(renew(Duration::ZERO).await, ExchangeClaim::Escrowed);
    fixture.notice_of(&consented.message).await;
    assert_eq!(fixture.ended(&consented.invited).await, COMPLETED);
    assert!(fixture.token(&consented.invited.open_id).await.is_some());
}

#[tokio::test]
async fn dead_code_that_was_sent_fails_its_session() {
    let fixture = Fixture::new().await;
    let consented = fixture.consented().await;
    fixture.exchanged_and_killed(&consented).await;
    // Its tokens may still arrive in escrow.
    let waits = fixture.notice(delivery(&consented.message)).await;
    assert!(matches!(waits, Disposition::Retry { after: Some(_), .. }), "{waits:?}");
    fixture.expire_wait(consented.invited.session_id).await;
    fixture.notice_of(&consented.message).await;
    assert_eq!(fixture.ended(&consented.invited).await, failed(FailureReason::ExchangeOutcomeUnknown));
}

#[tokio::test]
async fn dead_code_that_a_later_one_superseded_leaves_session_open() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let code = fixture.consent(&invited, 0).await;
    let dead = fixture.code_message(&invited, &code).await;
    let later = fixture.consent(&invited, 0).await;
    fixture.code_message(&invited, &later).await;
    fixture.notice_of(&dead).await;
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);
}

#[tokio::test]
async fn dead_refusal_rejects_its_session() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    fixture.notice_of(&fixture.message(AuthorizationDenied { session_id: invited.session_id })).await;
    assert_eq!(fixture.ended(&invited).await, (SessionState::Rejected, None));
}

#[tokio::test]
async fn dead_click_leaves_session_open_unless_it_held_a_code() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    fixture.notice_of(&fixture.click(&invited, CardActionKind::Cancel)).await;
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);

    let code = fixture.card_code(&invited).await;
    let mut click = fixture.click(&invited, CardActionKind::Authorize);
    click.data.code = Some(fixture.sealed(invited.session_id, &code));
    fixture.notice_of(&click).await;
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::ServiceUnavailable));
}

#[tokio::test]
async fn notice_that_cannot_be_read_is_no_second_dead_letter() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let mut broken = delivery(&fixture.message(InvitationRequested { session_id: invited.session_id }));
    for (kind, body) in [
        (InvitationRequested::TYPE, "{}"),
        (InvitationRequested::TYPE, "\u{0}"),
        ("other.v1", "{}"),
        (TokenEscrowed::TYPE, ""),
    ] {
        (broken.r#type, broken.body) = (kind.to_owned(), body.into());
        assert_eq!(fixture.notice(broken.clone()).await, Disposition::DONE, "{kind} {body}");
    }
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Pending);
}
