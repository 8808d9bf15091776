//! Responses that are lost, late, cut, malformed or hostile.

use larkauth_models::{TokenApi, TokenPair};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use super::*;
use crate::{
    api::NoObserver,
    error::{Cause, ErrorKind, LarkError, Outcome, ScopeHolder},
    http::MAX_BODY,
};

const V2: &str = "/open-apis/authen/v2/oauth/token";
const USER_INFO: &str = "/open-apis/authen/v1/user_info";

async fn refresh(client: &LarkClient) -> Result<TokenPair, LarkError> {
    client.refresh(TokenApi::V2, &secret("r-secret"), soon()).await
}

/// Starts a server that reads a request, writes these bytes and closes the connection. Dropping the set stops it.
async fn raw_server(answer: Vec<u8>) -> (LarkClient, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(&answer).await;
            let _ = socket.shutdown().await;
        }
    });
    let clock = Arc::new(ManualClock::at(start_of_time()));
    (client(&address, clock, Arc::new(NoObserver)), tasks)
}

#[tokio::test]
async fn refresh_connection_broken_returns_maybe_processed() {
    for answer in [
        Vec::new(),
        b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"code\":0".to_vec(),
    ] {
        let (client, _server) = raw_server(answer).await;
        let error = refresh(&client).await.unwrap_err();
        assert_eq!(error.cause, Cause::Cut, "{error}");
        assert_eq!((error.kind, error.outcome), (ErrorKind::Transient, Outcome::MaybeProcessed));
    }
}

#[tokio::test]
async fn refresh_connection_refused_returns_not_processed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = client(&address, Arc::new(ManualClock::at(start_of_time())), Arc::new(NoObserver));
    let error = refresh(&client).await.unwrap_err();
    assert_eq!((error.cause, error.outcome), (Cause::Connect, Outcome::NotProcessed));
    assert!(!error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn call_late_response_returns_timeout_without_repeat() {
    let lark = Lark::start().await;
    let late = ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    lark.answer("POST", V2, late.clone()).await;
    lark.answer("GET", USER_INFO, late).await;
    let error = refresh(&lark.client).await.unwrap_err();
    assert_eq!((error.cause, error.outcome), (Cause::Timeout, Outcome::MaybeProcessed));
    lark.client.user_info(&secret("u")).await.unwrap_err();
    assert_eq!(lark.calls(), ["refresh_token timeout", "user_info timeout"]);
}

#[tokio::test]
async fn refresh_malformed_response_returns_invalid_answer() {
    let large = format!("{{\"code\":0,\"x\":\"{}\"}}", "x".repeat(MAX_BODY));
    for body in
        ["<html>r-secret</html>", "", "{", "[]", "null", "{}", "{\"code\":0}", "{\"code\":\"0\"}", &large]
    {
        let lark = Lark::start().await;
        lark.answer("POST", V2, ResponseTemplate::new(200).set_body_string(body)).await;
        let error = refresh(&lark.client).await.unwrap_err();
        assert_eq!((error.cause, error.outcome), (Cause::InvalidAnswer, Outcome::MaybeProcessed));
        assert!(error.to_string().len() < 300 && !error.to_string().contains("r-secret"), "{error}");
    }
}

#[tokio::test]
async fn refresh_response_beyond_limit_returns_invalid_answer() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(MAX_BODY * 2, b' ');
    let (client, _server) = raw_server(answer).await;
    assert_eq!(refresh(&client).await.unwrap_err().cause, Cause::InvalidAnswer);
}

#[tokio::test]
async fn update_card_response_without_code_returns_invalid_answer() {
    let lark = Lark::with_tenant_token().await;
    lark.answer("PATCH", "/open-apis/im/v1/messages/om_1", ok(&json!({}))).await;
    let message_id = larkauth_models::MessageId::new("om_1").unwrap();
    let error = lark.client.update_card(&message_id, &json!({})).await.unwrap_err();
    assert_eq!(error.cause, Cause::InvalidAnswer);
}

#[tokio::test]
async fn refresh_status_without_code_returns_kind_by_status() {
    for (status, kind, outcome, label) in [
        (302, ErrorKind::Unknown, Outcome::NotProcessed, "http_3xx"),
        (401, ErrorKind::Unknown, Outcome::NotProcessed, "http_4xx"),
        (404, ErrorKind::Unknown, Outcome::NotProcessed, "http_4xx"),
        (408, ErrorKind::Transient, Outcome::MaybeProcessed, "http_4xx"),
        (429, ErrorKind::RateLimited, Outcome::NotProcessed, "http_429"),
        (500, ErrorKind::Transient, Outcome::MaybeProcessed, "http_5xx"),
        (503, ErrorKind::Transient, Outcome::MaybeProcessed, "http_5xx"),
    ] {
        let lark = Lark::start().await;
        let answer = ResponseTemplate::new(status)
            .set_body_string("<html>")
            .insert_header("location", "/elsewhere")
            .insert_header("retry-after", "7");
        lark.answer("POST", V2, answer).await;
        let error = refresh(&lark.client).await.unwrap_err();
        assert_eq!((error.kind, error.outcome, error.http_status), (kind, outcome, Some(status)));
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(lark.calls(), [format!("refresh_token {label}")]);
    }
}

#[tokio::test]
async fn user_info_missing_scope_returns_scopes_and_log_id() {
    for (code, holder) in [(99991679, ScopeHolder::User), (99991672, ScopeHolder::App)] {
        let lark = Lark::start().await;
        let violations =
            json!([{ "type": "scope", "subject": "contact:read" }, { "subject": "bad\nname" }, {}]);
        let details = json!({ "log_id": "2026-log", "permission_violations": violations });
        let answer = ResponseTemplate::new(400).set_body_json(json!({ "code": code, "error": details }));
        lark.answer_first(1, "GET", USER_INFO, answer.clone()).await;
        lark.answer("GET", USER_INFO, answer.insert_header("x-tt-logid", "header-log")).await;
        let error = lark.client.user_info(&secret("u")).await.unwrap_err();
        assert_eq!(
            error.kind,
            ErrorKind::InsufficientScope { holder, missing: vec!["contact:read".to_owned()] }
        );
        assert_eq!(error.log_id.as_deref(), Some("2026-log"));
        let error = lark.client.user_info(&secret("u")).await.unwrap_err();
        assert_eq!(error.log_id.as_deref(), Some("header-log"));
        assert!(error.to_string().contains("contact:read"), "{error}");
    }
}

#[tokio::test]
async fn base_url_with_path_prefixes_every_call() {
    let lark = Lark::start().await;
    lark.answer("GET", "/sim/open-apis/authen/v1/user_info", refusal(200, 20008)).await;
    let base = format!("{}/sim/", lark.server.uri());
    let client = client(&base, Arc::new(ManualClock::at(start_of_time())), Arc::new(NoObserver));
    assert_eq!(client.user_info(&secret("u")).await.unwrap_err().code, Some(20008));
}

#[tokio::test]
async fn user_info_malformed_token_returns_not_sent() {
    let lark = Lark::start().await;
    let error = lark.client.user_info(&secret("bad\ntoken")).await.unwrap_err();
    assert_eq!((error.kind, error.cause), (ErrorKind::InvalidRequest, Cause::NotSent));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn refresh_arbitrary_response_returns_bounded_error(status in 200_u16..600, body: Vec<u8>, code: i64, text: String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lark = Lark::start().await;
            lark.answer_first(1, "POST", V2, ResponseTemplate::new(status).set_body_bytes(body)).await;
            let answer = json!({ "code": code, "error": text, "msg": text });
            lark.answer("POST", V2, ResponseTemplate::new(status).set_body_json(answer)).await;
            for _ in 0..2 {
                let error = refresh(&lark.client).await.unwrap_err().to_string();
                assert!(error.len() < 400 && !error.contains('\n'), "{error}");
            }
        });
    }
}
