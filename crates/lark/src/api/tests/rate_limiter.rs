use larkauth_models::{Lane, TokenApi};
use tokio::time::Instant;

use super::*;
use crate::{
    api::{EndpointClass, RateLimitExceeded, RateLimiter},
    error::{Cause, ErrorKind, Outcome},
};

/// Records every acquisition and refuses it.
#[derive(Default)]
struct RefusingLimiter(Mutex<Vec<(AppId, EndpointClass, Lane)>>);

#[async_trait::async_trait]
impl RateLimiter for RefusingLimiter {
    async fn acquire(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        lane: Lane,
        deadline: Instant,
    ) -> Result<(), RateLimitExceeded> {
        assert!(deadline > Instant::now());
        self.0.lock().unwrap().push((app_id.clone(), class, lane));
        Err(RateLimitExceeded { retry_after: Duration::from_secs(7) })
    }
    async fn reserve(&self, _: &AppId, _: EndpointClass, _: u32) -> Result<Vec<Instant>, RateLimitExceeded> {
        Err(RateLimitExceeded { retry_after: Duration::from_secs(7) })
    }
    async fn hold(&self, _: &AppId, _: EndpointClass, _: Duration) {}
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
        client.in_lane(Lane::Background).user_info(&secret("u")).await.unwrap_err(),
    ];

    for error in errors {
        assert_eq!((error.kind, error.outcome), (ErrorKind::RateLimited, Outcome::NotProcessed));
        assert_eq!((error.cause, error.retry_after), (Cause::NotSent, Some(Duration::from_secs(7))));
    }
    let app_id = AppId::new(APP_ID).unwrap();
    assert_eq!(
        *limiter.0.lock().unwrap(),
        [
            (app_id.clone(), EndpointClass::Token, Lane::People),
            (app_id, EndpointClass::UserInfo, Lane::Background)
        ]
    );
    assert_eq!(*recorder.0.lock().unwrap(), ["refresh_token not_sent", "user_info not_sent"]);
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn reserved_call_is_made_without_asking_the_limiter() {
    let server = MockServer::start().await;
    Mock::given(method("GET")).respond_with(refusal(400, 99_991_677)).mount(&server).await;
    let limiter = Arc::new(RefusingLimiter::default());
    let clock = Arc::new(ManualClock::at(start_of_time()));
    let client = limited_client(&server.uri(), clock, Arc::new(Recorder::default()), limiter.clone());
    client.reserved().user_info(&secret("u")).await.unwrap_err();
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
    assert!(limiter.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn call_refused_for_its_rate_holds_back_the_calls_of_its_class() {
    let lark = Lark::start().await;
    let too_many = |seconds: &str| refusal(429, 99_991_400).insert_header("x-ogw-ratelimit-reset", seconds);
    lark.answer_first(1, "POST", "/open-apis/authen/v2/oauth/token", too_many("60")).await;
    let refresh = async || lark.client.refresh(TokenApi::V2, &secret("r"), soon()).await.unwrap_err();
    assert_eq!(refresh().await.cause, Cause::Code);
    let held = refresh().await;
    assert_eq!((&held.kind, held.cause), (&ErrorKind::RateLimited, Cause::NotSent));
    assert!(held.retry_after.unwrap() > Duration::from_secs(50), "{held:?}");
    assert_eq!(lark.count("/open-apis/authen/v2/oauth/token").await, 1);
    // Another class goes on.
    lark.answer("GET", "/open-apis/authen/v1/user_info", refusal(400, 99_991_677)).await;
    assert_eq!(lark.client.user_info(&secret("u")).await.unwrap_err().cause, Cause::Code);
}
