use larkauth_models::TokenApi;
use tokio::time::Instant;

use super::*;
use crate::{
    api::{EndpointClass, RateLimitExceeded, RateLimiter},
    error::{Cause, ErrorKind, Outcome},
};

/// Records every acquisition and refuses it.
#[derive(Default)]
struct RefusingLimiter(Mutex<Vec<(AppId, EndpointClass)>>);

#[async_trait::async_trait]
impl RateLimiter for RefusingLimiter {
    async fn acquire(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        deadline: Instant,
    ) -> Result<(), RateLimitExceeded> {
        assert!(deadline > Instant::now());
        self.0.lock().unwrap().push((app_id.clone(), class));
        Err(RateLimitExceeded { retry_after: Duration::from_secs(7) })
    }
}

#[tokio::test]
async fn call_limiter_refuses_returns_rate_limited_without_request() {
    let server = MockServer::start().await;
    let recorder = Arc::new(Recorder::default());
    let limiter = Arc::new(RefusingLimiter::default());
    let clock = Arc::new(ManualClock::at(start_of_time()));
    let client = limited_client(&server.uri(), clock, recorder.clone(), limiter.clone());

    let errors = [
        client.refresh(TokenApi::V2, &secret("r"), soon()).await.unwrap_err(),
        client.user_info(&secret("u")).await.unwrap_err(),
    ];

    for error in errors {
        assert_eq!((error.kind, error.outcome), (ErrorKind::RateLimited, Outcome::NotProcessed));
        assert_eq!((error.cause, error.retry_after), (Cause::NotSent, Some(Duration::from_secs(7))));
    }
    let app_id = AppId::new(APP_ID).unwrap();
    assert_eq!(
        *limiter.0.lock().unwrap(),
        [(app_id.clone(), EndpointClass::Token), (app_id, EndpointClass::UserInfo)]
    );
    assert_eq!(*recorder.0.lock().unwrap(), ["refresh_token not_sent", "user_info not_sent"]);
    assert!(server.received_requests().await.unwrap().is_empty());
}
