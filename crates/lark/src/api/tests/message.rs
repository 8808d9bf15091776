use larkauth_models::{MessageId, OpenId, UnionId, UserId};
use wiremock::matchers::{body_json, header, query_param};

use super::*;
use crate::{
    api::{MAX_CARD_BYTES, Receiver},
    error::{Cause, ErrorKind, LarkError, MessageProblem, Outcome},
};

const MESSAGES: &str = "/open-apis/im/v1/messages";
const MESSAGE: &str = "/open-apis/im/v1/messages/om_1";
const DELAYED: &str = "/open-apis/interactive/v1/card/update";

fn sent() -> ResponseTemplate {
    ok(&json!({ "code": 0, "data": { "message_id": "om_1" } }))
}

fn card() -> Value {
    json!({ "schema": "2.0" })
}

async fn send(lark: &Lark) -> Result<MessageId, LarkError> {
    lark.client.send_card(&Receiver::OpenId(OpenId::new("ou_1").unwrap()), &card(), "uuid-1").await
}

async fn update(lark: &Lark) -> Result<(), LarkError> {
    lark.client.update_card(&MessageId::new("om_1").unwrap(), &card()).await
}

#[tokio::test]
async fn send_card_every_receiver_sends_id_type_and_text() {
    for (receiver, kind, id) in [
        (Receiver::OpenId(OpenId::new("ou_1").unwrap()), "open_id", "ou_1"),
        (Receiver::UserId(UserId::new("u1").unwrap()), "user_id", "u1"),
        (Receiver::UnionId(UnionId::new("on_1").unwrap()), "union_id", "on_1"),
        (Receiver::Email(secret("a@b.example")), "email", "a@b.example"),
        (Receiver::ChatId("oc_1".to_owned()), "chat_id", "oc_1"),
    ] {
        let lark = Lark::with_tenant_token().await;
        Mock::given(method("POST"))
            .and(path(MESSAGES))
            .and(query_param("receive_id_type", kind))
            .and(header("authorization", "Bearer t-1"))
            .and(body_json(json!({
                "receive_id": id, "msg_type": "interactive", "content": "{\"schema\":\"2.0\"}", "uuid": "uuid-1",
            })))
            .respond_with(sent())
            .mount(&lark.server)
            .await;
        let message_id = lark.client.send_card(&receiver, &card(), "uuid-1").await.unwrap();
        assert_eq!(message_id.as_str(), "om_1");
        assert!(!format!("{receiver:?}").contains("b.example"));
    }
}

#[tokio::test]
async fn card_calls_invalid_argument_returns_not_sent() {
    let lark = Lark::with_tenant_token().await;
    let receiver = Receiver::ChatId("oc_1".to_owned());
    let large = json!("x".repeat(MAX_CARD_BYTES));
    for error in [
        lark.client.send_card(&receiver, &large, "u").await.unwrap_err(),
        lark.client.send_card(&receiver, &card(), "").await.unwrap_err(),
        lark.client.send_card(&receiver, &card(), &"u".repeat(51)).await.unwrap_err(),
        lark.client.update_card(&MessageId::new("om_1").unwrap(), &large).await.unwrap_err(),
        lark.client.delayed_update(&secret("c-1"), &large).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind, error.outcome, error.cause),
            (ErrorKind::InvalidRequest, Outcome::NotProcessed, Cause::NotSent)
        );
    }
    assert!(lark.server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn update_card_and_delayed_update_send_documented_bodies() {
    let lark = Lark::with_tenant_token().await;
    lark.answer("PATCH", MESSAGE, ok(&json!({ "code": 0, "data": {} }))).await;
    lark.answer("POST", DELAYED, ok(&json!({ "code": 0, "msg": "ok" }))).await;
    update(&lark).await.unwrap();
    lark.client.delayed_update(&secret("c-1"), &card()).await.unwrap();
    assert_eq!(lark.bodies(MESSAGE).await, [json!({ "content": "{\"schema\":\"2.0\"}" })]);
    assert_eq!(lark.bodies(DELAYED).await, [json!({ "token": "c-1", "card": { "schema": "2.0" } })]);
}

#[tokio::test]
async fn update_card_message_code_returns_message_problem() {
    for (code, kind) in [
        (230013, ErrorKind::Message(MessageProblem::Undeliverable)),
        (230029, ErrorKind::Message(MessageProblem::Undeliverable)),
        (230053, ErrorKind::Message(MessageProblem::Undeliverable)),
        (230034, ErrorKind::Message(MessageProblem::Undeliverable)),
        (230011, ErrorKind::Message(MessageProblem::Recalled)),
        (230110, ErrorKind::Message(MessageProblem::Deleted)),
        (230031, ErrorKind::Message(MessageProblem::TooOld)),
    ] {
        let lark = Lark::with_tenant_token().await;
        lark.answer("PATCH", MESSAGE, refusal(400, code)).await;
        assert_eq!(update(&lark).await.unwrap_err().kind, kind, "{code}");
        assert_eq!(lark.count(MESSAGE).await, 1);
    }
}

#[tokio::test]
async fn send_card_server_error_repeats_twice_then_fails() {
    let lark = Lark::with_tenant_token().await;
    lark.answer_first(2, "POST", MESSAGES, ResponseTemplate::new(502)).await;
    lark.answer("POST", MESSAGES, sent()).await;
    send(&lark).await.unwrap();
    assert_eq!(
        lark.calls(),
        ["tenant_access_token ok", "send_card http_5xx", "send_card http_5xx", "send_card ok"]
    );
    let bodies = lark.bodies(MESSAGES).await;
    assert!(bodies.iter().all(|body| body["uuid"] == "uuid-1"), "the same uuid every time");

    lark.answer("PATCH", MESSAGE, ResponseTemplate::new(503)).await;
    let error = update(&lark).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::Transient, Outcome::MaybeProcessed));
    assert_eq!(lark.count(MESSAGE).await, 3);
}

#[tokio::test]
async fn delayed_update_server_error_is_not_repeated() {
    let lark = Lark::with_tenant_token().await;
    lark.answer("POST", DELAYED, ResponseTemplate::new(502)).await;
    lark.client.delayed_update(&secret("c-1"), &card()).await.unwrap_err();
    assert_eq!(lark.count(DELAYED).await, 1);
}

#[tokio::test]
async fn send_card_rate_limited_waits_if_short_and_fails_if_long() {
    let lark = Lark::with_tenant_token().await;
    let limit = |wait: &str| refusal(429, 99991400).insert_header("x-ogw-ratelimit-reset", wait);
    lark.answer_first(1, "POST", MESSAGES, limit("1")).await;
    lark.answer("POST", MESSAGES, sent()).await;
    let started = tokio::time::Instant::now();
    send(&lark).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));

    lark.answer("PATCH", MESSAGE, limit("42")).await;
    let error = update(&lark).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(42))));
    assert_eq!(lark.count(MESSAGE).await, 1);
}

#[tokio::test]
async fn tenant_call_refused_token_renews_once() {
    let lark = Lark::start().await;
    lark.answer_first(1, "POST", TENANT_PATH, tenant_token("t-old", 7200)).await;
    lark.answer("POST", TENANT_PATH, tenant_token("t-new", 7200)).await;
    lark.answer_first(1, "POST", DELAYED, refusal(400, 99991663)).await;
    Mock::given(path(DELAYED))
        .and(header("authorization", "Bearer t-new"))
        .respond_with(ok(&json!({ "code": 0 })))
        .expect(1)
        .mount(&lark.server)
        .await;
    lark.client.delayed_update(&secret("c-1"), &card()).await.unwrap();
    assert_eq!(lark.count(TENANT_PATH).await, 2);

    lark.answer("PATCH", MESSAGE, refusal(400, 99991663)).await;
    let error = update(&lark).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::Transient, Outcome::NotProcessed));
    assert_eq!((lark.count(MESSAGE).await, lark.count(TENANT_PATH).await), (2, 3));
}
