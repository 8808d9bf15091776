use std::net::SocketAddr;

use axum::{body::Body, extract::ConnectInfo, http::StatusCode};
use larkauth_auth::api_keys::NewApiKey;
use larkauth_contracts::rest::{AuditPage, AuditRecordView};
use larkauth_models::{ExposeSecret, KeyScope};
use larkauth_storage::testing::act;
use serde_json::json;

use super::world::{APP, PERSON, World, application, now, request};
use crate::actor::ACTOR;

const OTHER_APP: &str = "cli_fedcba9876543210";

impl World {
    /// A new key's secret, for these applications.
    async fn key(&self, name: &str, scopes: &[KeyScope], apps: &[&str]) -> String {
        let new = NewApiKey {
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            app_ids: apps.iter().map(|app| app.parse().unwrap()).collect(),
            lark_scopes: Vec::new(),
            requests_per_minute: None,
            expires_at: None,
        };
        let created = self.context.create_api_key(&ACTOR, now(), new).await.unwrap();
        created.secret.expose_secret().to_owned()
    }

    /// Sends a request with a key, from an address, through a proxy.
    async fn get_as(&self, key: &str, path: &str) -> super::world::Answer {
        let mut request = request("GET", path)
            .header("x-request-id", "r-1")
            .header("x-forwarded-for", "203.0.113.9, 198.51.100.7")
            .body(Body::empty())
            .unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let peer: SocketAddr = "10.0.0.1:4711".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        self.send(request).await
    }

    /// The records that `GET /v1/audit` shows the bootstrap key, after what waits was written.
    async fn audited(&self, query: &str) -> Vec<AuditRecordView> {
        self.context.flush_audit().await;
        self.get(&format!("/v1/audit?{query}")).await.json::<AuditPage>().items
    }
}

#[tokio::test]
async fn audit_names_caller_address_and_request() {
    let world = World::new().await;
    let key = world.key("crm", &[KeyScope::TokensRead], &[APP]).await;
    let token = format!("/v1/apps/{APP}/users/{PERSON}/token");
    assert_eq!(world.get_as(&key, &token).await.status, StatusCode::NOT_FOUND);
    let [record] = world.audited("action=token.serve").await.try_into().unwrap();
    assert_eq!((record.actor_kind.as_str(), record.actor_name.as_deref()), ("api_key", Some("crm")));
    assert_eq!((record.app_id.as_deref(), record.person.as_deref()), (Some(APP), Some(PERSON)));
    assert_eq!(record.address.as_deref(), Some("198.51.100.7"), "the hop before the trusted proxy");
    assert_eq!(record.request_id.as_deref(), Some("r-1"));
    assert_eq!(
        (record.outcome.as_str(), record.reason.as_deref()),
        ("refused", Some("authentication_required"))
    );
    let by_actor = world.audited(&format!("actor={}", record.actor_id)).await;
    assert_eq!(by_actor, [record]);
}

#[tokio::test]
async fn request_without_scope_is_recorded_as_refused() {
    let world = World::new().await;
    let key = world.key("crm", &[KeyScope::TokensRead], &[]).await;
    assert_eq!(world.get_as(&key, "/v1/audit").await.status, StatusCode::FORBIDDEN);
    let [record] = world.audited("action=request.deny").await.try_into().unwrap();
    assert_eq!(record.reason.as_deref(), Some("insufficient_scope:audit:read"));
    assert_eq!(record.actor_name.as_deref(), Some("crm"));
}

#[tokio::test]
async fn audit_of_restricted_key_shows_its_applications_only() {
    let world = World::new().await;
    world.store.put_application(&application(OTHER_APP), &act(now())).await.unwrap();
    for app in [APP, OTHER_APP] {
        let body = json!({"app_id": app, "open_id": PERSON});
        assert_eq!(world.post("/v1/auth/sessions", &body).await.status, StatusCode::CREATED);
    }
    let key = world.key("auditor", &[KeyScope::AuditRead], &[OTHER_APP]).await;
    let page = async |query: &str| world.get_as(&key, &format!("/v1/audit{query}")).await;
    let seen: AuditPage = page("").await.json();
    assert_eq!(seen.items.len(), 1);
    assert_eq!(
        (seen.items[0].action.as_str(), seen.items[0].app_id.as_deref()),
        ("session.create", Some(OTHER_APP))
    );
    let refused = page(&format!("?app_id={APP}")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let everything = world.audited("action=session.create").await;
    assert_eq!(everything.len(), 2);
}

#[tokio::test]
async fn audit_pages_are_complete_and_filters_checked() {
    let world = World::new().await;
    for _ in 0..7 {
        world.get("/v1/auth/sessions").await;
    }
    world.context.flush_audit().await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/audit?action=session.list&limit=3{cursor}");
        let page: AuditPage = world.get(&path).await.json();
        seen.extend(page.items.into_iter().map(|record| record.id));
        let Some(next) = page.next_cursor else { break };
        cursor = format!("&cursor={next}");
    }
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((seen.len(), unique.len()), (7, 7));
    let until = "until=2000-01-01T00:00:00Z";
    assert_eq!(world.audited(until).await, []);
    for query in ["since=-262143-01-01T00:00:00Z", "until=%2B262142-12-31T00:00:00Z"] {
        assert_eq!(world.audited(&format!("{query}&action=session.list")).await.len(), 7, "{query}");
    }
    for query in [
        "person=%00",
        "actor=a%0Ab",
        "action=token.steal",
        "since=yesterday",
        "limit=201",
        "cursor=x",
        "app_id=cli_x",
        "colour=red",
    ] {
        let answer = world.get(&format!("/v1/audit?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {}", answer.text);
    }
}
