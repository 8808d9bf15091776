//! Serving a stored token: by time and status, from the store alone.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use larkauth_auth::{AuthError, Context, ContextParts};
use larkauth_lark_sim::{Effect, Endpoint, Fault, Lifetimes, SimConfig};
use larkauth_models::{AppId, OpenId, TokenApi, TokenKind};
use larkauth_storage::testing::{act, cipher_of};

use crate::fixture::{ACTOR, Fixture, Setup, reply};

impl Fixture {
    /// The n-th person has authorized.
    pub(crate) async fn authorized(&self, n: usize) -> OpenId {
        let invited = self.invited(n).await;
        let code = self.consent(&invited, n).await;
        reply(self.deliver(self.code_message(&invited, &code).await).await);
        invited.open_id
    }

    pub(crate) async fn served(&self, open_id: &OpenId, seconds: i64) -> Result<i64, AuthError> {
        let token = self
            .context
            .valid_token(
                &ACTOR,
                self.context.now(),
                &self.app_id(),
                open_id,
                TimeDelta::seconds(seconds),
                &[],
            )
            .await;
        token.map(|token| token.generation)
    }

    pub(crate) async fn set_status(&self, status: &str) {
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
async fn valid_token_until_min_validity_is_served() {
    let fixture = Fixture::new().await;
    assert!(is_missing(&fixture.served(&fixture.person(0), 60).await));
    let person = fixture.authorized(0).await;
    fixture.sql("update access_tokens set refresh_token_sealed = null").await;
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 1);
    fixture.clock.advance(Duration::from_secs(7200 - 60));
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 1);
    assert!(is_missing(&fixture.served(&person, 61).await));
    fixture.clock.advance(Duration::from_secs(59));
    assert_eq!(fixture.served(&person, 0).await.unwrap(), 1, "its last second");
    fixture.clock.advance(Duration::from_secs(1));
    assert!(is_missing(&fixture.served(&person, 0).await), "a dead token is never served");
}

/// A Lark whose access tokens live so long.
async fn with_access_life(access: Duration) -> Fixture {
    let mut sim = SimConfig::default().with_users(3);
    sim.lifetimes = Lifetimes { access, ..Lifetimes::default() };
    Fixture::with(Setup { sim, ..Setup::default() }).await
}

#[tokio::test]
async fn valid_token_shorter_than_asked_for_is_not_refreshed_for_each_read() {
    for (life, min_validity) in [(1800, 3600), (20, 60)] {
        let access = Duration::from_secs(life);
        let fixture = with_access_life(access).await;
        let person = fixture.authorized(0).await;
        for (generation, refreshes) in [(1, 0), (2, 1), (3, 2)] {
            for _ in 0..5 {
                let served = fixture.served(&person, min_validity).await;
                assert_eq!(served.unwrap(), generation, "{life} {min_validity}");
            }
            assert_eq!(fixture.refreshes(), refreshes, "{life} {min_validity}");
            fixture.clock.advance(access / 2 + Duration::from_secs(1));
        }
        fixture.assert_no_violation();
    }
}

#[tokio::test]
async fn refresh_by_generation_of_short_life_is_not_done_twice() {
    let fixture = with_access_life(Duration::from_secs(20)).await;
    let person = fixture.authorized(0).await;
    for _ in 0..3 {
        let now = fixture.context.now();
        let token = fixture.context.refresh_token(&ACTOR, now, &fixture.app_id(), &person, Some(1)).await;
        assert_eq!(token.unwrap().generation, 2);
    }
    assert_eq!(fixture.refreshes(), 1);
}

#[tokio::test]
async fn valid_token_for_less_than_asked_is_served_while_refreshes_fail() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.clock.advance(Duration::from_secs(7200 - 30));
    let down = Effect::Answer { status: 503, code: 20_050 };
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, down).until_cleared());
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 1);
    fixture.clock.advance(Duration::from_secs(30));
    let refused = fixture.served(&person, 60).await.unwrap_err();
    assert!(matches!(refused, AuthError::UpstreamUnavailable { .. }), "{refused}");
}

#[tokio::test]
async fn valid_token_stored_by_a_clock_that_was_ahead_is_refreshed() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    let ahead = "update access_tokens set issued_at = issued_at + interval '1 day',
                     access_expires_at = access_expires_at + interval '1 day'";
    fixture.sql(ahead).await;
    for _ in 0..2 {
        assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
    }
    assert_eq!(fixture.refreshes(), 1);
    assert!(fixture.current(&person).await.issued_at <= fixture.context.now());
}

#[tokio::test]
async fn valid_token_after_second_consent_is_newest() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    let first = fixture
        .context
        .valid_token(&ACTOR, fixture.context.now(), &fixture.app_id(), &person, TimeDelta::zero(), &[])
        .await
        .unwrap();
    fixture.clock.advance(Duration::from_secs(60));
    fixture.authorized(0).await;
    let second = fixture
        .context
        .valid_token(&ACTOR, fixture.context.now(), &fixture.app_id(), &person, TimeDelta::zero(), &[])
        .await
        .unwrap();
    assert!(second.generation > first.generation && second.issued_at > first.issued_at);
}

#[tokio::test]
async fn valid_token_of_other_person_or_application_is_missing() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    assert!(is_missing(&fixture.served(&fixture.person(1), 0).await));
    let other = "cli_00000000000000a2";
    let application = fixture.application(other, TokenApi::V2);
    fixture.parts.store.put_application(&application, &act(fixture.context.now())).await.unwrap();
    let other = AppId::new(other).unwrap();
    assert!(is_missing(
        &fixture
            .context
            .valid_token(&ACTOR, fixture.context.now(), &other, &person, TimeDelta::zero(), &[])
            .await
    ));
}

#[tokio::test]
async fn valid_token_is_served_by_status() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    for (status, served) in [
        ("outcome_unknown", true),
        ("reauthorization_required", true),
        ("suspended", false),
        ("active", true),
    ] {
        fixture.set_status(status).await;
        let result = fixture.served(&person, 60).await;
        assert_eq!(result.is_ok(), served, "{status}");
        assert!(served || is_missing(&result), "{status}");
    }
    let (app_id, now) = (fixture.app_id(), fixture.context.now());
    assert!(fixture.parts.store.revoke_token(&app_id, &person, TokenKind::User, &act(now)).await.unwrap());
    assert!(is_missing(&fixture.served(&person, 0).await));
}

#[tokio::test]
async fn valid_token_undecryptable_is_no_reason_to_ask() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    // Another process with another key, as after a botched key change.
    let store =
        larkauth_storage_postgres::PgStore::connect(&fixture.database.options(), cipher_of(&[("other", 9)]))
            .await
            .unwrap();
    let context = Context::new(ContextParts { store: Arc::new(store), ..fixture.parts.clone() });
    // The application's own secret is read first; keep the one that was read before.
    let result = context
        .valid_token(&ACTOR, fixture.context.now(), &fixture.app_id(), &person, TimeDelta::zero(), &[])
        .await;
    assert!(matches!(result, Err(AuthError::SecretUnreadable(_))), "{result:?}");
}

#[tokio::test]
async fn valid_token_of_disabled_or_unknown_application_fails() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    // Without the memory of the last lookup.
    let fresh = Fixture::new().await;
    assert!(is_missing(&fresh.served(&person, 0).await));
    fixture
        .context
        .set_application_enabled(&ACTOR, fixture.context.now(), &fixture.app_id(), false)
        .await
        .unwrap();
    assert!(matches!(fixture.served(&person, 0).await, Err(AuthError::AppDisabled(_))));
    let unknown = AppId::new("cli_ffffffffffffffff").unwrap();
    let result = fixture
        .context
        .valid_token(&ACTOR, fixture.context.now(), &unknown, &person, TimeDelta::zero(), &[])
        .await;
    assert!(matches!(result, Err(AuthError::AppNotFound(_))));
}
