//! What the pages show, and how they are protected.

use larkauth_models::{AuthMethod, KeyScope, Timestamp};

use super::browser::{Browser, pages};
use crate::tests::world::{APP, EMAIL, KEY, MOBILE, PERSON, World};

/// Would run, break out of an attribute, and turn the direction of writing.
const HOSTILE: &str = "<script>alert(1)</script>\" onload='x' \u{202e}gnp.exe";

#[tokio::test]
async fn page_escapes_hostile_name_and_is_protected() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-secret-access-token", HOSTILE).await;
    let mut browser = Browser::logged_in(&world).await;
    let mut shown = 0;
    for page in pages(&session.id.to_string()) {
        let answer = browser.get(&page).await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.text);
        assert!(!answer.text.contains("<script") && !answer.text.contains('\u{202e}'), "{page}");
        shown += usize::from(answer.text.contains("&#60;script&#62;alert(1)&#60;/script&#62;"));
        for secret in ["u-secret-access-token", "app secret", "verification token\"", EMAIL, MOBILE, KEY] {
            assert!(!answer.text.contains(secret), "{page} shows {secret}");
        }
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        for part in ["form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("content-type", "text/html; charset=utf-8"),
        ] {
            assert_eq!(answer.header(name), value, "{page} {name}");
        }
        assert!(!answer.text.contains("style=\"") && !answer.text.contains("http://") || page == "apps");
    }
    assert!(shown >= 3, "the list, the session and the person show the name; {shown}");
}

#[tokio::test]
async fn page_echoes_what_was_asked_for_escaped() {
    let world = World::new().await;
    let mut browser = Browser::logged_in(&world).await;
    let hostile = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    for page in [
        format!("sessions?open_id={hostile}"),
        format!("sessions?state={hostile}"),
        format!("people?open_id={hostile}"),
        format!("audit?person={hostile}&actor={hostile}&since={hostile}"),
        format!("audit?person={hostile}"),
        format!("session?id={hostile}"),
        format!("person?app_id={APP}&open_id={hostile}"),
        format!("drop?id={hostile}"),
        format!("?done={hostile}"),
        format!("login?next={hostile}"),
        format!("language?to={hostile}&back={hostile}"),
    ] {
        let answer = browser.get(&page).await;
        assert!(!answer.status.is_server_error(), "{page}: {}", answer.status);
        assert!(!answer.text.contains("<script"), "{page}: {}", answer.text);
        assert!(!answer.header("location").contains("script"), "{page}");
    }
}

#[tokio::test]
async fn page_without_scope_names_the_scope() {
    let world = World::new().await;
    let (mut browser, _) = Browser::with_scopes(&world, &[KeyScope::Proxy], &[]).await;
    assert_eq!(browser.get("").await.status, 200);
    let person = format!("?app_id={APP}&open_id={PERSON}");
    for (page, scope) in [
        ("sessions".to_owned(), "sessions:read"),
        ("people".to_owned(), "tokens:read"),
        ("horizon".to_owned(), "tokens:read"),
        ("dead-letters".to_owned(), ">*<"),
        ("audit".to_owned(), "audit:read"),
        ("apps".to_owned(), "apps:admin"),
        (format!("person{person}"), "tokens:read"),
        (format!("revoke{person}"), "sessions:write"),
    ] {
        let answer = browser.get(&page).await;
        assert_eq!(answer.status, 403, "{page}");
        assert!(answer.text.contains(scope) && answer.text.contains("may not do that"), "{}", answer.text);
    }
}

#[tokio::test]
async fn page_is_in_the_language_of_the_browser_or_the_chosen_one() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    let mut browser = Browser::logged_in(&world).await;
    browser.language = "zh-CN,zh;q=0.9";
    let chinese = browser.get("sessions").await;
    assert!(chinese.text.contains("<html lang=\"zh-CN\">") && chinese.text.contains("待处理"));
    assert!(chinese.text.contains("language?to=en&#38;back=sessions"), "{}", chinese.text);
    let switched = browser.get(&format!("language?to=en&back=session%3Fid%3D{}", session.id)).await;
    assert_eq!(switched.header("location"), format!("session?id={}", session.id));
    assert!(
        switched.header("set-cookie").starts_with("larkauth_console_language=en; HttpOnly; SameSite=Strict")
    );
    let login = browser.cookie.clone().unwrap();
    browser.cookie = Some(format!("{login}; larkauth_console_language=en"));
    assert!(browser.get("sessions").await.text.contains("<html lang=\"en\">"));
    assert_eq!(browser.get("language?to=en&back=//evil.example").await.header("location"), "./");
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let world = World::new().await;
    for _ in 0..55 {
        world.session(AuthMethod::Oauth).await;
    }
    let mut browser = Browser::logged_in(&world).await;
    let rows = |text: &str| text.matches("href=\"session?id=").count();
    let first = browser.get(&format!("sessions?app_id={APP}&state=pending")).await;
    assert_eq!(rows(&first.text), 50);
    let (_, rest) = first.text.split_once("<a href=\"sessions?").unwrap();
    let next = rest.split('"').next().unwrap().replace("&#38;", "&");
    assert!(next.contains("state=pending") && next.contains("after="), "{next}");
    let second = browser.get(&format!("sessions?{next}")).await;
    assert_eq!(rows(&second.text), 5, "{}", second.text);
    assert!(second.text.contains("First page") && !second.text.contains("Next page"));
    assert_eq!(rows(&browser.get("sessions?state=completed").await.text), 0);
    assert_eq!(rows(&browser.get("sessions?open_id=ou_other").await.text), 0);
    assert_eq!(browser.get("sessions?state=nonsense").await.status, 400);
    assert_eq!(browser.get("sessions?after=nonsense").await.status, 400);
}

#[tokio::test]
async fn person_page_shows_the_token_but_no_secret() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let mut browser = Browser::logged_in(&world).await;
    let people = browser.get(&format!("people?app_id={APP}")).await;
    assert!(people.text.contains(PERSON) && people.text.contains("badge good\">active"), "{}", people.text);
    let found = browser.get(&format!("people?app_id={APP}&open_id={PERSON}")).await;
    assert!(found.text.contains("person?app_id="), "{}", found.text);
    let person = browser.get(&format!("person?app_id={APP}&open_id={PERSON}")).await;
    for shown in ["Li Lei", "offline_access", "Refresh…", "Revoke…", "in 59 min"] {
        assert!(person.text.contains(shown), "{shown}: {}", person.text);
    }
    assert_eq!(browser.get(&format!("person?app_id={APP}&open_id=ou_unknown")).await.status, 404);
    let horizon = browser.get("horizon?days=7").await;
    assert!(horizon.status == 200 && horizon.text.contains("± 7 d"), "{}", horizon.text);
}

#[tokio::test]
async fn overview_shows_parts_breaker_and_queues() {
    let world = World::new().await;
    let health = &world.state.as_ref().unwrap().health;
    let bus = health.register("bus");
    let connection = health.register(format!("websocket:{APP}"));
    let app = APP.parse().unwrap();
    world.store.set_application_frozen(&app, Some("20002 <b>"), Timestamp::UNIX_EPOCH).await.unwrap();
    bus.set_not_ready("no connection to the broker");
    connection.set_ready();
    let mut browser = Browser::logged_in(&world).await;
    let page = browser.get("").await.text;
    for shown in [
        "no connection to the broker",
        "Parts that do not work:",
        "20002 &#60;b&#62;",
        "invitations",
        "message_send",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    bus.set_ready();
    assert!(browser.get("").await.text.contains("Every part of this gateway works."));
}

#[tokio::test]
async fn page_while_the_database_is_down_says_so() {
    let world = World::new().await;
    let mut browser = Browser::logged_in(&world).await;
    world.store.close().await;
    let answer = browser.get("sessions").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.text.contains("Not available at present") && !answer.header("x-request-id").is_empty());
}
