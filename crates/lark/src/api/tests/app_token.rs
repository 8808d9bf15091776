use futures::future::join_all;
use larkauth_models::ExposeSecret;
use wiremock::matchers::{body_json, header};

use super::*;
use crate::error::{ErrorKind, Outcome};

#[tokio::test]
async fn tenant_token_concurrent_callers_share_one_fetch() {
    let lark = Lark::start().await;
    Mock::given(path(TENANT_PATH))
        .and(body_json(json!({ "app_id": APP_ID, "app_secret": APP_SECRET })))
        .and(header("traceparent", "00-trace-span-01"))
        .respond_with(tenant_token("t-1", 7200).set_delay(Duration::from_millis(50)))
        .expect(1)
        .mount(&lark.server)
        .await;
    let tokens = join_all((0..100).map(|_| lark.client.tenant_access_token())).await;
    assert!(tokens.iter().all(|token| token.as_ref().unwrap().expose_secret() == "t-1"));
    assert_eq!(lark.calls(), ["tenant_access_token ok"]);
}

#[tokio::test]
async fn tenant_token_failed_fetch_fails_waiting_callers_and_next_retries() {
    let lark = Lark::start().await;
    lark.answer_first(1, "POST", TENANT_PATH, refusal(200, 10014).set_delay(Duration::from_millis(50))).await;
    lark.answer("POST", TENANT_PATH, tenant_token("t-1", 7200)).await;
    let errors = join_all((0..100).map(|_| lark.client.tenant_access_token())).await;
    assert!(errors.iter().all(|error| error.as_ref().unwrap_err().kind == ErrorKind::App));
    assert_eq!(lark.count(TENANT_PATH).await, 1);
    assert!(lark.client.tenant_access_token().await.is_ok());
}

#[tokio::test]
async fn tenant_token_near_expiry_is_renewed() {
    for (life, renewed_after) in [(7200, 7200 - 720), (2400, 2400 - 300), (60, 30)] {
        let lark = Lark::start().await;
        lark.answer_first(1, "POST", TENANT_PATH, tenant_token("t-1", life)).await;
        lark.answer("POST", TENANT_PATH, tenant_token("t-2", life)).await;
        let token = async || lark.client.tenant_access_token().await.unwrap().expose_secret().to_owned();
        assert_eq!(token().await, "t-1");
        lark.clock.advance(Duration::from_secs(renewed_after - 1));
        assert_eq!(token().await, "t-1", "life {life}");
        lark.clock.advance(Duration::from_secs(1));
        assert_eq!(token().await, "t-2", "life {life}");
    }
}

#[tokio::test]
async fn tenant_token_failed_renewal_returns_current_token_until_expiry() {
    let lark = Lark::start().await;
    lark.answer_first(1, "POST", TENANT_PATH, tenant_token("t-1", 7200)).await;
    lark.answer("POST", TENANT_PATH, refusal(200, 10014)).await;
    lark.client.tenant_access_token().await.unwrap();
    lark.clock.advance(Duration::from_secs(7000));
    for _ in 0..10 {
        assert_eq!(lark.client.tenant_access_token().await.unwrap().expose_secret(), "t-1");
    }
    assert_eq!(lark.count(TENANT_PATH).await, 2, "one try, then a pause");
    lark.clock.advance(Duration::from_secs(200));
    let error = lark.client.tenant_access_token().await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::App, Outcome::NotProcessed));
}

#[tokio::test]
async fn app_token_is_cached_apart_from_tenant_token() {
    let lark = Lark::with_tenant_token().await;
    lark.answer("POST", APP_PATH, ok(&json!({ "code": 0, "app_access_token": "a-1", "expire": 7200 }))).await;
    assert_eq!(lark.client.app_access_token().await.unwrap().expose_secret(), "a-1");
    assert_eq!(lark.client.app_access_token().await.unwrap().expose_secret(), "a-1");
    assert_eq!(lark.client.tenant_access_token().await.unwrap().expose_secret(), "t-1");
    assert_eq!(lark.calls(), ["app_access_token ok", "tenant_access_token ok"]);
}
