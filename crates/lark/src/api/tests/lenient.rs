//! Responses with the result of a call, and everything else odd.

use larkauth_models::{ExposeSecret, MessageId, TokenApi, TokenPair};
use tokio::time::Instant;

use super::*;
use crate::{
    api::{CodeGrant, Receiver},
    error::{ErrorKind, LarkError, MessageProblem},
};

const V2: &str = "/open-apis/authen/v2/oauth/token";
const V1_EXCHANGE: &str = "/open-apis/authen/v1/oidc/access_token";
const MESSAGE: &str = "/open-apis/im/v1/messages/om_1";

async fn exchange(lark: &Lark, api: TokenApi) -> Result<TokenPair, LarkError> {
    let grant = CodeGrant {
        code: secret("the-code"),
        redirect_uri: Url::parse("http://127.0.0.1:8080/oauth/callback").unwrap(),
        code_verifier: None,
    };
    lark.client.exchange_code(api, &grant, Instant::now() + Duration::from_secs(20)).await
}

async fn exchange_with(answer: ResponseTemplate) -> Result<TokenPair, LarkError> {
    let lark = Lark::start().await;
    lark.answer("POST", V2, answer).await;
    exchange(&lark, TokenApi::V2).await
}

fn complete() -> Value {
    json!({
        "code": 0, "access_token": "u-access", "expires_in": 7200, "refresh_token": "r-refresh",
        "refresh_token_expires_in": 604_800, "scope": "a:b offline_access",
    })
}

/// Replaces fields of the complete response.
fn with(changes: &Value) -> Value {
    let mut answer = complete();
    for (name, value) in changes.as_object().unwrap() {
        answer[name] = value.clone();
    }
    answer
}

#[tokio::test]
async fn exchange_odd_fields_returns_whole_pair() {
    for changes in [
        json!({}),
        json!({ "code": "0" }),
        json!({ "code": 0.0 }),
        json!({ "code": null }),
        json!({ "code": "success" }),
        json!({ "code": {} }),
        json!({ "msg": 7, "error": null, "new": [{ "deep": [[[]]] }] }),
        json!({ "error": "" }),
        json!({ "error": {}, "error_description": null }),
        json!({ "expires_in": "7200", "refresh_token_expires_in": "604800" }),
        json!({ "expires_in": 7200.0, "refresh_token_expires_in": 604_800.9 }),
        json!({ "expires_in": " 7200s ", "refresh_token_expires_in": "604800 seconds" }),
        json!({ "expires_in": "7200.0" }),
        json!({ "scope": ["a:b", "offline_access"] }),
        json!({ "scope": "a:b,offline_access" }),
        json!({ "scope": [" a:b  offline_access ", null, 7.5, {}] }),
        json!({ "scope": "a:b offline_access x\u{0}y \u{7}bell q\"uote" }),
        json!({ "access_token": "  u-access\r\n", "refresh_token": "r-ref\n  resh " }),
        json!({ "token_type": ["Bearer"], "data": null }),
        json!({ "data": [] }),
        json!({ "data": "text" }),
        json!({ "data": { "access_token": "", "expires_in": 1 } }),
    ] {
        let pair = exchange_with(ok(&with(&changes))).await.unwrap_or_else(|e| panic!("{changes}: {e}"));
        assert_eq!(pair.access_token.expose_secret(), "u-access", "{changes}");
        assert_eq!(pair.refresh_token.unwrap().expose_secret(), "r-refresh", "{changes}");
        assert_eq!(pair.access_expires_at, after(7200), "{changes}");
        assert_eq!(pair.refresh_expires_at, Some(after(604_800)), "{changes}");
        assert_eq!(pair.scopes[..2], ["a:b", "offline_access"], "{changes}");
        let is_plain = |scope: &String| scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        assert!(pair.scopes.iter().all(is_plain), "{changes}");
    }
}

#[tokio::test]
async fn exchange_unusable_fields_returns_token_with_defaults() {
    let mut lifetimes =
        [json!(0), json!(-1), json!(1_i64 << 40), json!(null), json!("soon"), json!([])].to_vec();
    lifetimes.extend([json!({}), json!(true), json!(""), json!("7200 days"), json!(1e300), json!(u64::MAX)]);
    for life in lifetimes {
        let changes = json!({
            "expires_in": life, "refresh_token_expires_in": life, "scope": null, "code": null,
        });
        let pair = exchange_with(ok(&with(&changes))).await.unwrap_or_else(|e| panic!("{life}: {e}"));
        assert_eq!(pair.access_token.expose_secret(), "u-access");
        assert_eq!(pair.access_expires_at, after(1800), "{life}");
        assert_eq!((pair.refresh_expires_at, pair.scopes.len()), (None, 0), "{life}");
        assert_eq!(pair.refresh_token.unwrap().expose_secret(), "r-refresh");
    }
    for refresh_token in [json!(null), json!(""), json!(" "), json!([]), json!("x".repeat(9000))] {
        let changes = json!({ "refresh_token": refresh_token });
        let pair = exchange_with(ok(&with(&changes))).await.unwrap();
        assert!(pair.refresh_token.is_none() && pair.refresh_expires_at.is_none(), "{refresh_token}");
    }
}

/// The code was used up, and a refresh token is a login.
#[tokio::test]
async fn exchange_unusable_access_token_returns_refresh_token() {
    for token in
        [json!(null), json!(""), json!(" "), json!([]), json!({}), json!(true), json!("x".repeat(200_000))]
    {
        for status in [200, 503] {
            let answer = ResponseTemplate::new(status).set_body_json(with(&json!({ "access_token": token })));
            let pair = exchange_with(answer).await.unwrap_or_else(|e| panic!("{status}: {e}"));
            assert!(!pair.has_access_token(), "{status}");
            assert_eq!(pair.access_expires_at, after(0), "{status}");
            assert_eq!(pair.refresh_token.unwrap().expose_secret(), "r-refresh", "{status}");
            assert_eq!(pair.refresh_expires_at, Some(after(604_800)), "{status}");
        }
    }
}

#[tokio::test]
async fn exchange_named_error_beside_refresh_token_returns_error() {
    for error in [json!({ "code": 20003 }), json!({ "code": 0, "error": "invalid_grant" })] {
        let mut answer = with(&error);
        answer["access_token"] = Value::Null;
        let failed = exchange_with(ok(&answer)).await.unwrap_err();
        assert_eq!(failed.kind, ErrorKind::InvalidGrant, "{error}");
    }
}

#[tokio::test]
async fn exchange_odd_body_returns_token() {
    let plain = complete().to_string();
    let numbers = "{\"code\":0,\"junk\":1e999,\"more\":-99999999999999999999999,";
    for body in [
        format!("\u{feff}{plain}"),
        format!("\r\n {plain} \r\n"),
        format!("{plain}<!-- proxy -->"),
        format!("{plain}{plain}"),
        format!("{numbers}{}", &plain[1..]),
        format!("{{\"junk\":\"\\ud800\",{}", &plain[1..]),
        format!("{{\"junk\":\"line\nbreak\",{}", &plain[1..]),
        format!("{{\"expires_in\":7200,\"access_token\":\"old\",{}", &plain[1..]),
        format!("{},\"access_token\":null,\"expires_in\":\"never\"}}", plain.trim_end_matches('}')),
        format!("{{\"code\":0,\"data\":{plain}}}"),
        format!("{{\"data\":{}}}", Value::String(plain.clone())),
        format!("{{\"access_token\":\"\",\"scope\":null,\"data\":{plain}}}"),
    ] {
        for content_type in ["application/json", "text/html; charset=gbk", "application/octet-stream"] {
            let answer = ResponseTemplate::new(200).set_body_raw(body.clone(), content_type);
            let pair = exchange_with(answer).await.unwrap_or_else(|e| panic!("{body}: {e}"));
            assert_eq!(pair.access_token.expose_secret(), "u-access", "{body}");
            assert_eq!(pair.access_expires_at, after(7200), "{body}");
        }
    }
    let invalid_text = [b"{\"junk\":\"\xff\xfe\",", &plain.as_bytes()[1..]].concat();
    let pair = exchange_with(ResponseTemplate::new(200).set_body_bytes(invalid_text)).await.unwrap();
    assert_eq!(pair.access_token.expose_secret(), "u-access");
}

#[tokio::test]
async fn exchange_error_status_with_token_returns_token() {
    for status in [201, 302, 400, 401, 429, 500, 503] {
        for changes in
            [json!({}), json!({ "code": null }), json!({ "code": 29999, "error": "invalid_grant" })]
        {
            let answer = ResponseTemplate::new(status).set_body_json(with(&changes));
            let pair = exchange_with(answer).await.unwrap_or_else(|e| panic!("{status} {changes}: {e}"));
            assert_eq!(pair.access_token.expose_secret(), "u-access");
        }
    }
}

#[tokio::test]
async fn exchange_answer_without_token_returns_error_of_its_code() {
    for (status, body, kind) in [
        (200, json!({ "code": 20003 }), ErrorKind::InvalidGrant),
        (200, json!({ "code": "20003", "access_token": "" }), ErrorKind::InvalidGrant),
        (400, json!({ "code": 20003.0, "access_token": null }), ErrorKind::InvalidGrant),
        (200, json!({ "data": { "code": "20002", "error": "x" } }), ErrorKind::App),
        (200, json!({ "error": "invalid_grant" }), ErrorKind::InvalidGrant),
        (500, json!({ "data": { "error": "invalid_client" } }), ErrorKind::App),
        (400, json!({ "code": 1_000_040_351 }), ErrorKind::App),
        (200, json!({ "code": 0, "access_token": { "token": "u" } }), ErrorKind::Transient),
        (200, json!({ "access_token": true }), ErrorKind::Transient),
        (400, json!({ "code": 0 }), ErrorKind::Unknown),
        (400, json!({ "code": "oops" }), ErrorKind::Unknown),
    ] {
        let answer = ResponseTemplate::new(status).set_body_json(&body);
        assert_eq!(exchange_with(answer).await.unwrap_err().kind, kind, "{status} {body}");
    }
}

#[tokio::test]
async fn v1_exchange_flat_or_nested_returns_pair() {
    let flat = json!({
        "access_token": "u-access", "expires_in": "7200", "refresh_token": "r-refresh",
        "refresh_expires_in": "604800", "scope": null,
    });
    for answer in [flat.clone(), json!({ "code": "0", "data": flat })] {
        let lark = Lark::start().await;
        let app_token = json!({ "code": "0", "data": { "app_access_token": " a-1 ", "expires_in": "7200" } });
        lark.answer("POST", APP_PATH, ok(&app_token)).await;
        lark.answer("POST", V1_EXCHANGE, ok(&answer)).await;
        let pair = exchange(&lark, TokenApi::V1).await.unwrap();
        assert_eq!(pair.access_expires_at, after(7200));
        assert_eq!(pair.refresh_expires_at, Some(after(604_800)));
    }
}

#[tokio::test]
async fn tenant_token_without_usable_expiry_is_renewed_early() {
    for expire in [json!(null), json!(-5), json!("soon"), json!(1e30)] {
        let lark = Lark::start().await;
        let answer = json!({ "tenant_access_token": "t-1", "expire": expire });
        lark.answer("POST", TENANT_PATH, ok(&answer)).await;
        assert_eq!(lark.client.tenant_access_token().await.unwrap().expose_secret(), "t-1", "{expire}");
        lark.clock.advance(Duration::from_secs(1800));
        lark.client.tenant_access_token().await.unwrap();
        assert_eq!(lark.count(TENANT_PATH).await, 2, "{expire}");
    }
}

#[tokio::test]
async fn user_info_odd_fields_returns_open_id() {
    let person = json!({
        "open_id": "ou_1", "name": 7, "en_name": null, "email": ["a@b"], "mobile": 1_380_000, "user_id": 42,
        "union_id": {}, "avatar": "none", "status": [], "tenant_key": " ",
    });
    for answer in [
        json!({ "code": 0, "data": person }),
        json!({ "code": "0", "msg": null, "data": person.to_string() }),
        person.clone(),
    ] {
        let lark = Lark::start().await;
        lark.answer("GET", "/open-apis/authen/v1/user_info", ok(&answer)).await;
        let profile = lark.client.user_info(&secret("u")).await.unwrap_or_else(|e| panic!("{answer}: {e}"));
        assert_eq!(profile.open_id.as_str(), "ou_1");
        assert_eq!(profile.user_id.unwrap().as_str(), "42");
        assert_eq!((profile.name.as_deref(), profile.tenant_key, profile.union_id), (Some("7"), None, None));
        assert_eq!(profile.mobile.unwrap().expose_secret(), "1380000");
    }
}

#[tokio::test]
async fn send_card_odd_response_returns_message_id() {
    for answer in [
        json!({ "code": "0", "data": { "message_id": "om_1", "chat_id": 7 } }),
        json!({ "message_id": " om_1 " }),
        json!({ "code": 0, "data": { "message_id": "om_1" }, "error": "none" }),
    ] {
        let lark = Lark::with_tenant_token().await;
        lark.answer("POST", "/open-apis/im/v1/messages", ok(&answer)).await;
        let receiver = Receiver::ChatId("oc_1".into());
        let sent = lark.client.send_card(&receiver, &json!({}), "u").await;
        assert_eq!(sent.unwrap().as_str(), "om_1", "{answer}");
    }
}

#[tokio::test]
async fn update_card_code_inside_text_returns_precise_code() {
    let refused = MessageProblem::CardRefused;
    for (msg, code) in [
        ("Failed to create card content, ext=ErrCode: 200830; ErrMsg: schemaV2 card can not change", 200_830),
        ("Failed to create card content, ErrCode:11310", 11310),
        ("Failed to create card content, ext=ErrCode: 4711; ErrMsg: new", 230_099),
        ("ErrCode: 20003", 230_099),
        ("ErrCode: 99999999999999999999999", 230_099),
        ("Failed", 230_099),
    ] {
        let lark = Lark::with_tenant_token().await;
        let answer = json!({ "code": "230099", "msg": msg });
        lark.answer("PATCH", MESSAGE, ResponseTemplate::new(400).set_body_json(answer)).await;
        let error = lark.client.update_card(&MessageId::new("om_1").unwrap(), &json!({})).await.unwrap_err();
        assert_eq!((error.kind.clone(), error.code), (ErrorKind::Message(refused), Some(code)), "{msg}");
        assert!(!error.is_retryable());
        assert_eq!(lark.count(MESSAGE).await, 1);
    }
}
