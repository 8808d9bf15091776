use larkauth_models::{ExposeSecret, TokenApi};
use tokio::time::Instant;
use wiremock::matchers::{body_json, body_string, header};

use super::*;
use crate::{
    api::{AuthorizeRequest, CodeGrant, NoObserver, pkce_challenge},
    error::{ErrorKind, Outcome, known},
};

const V2: &str = "/open-apis/authen/v2/oauth/token";
const V1_EXCHANGE: &str = "/open-apis/authen/v1/oidc/access_token";
const V1_REFRESH: &str = "/open-apis/authen/v1/oidc/refresh_access_token";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn grant() -> CodeGrant {
    CodeGrant {
        code: secret("the-code"),
        redirect_uri: Url::parse("http://127.0.0.1:8080/oauth/callback").unwrap(),
        code_verifier: Some(secret(VERIFIER)),
    }
}

fn pair() -> Value {
    json!({
        "code": 0, "access_token": "u-access", "expires_in": 7200, "refresh_token": "r-refresh",
        "refresh_token_expires_in": 604_800, "scope": "offline_access  contact:read", "token_type": "Bearer",
    })
}

#[test]
fn pkce_challenge_rfc_7636_verifier_returns_rfc_challenge() {
    assert_eq!(pkce_challenge(&secret(VERIFIER)), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

#[tokio::test]
async fn authorize_url_returns_every_parameter_once_encoded() {
    let lark = Lark::start().await;
    let scopes = ["offline_access".to_owned(), "a:b+c".to_owned()];
    let redirect_uri = Url::parse("https://me.example/back?x=1&y=2").unwrap();
    let state = secret("st&te");
    let request = AuthorizeRequest {
        redirect_uri: &redirect_uri,
        scopes: &scopes,
        state: &state,
        code_challenge: "ch",
    };
    let url = lark.client.authorize_url(&request);
    assert_eq!(url.path(), "/open-apis/authen/v1/authorize");
    assert!(url.query().unwrap().contains("scope=offline_access%20a%3Ab%2Bc"), "{url}");
    let query: Vec<_> = url.query_pairs().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        query,
        [
            "client_id=cli_0123456789abcdef",
            "response_type=code",
            "redirect_uri=https://me.example/back?x=1&y=2",
            "scope=offline_access a:b+c",
            "state=st&te",
            "code_challenge=ch",
            "code_challenge_method=S256",
        ]
    );
    assert!(!format!("{request:?}").contains("st&te"));
}

#[tokio::test]
async fn v2_exchange_valid_code_returns_token_pair() {
    let lark = Lark::start().await;
    Mock::given(method("POST"))
        .and(path(V2))
        .and(body_json(json!({
            "grant_type": "authorization_code", "client_id": APP_ID, "client_secret": APP_SECRET,
            "code": "the-code", "redirect_uri": "http://127.0.0.1:8080/oauth/callback", "code_verifier": VERIFIER,
        })))
        .respond_with(ok(&pair()))
        .expect(1)
        .mount(&lark.server)
        .await;
    let pair = lark.client.exchange_code(TokenApi::V2, &grant(), soon()).await.unwrap();
    assert_eq!(pair.access_token.expose_secret(), "u-access");
    assert_eq!(pair.access_expires_at, after(7200));
    assert_eq!(pair.refresh_token.as_ref().unwrap().expose_secret(), "r-refresh");
    assert_eq!(pair.refresh_expires_at, Some(after(604_800)));
    assert_eq!(pair.scopes, ["offline_access", "contact:read"]);
    assert_eq!(lark.calls(), ["exchange_code ok"]);
    let shown = format!("{pair:?} {:?} {:?}", grant(), lark.client);
    for hidden in ["u-access", "r-refresh", "the-code", VERIFIER, APP_SECRET] {
        assert!(!shown.contains(hidden), "{hidden}");
    }
}

#[tokio::test]
async fn v2_refresh_valid_token_returns_token_pair() {
    let lark = Lark::start().await;
    Mock::given(path(V2))
        .and(body_json(json!({
            "grant_type": "refresh_token", "client_id": APP_ID, "client_secret": APP_SECRET,
            "refresh_token": "r-old",
        })))
        .respond_with(ok(&pair()))
        .expect(1)
        .mount(&lark.server)
        .await;
    let pair = lark.client.refresh(TokenApi::V2, &secret("r-old"), soon()).await.unwrap();
    assert_eq!(pair.refresh_token.unwrap().expose_secret(), "r-refresh");
}

#[tokio::test]
async fn v1_exchange_and_refresh_send_app_token() {
    let lark = Lark::start().await;
    lark.answer("POST", APP_PATH, ok(&json!({ "code": 0, "app_access_token": "a-1", "expire": 7200 }))).await;
    let answer = json!({ "code": 0, "data": {
        "access_token": "u-access", "expires_in": 6900, "refresh_token": "r-refresh", "refresh_expires_in": 2_591_700,
    }});
    for (at, body) in [
        (V1_EXCHANGE, json!({ "grant_type": "authorization_code", "code": "the-code" })),
        (V1_REFRESH, json!({ "grant_type": "refresh_token", "refresh_token": "r-old" })),
    ] {
        Mock::given(path(at))
            .and(header("authorization", "Bearer a-1"))
            .and(body_json(body))
            .respond_with(ok(&answer))
            .expect(1)
            .mount(&lark.server)
            .await;
    }
    let pair = lark.client.exchange_code(TokenApi::V1, &grant(), soon()).await.unwrap();
    assert_eq!((pair.access_expires_at, pair.refresh_expires_at), (after(6900), Some(after(2_591_700))));
    assert!(lark.client.refresh(TokenApi::V1, &secret("r-old"), soon()).await.is_ok());
}

#[tokio::test]
async fn v1_exchange_without_app_token_returns_not_processed() {
    let lark = Lark::start().await;
    lark.answer("POST", APP_PATH, ResponseTemplate::new(200).set_body_string("<html>")).await;
    let error = lark.client.exchange_code(TokenApi::V1, &grant(), soon()).await.unwrap_err();
    assert_eq!((error.outcome, error.kind), (Outcome::NotProcessed, ErrorKind::Transient));
    assert_eq!(lark.count(V1_EXCHANGE).await, 0);
}

/// The server accepts connections and never answers. Paused time advances while all tasks wait.
#[tokio::test(start_paused = true)]
async fn exchange_code_near_deadline_returns_in_time_or_is_not_sent() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let client = client(&address, Arc::new(ManualClock::at(start_of_time())), Arc::new(NoObserver));
    let cases = [
        (TokenApi::V2, 7, Outcome::MaybeProcessed),
        (TokenApi::V2, 4, Outcome::NotProcessed),
        // The fetch of the application's own token times out, so the code is not sent.
        (TokenApi::V1, 6, Outcome::NotProcessed),
    ];
    for (api, seconds, outcome) in cases {
        let until = Instant::now() + Duration::from_secs(seconds);
        let error = client.exchange_code(api, &grant(), until).await.unwrap_err();
        assert_eq!((error.outcome, error.kind), (outcome, ErrorKind::Transient), "{api:?} {seconds}");
        assert!(Instant::now() <= until + Duration::from_millis(1), "{api:?} {seconds}");
    }
}

#[tokio::test]
async fn v1_exchange_refused_app_token_drops_token_without_repeat() {
    let lark = Lark::start().await;
    lark.answer("POST", APP_PATH, ok(&json!({ "code": 0, "app_access_token": "a-1", "expire": 7200 }))).await;
    lark.answer("POST", V1_EXCHANGE, refusal(200, 20014)).await;
    for tries in 1..=2 {
        let error = lark.client.exchange_code(TokenApi::V1, &grant(), soon()).await.unwrap_err();
        assert_eq!((error.outcome, error.kind), (Outcome::NotProcessed, ErrorKind::Transient));
        assert_eq!((lark.count(APP_PATH).await, lark.count(V1_EXCHANGE).await), (tries, tries));
    }
}

#[tokio::test]
async fn refresh_every_known_code_returns_its_kind_without_repeat() {
    let codes = [
        20050, 20072, 20003, 20004, 20065, 20024, 20026, 20037, 20064, 20073, 20008, 20010, 20066, 20002,
        20009, 20048, 20069, 20074, 20001, 20036, 20049, 20063, 20067, 20068, 20070, 20071,
    ];
    for code in codes {
        let lark = Lark::start().await;
        let status = if code == 20050 { 500 } else { 400 };
        let answer = json!({ "code": code, "error": "invalid_grant", "error_description": "r-old is bad" });
        lark.answer("POST", V2, ResponseTemplate::new(status).set_body_json(answer)).await;
        let error = lark.client.refresh(TokenApi::V2, &secret("r-old"), soon()).await.unwrap_err();
        let row = known(code).unwrap();
        assert_eq!((&error.kind, error.outcome, error.code), (&row.kind, row.outcome, Some(code)));
        assert!(!format!("{error} {error:?}").contains("r-old"), "{error}");
        assert_eq!(lark.calls(), [format!("refresh_token code_{code}")]);
    }
}

#[tokio::test]
async fn refresh_unknown_code_returns_kind_of_oauth_error() {
    for (error, kind) in [
        (json!("invalid_grant"), ErrorKind::RefreshTokenInvalid),
        (json!(" INVALID_GRANT "), ErrorKind::RefreshTokenInvalid),
        (json!("invalid_client"), ErrorKind::App),
        (json!("unauthorized_client"), ErrorKind::InvalidRequest),
        (json!("access_denied"), ErrorKind::AccessDenied),
        (json!("invalid_request"), ErrorKind::InvalidRequest),
        (json!("invalid_scope"), ErrorKind::InvalidRequest),
        (json!("unsupported_grant_type"), ErrorKind::InvalidRequest),
        (json!("server_error"), ErrorKind::Transient),
        (json!("temporarily_unavailable"), ErrorKind::Transient),
        (json!("something_new"), ErrorKind::Unknown),
        (json!({ "log_id": "1" }), ErrorKind::Unknown),
        (json!(null), ErrorKind::Unknown),
    ] {
        for code in [json!(29999), json!("29999"), json!(29999.0), json!(1e300)] {
            let lark = Lark::start().await;
            let answer = json!({ "code": code, "error": error });
            lark.answer("POST", V2, ResponseTemplate::new(400).set_body_json(answer)).await;
            let refused = lark.client.refresh(TokenApi::V2, &secret("r"), soon()).await.unwrap_err();
            assert_eq!(refused.kind, kind, "{code} {error}");
            let label = if kind == ErrorKind::Unknown {
                "code_other"
            } else if kind == ErrorKind::AccessDenied {
                "access_denied"
            } else {
                "oauth_error"
            };
            assert_eq!(lark.calls(), [format!("refresh_token {label}")]);
        }
    }
}

#[tokio::test]
async fn exchange_code_refresh_token_code_returns_invalid_grant() {
    let lark = Lark::start().await;
    lark.answer("POST", V2, refusal(400, 20024)).await;
    assert_eq!(
        lark.client.exchange_code(TokenApi::V2, &grant(), soon()).await.unwrap_err().kind,
        ErrorKind::InvalidGrant
    );
}

#[tokio::test]
async fn invalid_grant_without_code_returns_kind_by_grant() {
    let lark = Lark::start().await;
    lark.answer("POST", V2, ResponseTemplate::new(400).set_body_json(json!({ "error": "invalid_grant" })))
        .await;
    assert_eq!(
        lark.client.refresh(TokenApi::V2, &secret("r"), soon()).await.unwrap_err().kind,
        ErrorKind::RefreshTokenInvalid
    );
    assert_eq!(
        lark.client.exchange_code(TokenApi::V2, &grant(), soon()).await.unwrap_err().kind,
        ErrorKind::InvalidGrant
    );
    assert_eq!(
        lark.client.poll_device_code(&secret("d"), soon()).await.unwrap_err().kind,
        ErrorKind::InvalidGrant
    );
}

#[tokio::test]
async fn refresh_without_refresh_lifetime_returns_refresh_token() {
    let lark = Lark::start().await;
    let answer = json!({ "code": 0, "access_token": "u", "expires_in": 60, "refresh_token": "r-new" });
    lark.answer_first(1, "POST", V2, ok(&answer)).await;
    lark.answer(
        "POST",
        V2,
        ok(&json!({ "code": 0, "access_token": "u", "expires_in": 60, "refresh_token": "" })),
    )
    .await;
    let pair = lark.client.refresh(TokenApi::V2, &secret("r"), soon()).await.unwrap();
    assert_eq!((pair.refresh_token.unwrap().expose_secret(), pair.refresh_expires_at), ("r-new", None));
    let pair = lark.client.refresh(TokenApi::V2, &secret("r"), soon()).await.unwrap();
    assert!(pair.refresh_token.is_none() && pair.refresh_expires_at.is_none());
}

#[tokio::test]
async fn device_authorization_returns_codes_expiry_and_interval() {
    let lark = Lark::start().await;
    // Basic cli_0123456789abcdef:app-secret-value
    Mock::given(path("/oauth/v1/device_authorization"))
        .and(header("authorization", "Basic Y2xpXzAxMjM0NTY3ODlhYmNkZWY6YXBwLXNlY3JldC12YWx1ZQ=="))
        .and(body_string("client_id=cli_0123456789abcdef&scope=offline_access+a%3Ab"))
        .respond_with(ok(&json!({
            "device_code": "dev-code", "user_code": "USER-CODE", "verification_uri": "https://a.example/device",
            "verification_uri_complete": "https://a.example/device?c=USER-CODE", "expires_in": 240,
        })))
        .mount(&lark.server)
        .await;
    let scopes = ["offline_access".to_owned(), "a:b".to_owned()];
    let device = lark.client.device_authorization(&scopes).await.unwrap();
    assert_eq!((device.expires_at, device.interval), (after(240), Duration::from_secs(5)));
    let shown = format!("{device:?}");
    assert!(!shown.contains("dev-code") && !shown.contains("USER-CODE"), "{shown}");
}

#[tokio::test]
async fn device_authorization_with_address_that_no_browser_opens_refused() {
    for address in
        ["javascript:alert(1)".to_owned(), "x".to_owned(), format!("https://a.example/{}", "x".repeat(1000))]
    {
        let lark = Lark::start().await;
        let answer = json!({ "device_code": "d", "user_code": "U", "verification_uri": address });
        lark.answer("POST", "/oauth/v1/device_authorization", ok(&answer)).await;
        assert_eq!(lark.client.device_authorization(&[]).await.unwrap_err().kind, ErrorKind::Transient);
        let answer = json!({
            "device_code": "d", "user_code": "U", "verification_uri": "https://a.example/", "verification_uri_complete": address,
        });
        let lark = Lark::start().await;
        lark.answer("POST", "/oauth/v1/device_authorization", ok(&answer)).await;
        assert!(lark.client.device_authorization(&[]).await.unwrap().verification_uri_complete.is_none());
    }
}

#[tokio::test]
async fn poll_device_code_every_oauth_error_returns_its_kind() {
    for (error, kind, label) in [
        (
            "authorization_pending",
            ErrorKind::AuthorizationPending { slow_down: false },
            "authorization_pending",
        ),
        ("slow_down", ErrorKind::AuthorizationPending { slow_down: true }, "authorization_pending"),
        ("access_denied", ErrorKind::AccessDenied, "access_denied"),
        ("expired_token", ErrorKind::DeviceCodeExpired, "oauth_error"),
    ] {
        for code in [json!(null), json!(20001)] {
            let lark = Lark::start().await;
            let answer = json!({ "code": code, "error": error });
            lark.answer("POST", V2, ResponseTemplate::new(400).set_body_json(answer)).await;
            assert_eq!(lark.client.poll_device_code(&secret("d"), soon()).await.unwrap_err().kind, kind);
            assert_eq!(lark.calls(), [format!("poll_device_code {label}")]);
        }
    }
    let lark = Lark::start().await;
    let answer = json!({ "code": 20010, "error": "access_denied" });
    lark.answer("POST", V2, ResponseTemplate::new(400).set_body_json(answer)).await;
    let refused = lark.client.poll_device_code(&secret("d"), soon()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::User, "the person may not use the application, and did not decline");
    let lark = Lark::start().await;
    lark.answer("POST", V2, ok(&pair())).await;
    assert!(lark.client.poll_device_code(&secret("d"), soon()).await.is_ok());
    let body = &lark.bodies(V2).await[0];
    assert_eq!(body["grant_type"], "urn:ietf:params:oauth:grant-type:device_code");
    assert_eq!(body["device_code"], "d");
}
