use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{body::Body, http::Request};
use larkauth_messaging::testing::TestBus;
use larkauth_models::{AuthMethod, AuthSession, ExposeSecret, FailureReason};
use larkauth_storage::SessionEnding;

use super::world::{Answer, FakeBus, World, now};
use larkauth_storage::testing::act;

fn state(session: &AuthSession) -> String {
    session.consent.as_ref().unwrap().state.expose_secret().to_owned()
}

async fn open(world: &World, query: &str, cookie: &str) -> Answer {
    let request = Request::get(format!("/oauth/callback?{query}"))
        .header("accept-language", "en")
        .header("cookie", cookie)
        .body(Body::empty())
        .unwrap();
    let answer = world.send(request).await;
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.header(name), value);
    }
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("style-src 'sha256-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    for secret in ["s3cret-code", "unguessable"] {
        assert!(!answer.text.contains(secret), "the page repeats the query");
    }
    answer
}

fn title(answer: &Answer) -> (u16, &str) {
    let (_, rest) = answer.text.split_once("<title>").unwrap();
    (answer.status.as_u16(), rest.split_once("</title>").unwrap().0)
}

#[tokio::test]
async fn landing_of_ended_session_tells_its_outcome() {
    let world = World::new().await;
    let ended = async |ending| {
        let session = world.session(AuthMethod::WebsocketCard).await;
        world.store.end_session(session.id, ending, &act(now())).await.unwrap();
        let answer = open(&world, &format!("code=s3cret-code&state={}", state(&session)), "").await;
        let (status, title) = title(&answer);
        (status, title.to_owned())
    };
    assert_eq!(ended(SessionEnding::Rejected).await, (200, "Declined".to_owned()));
    assert_eq!(ended(SessionEnding::Expired).await, (410, "This invitation has expired".to_owned()));
    let failed = SessionEnding::Failed(FailureReason::IdentityMismatch);
    assert_eq!(ended(failed).await, (403, "This invitation is for another person".to_owned()));
    let failed = SessionEnding::Failed(FailureReason::CodeInvalid);
    assert_eq!(ended(failed).await, (400, "The authorization came too late".to_owned()));

    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-token", "<Li & Lei>").await;
    let answer = open(&world, &format!("code=s3cret-code&state={}", state(&session)), "").await;
    assert_eq!(title(&answer), (200, "Authorized"));
    assert!(answer.text.contains("in English") && !answer.text.contains("<Li"), "{}", answer.text);
}

#[tokio::test]
async fn landing_of_unknown_link_is_404() {
    let world = World::new().await;
    for query in [
        "",
        "code=s3cret-code",
        "code=s3cret-code&state=unguessable",
        "error=access_denied&state=unguessable",
    ] {
        assert_eq!(title(&open(&world, query, "").await), (404, "Unknown link"), "{query}");
    }
    let session = world.session(AuthMethod::WebsocketCard).await;
    let query = format!("error=server_error&state={}", state(&session));
    assert_eq!(title(&open(&world, &query, "").await), (400, "The consent page reported an error"));
    // Its code is being exchanged: another one comes too late.
    let (claim, minute) = (uuid::Uuid::from_u128(1), Duration::from_secs(60));
    world.store.claim_exchange(session.id, None, claim, minute).await.unwrap();
    let query = format!("code=s3cret-code&state={}", state(&session));
    assert_eq!(title(&open(&world, &query, "").await), (409, "This link was used already"));
}

#[tokio::test]
async fn landing_unhandled_code_reloads_until_limit() {
    let broker = TestBus::create().await;
    let world = World::with_bus(broker.bus().await).await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    let query = format!("code=s3cret-code&state={}", state(&session));
    let answer = open(&world, &query, "larkauth_tries=4").await;
    assert_eq!(title(&answer), (202, "One moment…"));
    assert!(answer.text.contains("<meta http-equiv=\"refresh\" content=\"2\">"));
    let cookie = answer.header("set-cookie");
    // A path of its own would hide the cookie from an address with a proxy's prefix.
    assert!(cookie.starts_with("larkauth_tries=5; ") && !cookie.contains("Path"), "{cookie}");
    let answer = open(&world, &query, "larkauth_tries=30").await;
    assert_eq!(title(&answer), (202, "Still being processed"));
    assert!(!answer.text.contains("refresh"));
}

#[tokio::test]
async fn landing_with_part_down_asks_to_try_again() {
    let bus = Arc::new(FakeBus::default());
    bus.down.store(true, Ordering::Relaxed);
    let world = World::with_bus(bus).await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    for query in ["code=s3cret-code", "error=access_denied"] {
        let answer = open(&world, &format!("{query}&state={}", state(&session)), "").await;
        assert_eq!((title(&answer), answer.header("retry-after")), ((503, "Please try again"), "5"));
    }
    world.store.close().await;
    let answer = open(&world, &format!("code=s3cret-code&state={}", state(&session)), "").await;
    assert_eq!(title(&answer), (503, "Please try again"));
}
