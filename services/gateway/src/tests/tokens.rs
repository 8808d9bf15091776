//! Reading, refreshing and forgetting tokens.

use std::sync::Arc;

use axum::{body::Body, http::StatusCode};
use larkauth_contracts::{
    problem::ProblemCode,
    rest::{SessionView, TokenView},
};
use larkauth_models::AuthMethod;
use larkauth_storage::{
    SessionEnding,
    testing::{act, cipher_of},
};
use serde_json::{Value, json};

use super::world::{APP, FakeBus, PERSON, World, application, now, request};

#[tokio::test]
async fn get_token_stored_is_served() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    let answer = world.get(&path).await;
    let token: TokenView = answer.json();
    assert_eq!((token.access_token.as_str(), token.token_type.as_str()), ("u-access-token", "Bearer"));
    assert_eq!(answer.header("cache-control"), "no-store");
    // It lives an hour, of which at most half counts.
    let answer = world.get(&format!("{path}?min_validity=3600")).await;
    assert_eq!(answer.json::<TokenView>().access_token.as_str(), "u-access-token");
}

#[tokio::test]
async fn get_token_without_required_scope_is_403_and_asks_for_union() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    assert_eq!(world.get(&format!("{path}?scopes=offline_access")).await.status, 200);
    let lacking = format!("{path}?scopes=docx:document%20offline_access%20calendar:calendar");
    let problem = world.get(&lacking).await.problem();
    assert_eq!((problem.code, problem.status), (ProblemCode::InsufficientScope, 403));
    assert_eq!(
        (problem.missing_scopes.as_slice(), problem.session_id),
        (&["docx:document".to_owned(), "calendar:calendar".to_owned()][..], None)
    );

    let asked = world.get(&format!("{lacking}&on_missing=card")).await.problem();
    assert_eq!(asked.code, ProblemCode::InsufficientScope);
    let view: SessionView =
        world.get(&format!("/v1/auth/sessions/{}", asked.session_id.unwrap())).await.json();
    assert_eq!(view.scopes, ["calendar:calendar", "docx:document", "offline_access"]);
    assert_eq!((view.granted_scopes, view.missing_scopes), (None, None));
    let narrower = world.get(&format!("{path}?scopes=docx:document&on_missing=card")).await.problem();
    assert_eq!(narrower.session_id, asked.session_id, "the open card asks for it");
    let wider = world.get(&format!("{path}?scopes=im:message&on_missing=card")).await.problem();
    assert!(wider.session_id.is_none() && wider.retry_after.is_some(), "the open card does not ask for it");

    let bad = world.get(&format!("{path}?scopes=docx%22")).await.problem();
    assert_eq!(bad.code, ProblemCode::InvalidRequest);
    assert_eq!(world.get(&path).await.status, 200, "the token is still served to those whom it suffices");
}

#[tokio::test]
async fn refresh_and_forget_token() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    let refresh = async |body: Value| world.post(&format!("{path}/refresh"), &body).await;
    // The caller's token is older than the stored one.
    let token: TokenView = refresh(json!({"generation": 0})).await.json();
    assert_eq!((token.access_token.as_str(), token.generation), ("u-access-token", 1));
    // Lark cannot be reached here, and a valid token is left alone.
    let problem = refresh(json!({})).await.problem();
    assert_eq!(problem.code, ProblemCode::UpstreamUnavailable);
    assert!(problem.retry_after.is_some());
    assert_eq!(world.get(&path).await.status, StatusCode::OK);
    assert_eq!(refresh(json!({"generation": "1"})).await.problem().code, ProblemCode::InvalidRequest);

    let forget = async || world.send(request("DELETE", &path).body(Body::empty()).unwrap()).await.status;
    assert_eq!((forget().await, forget().await), (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT));
    for gone in [world.get(&path).await, refresh(json!({})).await] {
        assert_eq!(gone.problem().code, ProblemCode::AuthenticationRequired);
    }
}

#[tokio::test]
async fn get_token_missing_with_on_missing_card_invites() {
    let world = World::new().await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    let answer = world.get(&path).await;
    assert_eq!(
        (answer.problem().code, answer.problem().session_id),
        (ProblemCode::AuthenticationRequired, None)
    );
    let ask = async || world.get(&format!("{path}?on_missing=card")).await.problem();
    let problem = ask().await;
    assert_eq!(problem.code, ProblemCode::AuthenticationRequired);
    let session = problem.session_id.unwrap();
    let (a, b) = tokio::join!(ask(), ask());
    assert_eq!(
        (a.session_id, b.session_id),
        (Some(session), Some(session)),
        "an open card is not sent twice"
    );
    world.store.end_session(session, SessionEnding::Rejected, &act(world.context.now())).await.unwrap();
    let paused = ask().await;
    assert_eq!((paused.code, paused.session_id), (ProblemCode::AuthenticationRequired, None));
    let detail = paused.detail.unwrap();
    assert!(detail.contains("No card was sent") && detail.contains("left in peace"), "{detail}");
    assert!(paused.retry_after.is_some_and(|wait| (590..=600).contains(&wait)));
}

#[tokio::test]
async fn get_token_with_database_down_is_503() {
    let world = World::new().await;
    world.store.close().await;
    for path in [format!("/v1/apps/{APP}/users/{PERSON}/token"), "/v1/auth/sessions".to_owned()] {
        let problem = world.get(&path).await.problem();
        assert_eq!(problem.code, ProblemCode::Unavailable);
        assert!(problem.detail.unwrap().contains("database"));
    }
}

#[tokio::test]
async fn get_token_with_lost_encryption_key_is_500() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let World { database, .. } = world;
    // The application can be read, the token cannot: it was sealed with a key that is gone.
    let other =
        World::on(database, cipher_of(&[("other", 9), ("test", 8)]), Arc::new(FakeBus::default())).await;
    other.store.put_application(&application(APP), &act(now())).await.unwrap();
    let problem = other.get(&format!("/v1/apps/{APP}/users/{PERSON}/token?on_missing=card")).await.problem();
    assert_eq!(problem.code, ProblemCode::Internal);
}

/// What the shortcut answers is what the router answers, and what it leaves reaches the router.
#[tokio::test]
async fn get_token_by_shortcut_and_by_router_is_the_same_answer() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    let etag = world.get(&path).await.header("etag").to_owned();
    let built = |path: &str, headers: &[(&'static str, &str)]| {
        let request = request("GET", path).header("x-request-id", "r-1");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(Body::empty()).unwrap()
    };
    let absent = format!("/v1/apps/{APP}/users/ou_absent/token");
    let elsewhere = format!("/v1/apps/cli_ffffffffffffffff/users/{PERSON}/token");
    for (path, headers, status) in [
        (&path, &[][..], 200),
        (&path, &[("if-none-match", &*etag)], 304),
        (&absent, &[], 404),
        (&elsewhere, &[], 404),
    ] {
        let mut head = built(path, headers).into_parts().0;
        let short = world.send_to_shortcut(&mut head).await.unwrap_or_else(|| panic!("{path} is left"));
        let long = world.send_to_router(built(path, headers)).await;
        assert_eq!(short.status, status, "{path}");
        assert_eq!((short.status, &short.text), (long.status, &long.text), "{path}");
        for (name, value) in &long.headers {
            if name != "content-length" {
                assert_eq!(short.headers.get(name), Some(value), "{path}: {name}");
            }
        }
    }
    let query = format!("{path}?min_validity=60");
    let traced = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    for (path, headers) in [(&query, &[][..]), (&path, &[("content-length", "0")]), (&path, &[traced])] {
        let mut head = built(path, headers).into_parts().0;
        assert!(world.send_to_shortcut(&mut head).await.is_none(), "{path} {headers:?}");
    }
    let mut head = built(&path, &[]).into_parts().0;
    head.headers.insert("authorization", "Bearer lak_unknown".parse().unwrap());
    assert!(world.send_to_shortcut(&mut head).await.is_none(), "the router refuses an unknown key");
}

#[tokio::test]
async fn get_token_with_its_etag_is_304_until_it_changes() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    let first = world.get(&path).await;
    let etag = first.header("etag").to_owned();
    assert!(etag.starts_with("\"1-") && !etag.contains("u-access-token"), "{etag}");
    let conditional = async || {
        let request = request("GET", &path).header("if-none-match", &etag);
        world.send(request.body(Body::empty()).unwrap()).await
    };
    let same = conditional().await;
    assert_eq!(
        (same.status, same.text.as_str(), same.header("etag")),
        (StatusCode::NOT_MODIFIED, "", &*etag)
    );
    assert_eq!(same.header("cache-control"), "no-store");

    let forgotten = world.send(request("DELETE", &path).body(Body::empty()).unwrap()).await;
    assert_eq!(forgotten.status, StatusCode::NO_CONTENT);
    assert_eq!(conditional().await.problem().code, ProblemCode::AuthenticationRequired, "at once");
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-another-token", "Li Lei").await;
    let other = conditional().await;
    assert_eq!((other.status, other.json::<TokenView>().generation), (StatusCode::OK, 3));
    assert_ne!(other.header("etag"), etag);
}
