use larkauth_models::{ExposeSecret, OpenId};
use wiremock::matchers::{body_json, header, query_param};

use super::*;
use crate::error::ErrorKind;

const USER_INFO: &str = "/open-apis/authen/v1/user_info";
const BY_EMAIL: &str = "/open-apis/contact/v3/users/batch_get_id";
const BATCH: &str = "/open-apis/contact/v3/users/batch";

#[tokio::test]
async fn user_info_valid_token_returns_profile() {
    let lark = Lark::start().await;
    let data = json!({
        "name": "Li", "en_name": "", "avatar_url": "https://a.example/p.png", "open_id": "ou_1", "union_id": "on_1",
        "email": "", "enterprise_email": "li@corp.example", "mobile": "+8613800000000", "tenant_key": "t",
    });
    Mock::given(path(USER_INFO))
        .and(header("authorization", "Bearer u-1"))
        .respond_with(ok(&json!({ "code": 0, "data": data })))
        .mount(&lark.server)
        .await;
    let person = lark.client.user_info(&secret("u-1")).await.unwrap();
    assert_eq!((person.open_id.as_str(), person.name.as_deref(), person.en_name), ("ou_1", Some("Li"), None));
    assert_eq!(person.email.as_ref().unwrap().expose_secret(), "li@corp.example");
    assert_eq!(person.user_id, None);
    let shown = format!("{:?}", lark.client.user_info(&secret("u-1")).await);
    assert!(!shown.contains("corp.example") && !shown.contains("138000"), "{shown}");
}

#[tokio::test]
async fn user_info_hostile_texts_are_kept_fit_to_be_shown_and_stored() {
    let lark = Lark::start().await;
    let data = json!({
        "open_id": "ou_1", "name": "\u{202e}Li\0\u{1b}[2J\r\nLei\u{200b}", "en_name": "x".repeat(100_000),
        "email": "li\0@corp.example", "enterprise_email": "li@corp.example", "mobile": "1\n2",
        "avatar_url": "https://a.example/\0", "tenant_key": "t".repeat(10_000),
    });
    lark.answer("GET", USER_INFO, ok(&json!({ "code": 0, "data": data }))).await;
    let person = lark.client.user_info(&secret("u")).await.unwrap();
    assert_eq!(person.name.as_deref(), Some("Li  [2J  Lei"));
    assert_eq!(person.en_name.unwrap().chars().count(), 101);
    assert_eq!(person.email.unwrap().expose_secret(), "li@corp.example");
    assert!(person.mobile.is_none() && person.avatar_url.is_none() && person.tenant_key.is_none());
}

#[tokio::test]
async fn user_info_only_open_id_is_required() {
    let lark = Lark::start().await;
    lark.answer_first(
        1,
        "GET",
        USER_INFO,
        ok(&json!({ "code": 0, "data": { "open_id": "ou_1", "name": null } })),
    )
    .await;
    lark.answer("GET", USER_INFO, ok(&json!({ "code": 0, "data": { "name": "no open id" } }))).await;
    assert!(lark.client.user_info(&secret("u")).await.unwrap().email.is_none());
    assert_eq!(lark.client.user_info(&secret("u")).await.unwrap_err().kind, ErrorKind::Transient);
}

#[tokio::test]
async fn user_info_every_known_code_returns_its_kind() {
    for (code, kind) in [
        (20005, ErrorKind::AccessTokenInvalid),
        (99991677, ErrorKind::AccessTokenInvalid),
        (99991668, ErrorKind::AccessTokenInvalid),
        (20008, ErrorKind::User),
        (20021, ErrorKind::User),
        (20022, ErrorKind::User),
        (20023, ErrorKind::User),
    ] {
        let lark = Lark::start().await;
        lark.answer("GET", USER_INFO, refusal(200, code)).await;
        assert_eq!(lark.client.user_info(&secret("u")).await.unwrap_err().kind, kind, "{code}");
        assert_eq!(lark.count(USER_INFO).await, 1);
    }
}

#[tokio::test]
async fn contact_returns_profile_and_status() {
    let lark = Lark::with_tenant_token().await;
    Mock::given(path("/open-apis/contact/v3/users/ou_1"))
        .and(query_param("user_id_type", "open_id"))
        .and(header("authorization", "Bearer t-1"))
        .respond_with(ok(&json!({ "code": 0, "data": { "user": {
            "open_id": "ou_1", "name": "Li", "avatar": { "avatar_240": "https://a.example/240.png" },
            "status": { "is_frozen": true, "is_activated": true },
        }}})))
        .mount(&lark.server)
        .await;
    let contact = lark.client.contact(&OpenId::new("ou_1").unwrap()).await.unwrap();
    assert_eq!(contact.profile.avatar_url.as_deref(), Some("https://a.example/240.png"));
    let status = contact.status.unwrap();
    assert!(status.is_frozen && status.is_activated && !status.is_usable());
}

#[tokio::test]
async fn contacts_many_ids_splits_into_batches_of_fifty() {
    let lark = Lark::with_tenant_token().await;
    let items = json!([{ "open_id": "ou_0" }, { "open_id": "not an id" }]);
    lark.answer_first(1, "GET", BATCH, ok(&json!({ "code": 0, "data": { "items": items } }))).await;
    lark.answer("GET", BATCH, ok(&json!({ "code": 0, "data": {} }))).await;
    let ids: Vec<_> = (0..120).map(|n| OpenId::new(format!("ou_{n}")).unwrap()).collect();
    let contacts = lark.client.contacts(&ids).await.unwrap();
    assert_eq!(contacts.len(), 1);
    let requests = lark.server.received_requests().await.unwrap();
    let sizes: Vec<_> = requests
        .iter()
        .filter(|request| request.url.path() == BATCH)
        .map(|request| request.url.query_pairs().filter(|(name, _)| name == "user_ids").count())
        .collect();
    assert_eq!(sizes, [50, 50, 20]);
    assert!(lark.client.contacts(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn open_id_by_email_returns_person_none_or_scope_error() {
    let lark = Lark::with_tenant_token().await;
    Mock::given(path(BY_EMAIL))
        .and(query_param("user_id_type", "open_id"))
        .and(header("authorization", "Bearer t-1"))
        .and(body_json(json!({ "emails": ["li@corp.example"] })))
        .respond_with(ok(&json!({ "code": 0, "data": { "user_list": [{ "user_id": "ou_1" }] } })))
        .mount(&lark.server)
        .await;
    let found = lark.client.open_id_by_email(&secret("li@corp.example")).await.unwrap();
    assert_eq!(found.unwrap().as_str(), "ou_1");

    let lark = Lark::with_tenant_token().await;
    let no_match = json!({ "code": 0, "data": { "user_list": [{ "email": "li@corp.example" }] } });
    lark.answer_first(1, "POST", BY_EMAIL, ok(&no_match)).await;
    lark.answer("POST", BY_EMAIL, refusal(400, 99991672)).await;
    assert_eq!(lark.client.open_id_by_email(&secret("li@corp.example")).await.unwrap(), None);
    let error = lark.client.open_id_by_email(&secret("li@corp.example")).await.unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::InsufficientScope { .. }) && !error.to_string().contains("corp"),
        "{error}"
    );
}
