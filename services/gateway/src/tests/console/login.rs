//! Logging in and out, and what a login is worth.

use std::num::NonZeroU32;

use chrono::TimeDelta;
use larkauth_auth::api_keys::NewApiKey;
use larkauth_models::{AuthMethod, ExposeSecret, KeyScope};
use larkauth_storage::AuditFilter;

use super::browser::{Browser, pages};
use crate::actor::ACTOR;
use crate::tests::world::{KEY, World, now};

#[tokio::test]
async fn login_wrong_key_is_refused_and_right_key_gets_protected_cookie() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let wrong = browser.log_in("lak_not-a-key").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.text.contains("unknown, expired or was revoked") && !wrong.text.contains("lak_not-a-key"));
    assert!(browser.cookie.is_none());
    assert_eq!(browser.log_in("").await.status, 401);

    let right = browser.log_in(KEY).await;
    assert_eq!((right.status.as_u16(), right.header("location")), (303, "./"));
    let cookie = right.header("set-cookie");
    let (pair, flags) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("larkauth_console="), "{cookie}");
    // No path: the browser takes the folder of the address, `/console` or what a proxy made of it.
    assert_eq!(flags, "HttpOnly; SameSite=Strict; Max-Age=1800");
    assert!(!pair.contains(KEY));
    let page = browser.get("").await;
    assert!(page.status == 200 && page.text.contains("API_KEY"), "{}", page.text);
    // A login page has nothing to do for a login, and leads to no other site.
    assert_eq!(browser.get("login?next=sessions").await.header("location"), "sessions");
    assert_eq!(browser.get("login?next=https://evil.example").await.header("location"), "./");
}

#[tokio::test]
async fn login_over_tls_of_trusted_proxy_is_secure() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.headers = vec![("x-forwarded-proto", "https")];
    // The peer is no trusted proxy.
    assert!(!browser.log_in(KEY).await.header("set-cookie").contains("Secure"));
    browser.cookie = None;
    browser.peer = "10.0.0.1:4711".parse().unwrap();
    let cookie = browser.log_in(KEY).await.header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Secure-larkauth_console=") && cookie.ends_with("; Secure"), "{cookie}");
    assert_eq!(browser.get("").await.status, 200);
    // The same cookie is not taken without TLS.
    browser.headers.clear();
    assert_eq!(browser.get("").await.status, 303);
}

#[tokio::test]
async fn login_many_wrong_keys_of_one_address_are_bounded() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(browser.log_in("wrong").await.status.as_u16());
    }
    assert_eq!(statuses[..10], [401; 10]);
    let refused = browser.log_in(KEY).await;
    assert!(refused.status == 429 && !refused.header("retry-after").is_empty(), "{}", refused.text);
    browser.peer = "192.0.2.2:1".parse().unwrap();
    assert_eq!(browser.log_in(KEY).await.status, 303);
}

#[tokio::test]
async fn page_above_rate_of_its_key_is_429_with_retry_after() {
    let world = World::new().await;
    let new = NewApiKey {
        name: "slow".to_owned(),
        scopes: vec![KeyScope::SessionsRead],
        app_ids: Vec::new(),
        lark_scopes: Vec::new(),
        requests_per_minute: NonZeroU32::new(3),
        expires_at: None,
    };
    let key = world.context.create_api_key(&ACTOR, now(), new).await.unwrap();
    let mut browser = Browser::new(&world);
    assert_eq!(browser.log_in(key.secret.expose_secret()).await.status, 303);
    for _ in 0..2 {
        assert_eq!(browser.get("sessions").await.status, 200);
    }
    let refused = browser.get("sessions").await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=20).contains(&seconds) && refused.text.contains(&seconds.to_string()), "{}", refused.text);
}

#[tokio::test]
async fn page_without_login_redirects_to_login() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    let mut browser = Browser::new(&world);
    for page in pages(&session.id.to_string()) {
        let answer = browser.get(&page).await;
        assert_eq!(answer.status, 303, "{page}");
        let location = answer.header("location");
        assert!(location == "login" || location.starts_with("login?next="), "{page}: {location}");
        assert!(answer.header("set-cookie").is_empty() && answer.text.is_empty(), "{page}");
    }
    let login = browser.get("login?next=session%3Fid%3D7").await;
    assert!(login.text.contains("value=\"session?id=7\""), "{}", login.text);
    for forged in ["larkauth_console=", "larkauth_console=AAAA", "larkauth_console=%00"] {
        browser.cookie = Some(forged.to_owned());
        assert_eq!(browser.get("").await.status, 303, "{forged}");
    }
}

#[tokio::test]
async fn logout_ends_every_copy_of_the_login() {
    let world = World::new().await;
    let mut browser = Browser::logged_in(&world).await;
    let copy = browser.cookie.clone();
    let mut other = Browser::logged_in(&world).await;
    let answer = browser.submit("logout", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "login?done=logged_out"));
    assert!(answer.header("set-cookie").contains("Max-Age=0") && browser.cookie.is_none());
    browser.cookie = copy;
    assert_eq!(browser.get("").await.status, 303);
    assert_eq!(other.get("").await.status, 200, "another login goes on");
    world.context.flush_audit().await;
    let filter = AuditFilter::default();
    let records = world.context.audit_records(&ACTOR, now(), &filter, None, 50).await.unwrap();
    let of = |action: &str| records.iter().filter(|record| record.action == action).count();
    assert_eq!((of("console.login"), of("console.logout")), (2, 1));
    let logout = records.iter().find(|record| record.action == "console.logout").unwrap();
    assert!(logout.request_id.as_deref().unwrap().starts_with("console:"), "{logout:?}");
    assert_eq!(logout.address.as_deref(), Some("192.0.2.1"));
}

#[tokio::test]
async fn login_ends_when_idle_and_is_renewed_when_used() {
    let world = World::new().await;
    let mut browser = Browser::logged_in(&world).await;
    let sealed = browser.cookie.clone().unwrap();
    let sealed = sealed.split_once('=').unwrap().1.to_owned();
    let session = world.context.console_session(now(), &sealed).await.unwrap().unwrap();
    let used = |minutes| {
        let at = now() - TimeDelta::minutes(minutes);
        let sealed = world.context.seal_console_session(at, &session).unwrap();
        format!("larkauth_console={}", sealed.expose_secret())
    };
    browser.cookie = Some(used(31));
    assert_eq!(browser.get("").await.status, 303);
    browser.cookie = Some(used(29));
    let renewed = browser.get("sessions").await;
    assert_eq!(renewed.status, 200);
    assert!(renewed.header("set-cookie").contains("Max-Age=1800"), "{}", renewed.header("set-cookie"));
    assert!(browser.get("sessions").await.header("set-cookie").is_empty(), "once in a minute");
    let mut old = session.clone();
    old.started_at = now() - TimeDelta::hours(8);
    let sealed = world.context.seal_console_session(now(), &old).unwrap();
    browser.cookie = Some(format!("larkauth_console={}", sealed.expose_secret()));
    assert_eq!(browser.get("").await.status, 303, "eight hours are over");
}

#[tokio::test]
async fn login_of_revoked_key_ends_at_once() {
    let world = World::new().await;
    let (mut browser, key) = Browser::with_scopes(&world, &[KeyScope::SessionsRead], &[]).await;
    assert_eq!(browser.get("sessions").await.status, 200);
    assert!(world.context.revoke_api_key(&ACTOR, now(), key).await.unwrap());
    assert_eq!(browser.get("sessions").await.status, 303);
    assert_eq!(browser.submit("logout", "").await.header("location"), "login");
}

#[tokio::test]
async fn console_is_on_the_private_listener_only() {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    let world = World::new().await;
    let (public, private) = crate::router::separate_routers(world.state.as_ref().unwrap());
    let status = async |router: &axum::Router, path: &str| {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    for path in ["/console", "/console/", "/console/login", "/console/sessions"] {
        assert_eq!(status(&public, path).await, 404, "{path}");
        assert_ne!(status(&private, path).await, 404, "{path}");
    }
}
