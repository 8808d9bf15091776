//! Forms that change something: only those of the console's own pages, for the same login.

use std::sync::Arc;

use larkauth_messaging::DeadLetter;
use larkauth_models::{AuthMethod, EventId, KeyScope, TokenKind};
use larkauth_storage::AuditFilter;

use super::browser::{Browser, forms};
use crate::actor::ACTOR;
use crate::tests::world::{APP, FakeBus, KEY, PERSON, World, app_id, now};

fn letter(id: &str) -> DeadLetter {
    DeadLetter {
        id: EventId::new(id).unwrap(),
        r#type: "com.larkauth.test".to_owned(),
        routing_key: "test".to_owned(),
        queue: Some("invitations".to_owned()),
        reason: Some("<script>alert(1)</script>".to_owned()),
        attempt: 12,
        died_at: Some(now()),
        body: "{\"a\":\"</pre><script>\"}".into(),
        headers: std::collections::BTreeMap::new(),
    }
}

async fn world() -> (World, Arc<FakeBus>) {
    let bus = Arc::new(FakeBus::default());
    let world = World::with_bus(bus.clone()).await;
    bus.letters.lock().unwrap().extend([letter("letter-1"), letter("letter-2")]);
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    (world, bus)
}

impl World {
    /// Whether anything that the forms change is as it was.
    async fn is_unchanged(&self, bus: &FakeBus) -> bool {
        let open_id = PERSON.parse().unwrap();
        let token = self.store.token(&app_id(), &open_id, TokenKind::User).await.unwrap();
        let app = self.store.application(&app_id()).await.unwrap().unwrap();
        token.is_some() && app.enabled && bus.letters.lock().unwrap().len() == 2
    }
}

#[tokio::test]
async fn form_without_own_token_or_from_another_site_changes_nothing() {
    let (world, bus) = world().await;
    let mut other = Browser::logged_in(&world).await;
    other.get("").await;
    let foreign = other.csrf.clone();
    let mut browser = Browser::logged_in(&world).await;
    let own = browser.csrf.clone();
    assert!(own.len() == 43 && own != foreign);
    let tokens =
        [String::new(), "csrf=".to_owned(), format!("csrf={}x", &own[..42]), format!("csrf={foreign}")];
    for (page, fields) in forms() {
        for token in &tokens {
            let refused = browser.post(page, &format!("{token}&{fields}")).await;
            assert_eq!(refused.status, 403, "{page} {token}");
            assert!(refused.text.contains("Nothing was changed"), "{}", refused.text);
        }
        let right = format!("csrf={own}&{fields}");
        for headers in [
            &[][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
        ] {
            assert_eq!(browser.post_from(page, &right, headers).await.status, 403, "{page} {headers:?}");
        }
        // A reader of the address bar or of a link changes nothing.
        assert_ne!(browser.get(&format!("{page}?{right}")).await.status, 303, "{page}");
    }
    assert!(world.is_unchanged(&bus).await);
    assert!(browser.cookie.is_some());
    // Neither does a login form of another site.
    let mut stranger = Browser::new(&world);
    for headers in [&[][..], &[("sec-fetch-site", "cross-site")]] {
        let key = format!("key={KEY}");
        assert_eq!(stranger.post_from("login", &key, headers).await.status, 403);
    }
    assert!(stranger.cookie.is_none());
}

#[tokio::test]
async fn form_without_login_or_scope_changes_nothing() {
    let (world, bus) = world().await;
    let token = "csrf=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let mut stranger = Browser::new(&world);
    for (page, fields) in forms() {
        let answer = stranger.post(page, &format!("{token}&{fields}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "login"), "{page}");
    }
    let (mut reader, _) = Browser::with_scopes(&world, &[KeyScope::SessionsRead], &[]).await;
    for (page, fields) in forms().into_iter().filter(|(page, _)| *page != "logout") {
        assert_eq!(reader.submit(page, &fields).await.status, 403, "{page}");
    }
    assert!(world.is_unchanged(&bus).await);
}

#[tokio::test]
async fn form_with_origin_of_a_browser_without_fetch_metadata_is_taken() {
    let (world, bus) = world().await;
    let mut browser = Browser::logged_in(&world).await;
    let fields = format!("csrf={}&id=letter-1", browser.csrf);
    let origin = [("origin", "http://console.example")];
    assert_eq!(browser.post_from("drop", &fields, &origin).await.status, 303);
    assert_eq!(bus.letters.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn revoke_wipes_the_token_and_is_recorded_for_the_key() {
    let (world, _) = world().await;
    let (mut browser, key) =
        Browser::with_scopes(&world, &[KeyScope::SessionsWrite, KeyScope::TokensRead], &[APP]).await;
    let person = format!("app_id={APP}&open_id={PERSON}");
    let asked = browser.get(&format!("revoke?{person}")).await;
    assert!(asked.status == 200 && asked.text.contains("Revoke this token?"), "{}", asked.text);
    let done = browser.submit("revoke", &person).await;
    assert_eq!(done.header("location"), format!("person?{person}&done=revoked"));
    let shown = browser.get(done.header("location")).await;
    assert!(shown.text.contains("The token is revoked.") && shown.text.contains("badge neutral\">revoked"));
    assert!(!shown.text.contains("Revoke…"), "nothing is left to revoke");
    let filter = AuditFilter { actor: Some(key.to_string()), ..AuditFilter::default() };
    world.context.flush_audit().await;
    let records = world.context.audit_records(&ACTOR, now(), &filter, None, 50).await.unwrap();
    let revoked = records.iter().find(|record| record.action == "token.revoke").unwrap();
    assert_eq!((revoked.outcome.as_str(), revoked.person.as_deref()), ("ok", Some(PERSON)));
    assert!(revoked.request_id.as_deref().unwrap().starts_with("console:"));
    assert!(records.iter().any(|record| record.action == "profile.show"), "what was read is recorded too");
}

#[tokio::test]
async fn dead_letter_is_put_back_or_dropped_once() {
    let (world, bus) = world().await;
    let mut browser = Browser::logged_in(&world).await;
    let listed = browser.get("dead-letters").await;
    assert!(listed.text.contains("letter-1") && listed.text.contains("letter-2"));
    assert_eq!(
        browser.submit("requeue", "id=letter-1").await.header("location"),
        "dead-letters?done=requeued"
    );
    assert_eq!(browser.submit("drop", "id=letter-2").await.header("location"), "dead-letters?done=dropped");
    assert!(bus.letters.lock().unwrap().is_empty());
    let gone = browser.submit("drop", "id=letter-2").await;
    assert!(gone.status == 404 && gone.text.contains("letter-2"), "{}", gone.text);
}

#[tokio::test]
async fn application_is_disabled_and_enabled() {
    let (world, _) = world().await;
    let mut browser = Browser::logged_in(&world).await;
    let app = format!("app_id={APP}");
    for (action, enabled) in [("disable", false), ("enable", true)] {
        let done = browser.submit(action, &app).await;
        assert_eq!(done.header("location"), format!("apps?done={action}d"));
        assert_eq!(world.store.application(&app_id()).await.unwrap().unwrap().enabled, enabled);
    }
    let unknown = browser.submit("disable", "app_id=cli_fedcba9876543210").await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn refresh_that_fails_says_why() {
    let (world, _) = world().await;
    let mut browser = Browser::logged_in(&world).await;
    // No Lark listens in this world.
    let failed = browser.submit("refresh", &format!("app_id={APP}&open_id={PERSON}")).await;
    assert_eq!(failed.status, 503, "{}", failed.text);
    assert!(failed.text.contains("Not available at present"), "{}", failed.text);
}
