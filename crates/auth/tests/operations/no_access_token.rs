//! Answers of Lark with a refresh token and without a usable access token.

use std::time::Duration;

use larkauth_auth::AuthError;
use larkauth_lark_sim::{Effect, Endpoint, Fault};
use larkauth_models::{FailureReason, SessionState, TokenStatus};
use serde_json::{Value, json};

use crate::{
    codes::{COMPLETED, failed},
    escrow::impatient,
    fixture::{Fixture, reply},
};

fn without_access_token(endpoint: Endpoint, access_token: &Value) -> Fault {
    Fault::at(endpoint, Effect::Reshaped { status: 200, merge: json!({ "access_token": access_token }) })
}

#[tokio::test]
async fn refresh_without_access_token_keeps_login() {
    for access_token in [Value::Null, json!(""), json!("u".repeat(200_000))] {
        let fixture = Fixture::new().await;
        let person = fixture.expired(0).await;
        fixture.sim.faults().push(without_access_token(Endpoint::TokenRefresh, &access_token));
        let refused = fixture.served(&person, 60).await.unwrap_err();
        assert!(matches!(refused, AuthError::UpstreamUnavailable { .. }), "{refused}");
        let kept = fixture.current(&person).await;
        assert_eq!((kept.generation, kept.status, kept.failures), (2, TokenStatus::Active, 1));

        fixture.clock.advance(Duration::from_secs(4));
        assert_eq!(fixture.served(&person, 60).await.unwrap(), 3);
        assert_eq!(fixture.current(&person).await.failures, 0);
        fixture.assert_no_violation();
    }
}

#[tokio::test]
async fn refresh_never_with_access_token_backs_off() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    let fault = without_access_token(Endpoint::TokenRefresh, &Value::Null).until_cleared();
    fixture.sim.faults().push(fault);
    // The scheduled job and a caller, each second of five minutes.
    for _ in 0..300 {
        fixture.run_due().await;
        fixture.served(&person, 60).await.unwrap_err();
        fixture.clock.advance(Duration::from_secs(1));
    }
    let refreshes = fixture.refreshes();
    assert!((6..=14).contains(&refreshes), "{refreshes}");
    fixture.sim.faults().clear();
    fixture.clock.advance(Duration::from_secs(90));
    assert_eq!(fixture.run_due().await, 1);
    assert!(fixture.served(&person, 60).await.is_ok());
    fixture.assert_no_violation();
}

#[tokio::test]
async fn exchange_without_access_token_is_refreshed_at_once() {
    let fixture = Fixture::new().await;
    let consented = fixture.consented().await;
    fixture.sim.faults().push(without_access_token(Endpoint::TokenCode, &json!("")));
    reply(fixture.deliver(consented.message.clone()).await);
    assert_eq!(fixture.ended(&consented.invited).await, COMPLETED);
    assert_eq!(fixture.refreshes(), 1);
    assert_eq!(fixture.served(&consented.invited.open_id, 60).await.unwrap(), 1);
    fixture.assert_no_violation();
}

#[tokio::test]
async fn exchange_without_access_token_twice_is_resumed_with_latest_pair() {
    let fixture = impatient().await;
    let consented = fixture.consented().await;
    fixture.sim.faults().push(without_access_token(Endpoint::TokenCode, &json!("")));
    fixture.sim.faults().push(without_access_token(Endpoint::TokenRefresh, &json!("")));
    reply(fixture.deliver(consented.message.clone()).await);
    assert_eq!((fixture.state(&consented).await, fixture.in_escrow().await), (SessionState::Pending, 1));
    // Longer than the invitation lives.
    fixture.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(fixture.resume().await, 1);
    fixture.assert_completed(&consented).await;
}

#[tokio::test]
async fn exchange_never_with_access_token_fails_when_session_expires() {
    let fixture = impatient().await;
    let consented = fixture.consented().await;
    fixture.sim.faults().push(without_access_token(Endpoint::TokenCode, &json!("")));
    fixture.sim.faults().push(without_access_token(Endpoint::TokenRefresh, &json!("")).until_cleared());
    reply(fixture.deliver(consented.message.clone()).await);
    assert_eq!(fixture.resume().await, 0);
    assert_eq!(fixture.state(&consented).await, SessionState::Pending);
    fixture.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(fixture.resume().await, 1);
    assert_eq!(fixture.ended(&consented.invited).await, failed(FailureReason::UpstreamUnavailable));
    assert_eq!(fixture.in_escrow().await, 0);
}
