//! Serving a stored token: by time and status, from the store alone.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use larkauth_auth::{AuthError, Context, ContextParts};
use larkauth_models::{AppId, OpenId, TokenApi, TokenKind};
use larkauth_storage::{StorageError, testing::cipher_of};

use crate::fixture::{ACTOR, Stage, reply};

impl Stage {
    /// The n-th person has authorized.
    async fn authorized(&self, n: usize) -> OpenId {
        let invited = self.invited(n).await;
        let code = self.consent(&invited, n).await;
        reply(self.deliver(self.code_message(&invited, &code).await).await);
        invited.open_id
    }

    async fn served(&self, open_id: &OpenId, seconds: i64) -> Result<i64, AuthError> {
        let token = self
            .context
            .valid_token(&ACTOR, self.context.now(), &self.app_id(), open_id, TimeDelta::seconds(seconds))
            .await;
        token.map(|token| token.generation)
    }

    async fn set_status(&self, status: &str) {
        let mut connection = self.database.connection().await;
        sqlx::query("update access_tokens set status = $1")
            .bind(status)
            .execute(&mut connection)
            .await
            .unwrap();
    }
}

fn is_missing<T>(result: &Result<T, AuthError>) -> bool {
    matches!(result, Err(AuthError::AuthenticationRequired))
}

#[tokio::test]
async fn a_token_is_served_while_it_lives_long_enough() {
    let stage = Stage::new().await;
    assert!(is_missing(&stage.served(&stage.person(0), 60).await));
    let person = stage.authorized(0).await;
    assert_eq!(stage.served(&person, 60).await.unwrap(), 1);
    stage.clock.advance(Duration::from_secs(7200 - 60));
    assert_eq!(stage.served(&person, 60).await.unwrap(), 1);
    assert!(is_missing(&stage.served(&person, 61).await));
    stage.clock.advance(Duration::from_secs(59));
    assert_eq!(stage.served(&person, 0).await.unwrap(), 1, "its last second");
    stage.clock.advance(Duration::from_secs(1));
    assert!(is_missing(&stage.served(&person, 0).await), "a dead token is never served");
}

#[tokio::test]
async fn the_newest_consent_wins() {
    let stage = Stage::new().await;
    let person = stage.authorized(0).await;
    let first = stage
        .context
        .valid_token(&ACTOR, stage.context.now(), &stage.app_id(), &person, TimeDelta::zero())
        .await
        .unwrap();
    stage.clock.advance(Duration::from_secs(60));
    stage.authorized(0).await;
    let second = stage
        .context
        .valid_token(&ACTOR, stage.context.now(), &stage.app_id(), &person, TimeDelta::zero())
        .await
        .unwrap();
    assert!(second.generation > first.generation && second.issued_at > first.issued_at);
}

#[tokio::test]
async fn tokens_are_apart_by_person_and_application() {
    let stage = Stage::new().await;
    let person = stage.authorized(0).await;
    assert!(is_missing(&stage.served(&stage.person(1), 0).await));
    let other = "cli_00000000000000a2";
    let application = stage.application(other, TokenApi::V2);
    stage.parts.store.put_application(&application, stage.context.now()).await.unwrap();
    let other = AppId::new(other).unwrap();
    assert!(is_missing(
        &stage.context.valid_token(&ACTOR, stage.context.now(), &other, &person, TimeDelta::zero()).await
    ));
}

#[tokio::test]
async fn what_status_allows_is_served() {
    let stage = Stage::new().await;
    let person = stage.authorized(0).await;
    for (status, served) in [
        ("outcome_unknown", true),
        ("reauthorization_required", true),
        ("suspended", false),
        ("active", true),
    ] {
        stage.set_status(status).await;
        let result = stage.served(&person, 60).await;
        assert_eq!(result.is_ok(), served, "{status}");
        assert!(served || is_missing(&result), "{status}");
    }
    let (app_id, now) = (stage.app_id(), stage.context.now());
    assert!(stage.parts.store.revoke_token(&app_id, &person, TokenKind::User, now).await.unwrap());
    assert!(is_missing(&stage.served(&person, 0).await));
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_not_a_missing_one() {
    let stage = Stage::new().await;
    let person = stage.authorized(0).await;
    // Another process with another key, as after a botched key change.
    let store = larkauth_storage::PgStore::connect(&stage.database.options(), cipher_of(&[("other", 9)]))
        .await
        .unwrap();
    let context = Context::new(ContextParts { store: Arc::new(store), ..stage.parts.clone() });
    // The application's own secret is read first; keep the one that was read before.
    let result =
        context.valid_token(&ACTOR, stage.context.now(), &stage.app_id(), &person, TimeDelta::zero()).await;
    assert!(matches!(result, Err(AuthError::Storage(StorageError::Undecryptable { .. }))), "{result:?}");
}

#[tokio::test]
async fn an_application_that_is_off_serves_nothing() {
    let stage = Stage::new().await;
    let person = stage.authorized(0).await;
    // Without the memory of the last lookup.
    let fresh = Stage::new().await;
    assert!(is_missing(&fresh.served(&person, 0).await));
    stage.context.set_application_enabled(&ACTOR, stage.context.now(), &stage.app_id(), false).await.unwrap();
    assert!(matches!(stage.served(&person, 0).await, Err(AuthError::AppDisabled(_))));
    let unknown = AppId::new("cli_ffffffffffffffff").unwrap();
    let result =
        stage.context.valid_token(&ACTOR, stage.context.now(), &unknown, &person, TimeDelta::zero()).await;
    assert!(matches!(result, Err(AuthError::AppNotFound(_))));
}
