//! Each limit of a router from outside, on routes that wait or echo.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::Request,
    routing::{get, post},
};
use futures::{StreamExt, stream};
use larkauth_contracts::problem::ProblemCode;
use utoipa_axum::router::OpenApiRouter;

use super::world::{APP, World, request};
use crate::{limits::Limits, problem::Audience};

const LIMITS: Limits = Limits { body: 16, timeout: Duration::from_secs(3), in_flight: 1 };

/// A world whose router has two routes that share `LIMITS`, and one route with limits of its own.
async fn limited() -> World {
    let mut world = World::new().await;
    let echo = async |body: Bytes| body;
    let shared =
        OpenApiRouter::new().route("/pending", get(std::future::pending::<()>)).route("/echo", post(echo));
    let apart = OpenApiRouter::new().route("/apart", post(echo));
    let routes = LIMITS.layer(shared).merge(Limits { body: 64, ..LIMITS }.layer(apart));
    world.router =
        crate::router::with_middleware(routes.into(), &world.state.take().unwrap(), Audience::Callers);
    world
}

fn body(path: &str, body: Body) -> Request<Body> {
    request("POST", path).body(body).unwrap()
}

/// A body that starts and never ends.
fn unfinished() -> Body {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"half"))]);
    Body::from_stream(first.chain(stream::pending()))
}

#[tokio::test]
async fn handler_beyond_timeout_is_504() {
    let world = limited().await;
    tokio::time::pause();
    let problem = world.get("/pending").await.problem();
    assert_eq!((problem.code, problem.status), (ProblemCode::Timeout, 504));
    assert!(problem.detail.unwrap().contains("3 s") && problem.retry_after.is_some());
    let metrics = world.context.metrics().render();
    assert!(metrics.contains(r#"route="/pending",status="504""#), "{metrics}");
}

#[tokio::test]
async fn request_above_in_flight_limit_is_503_on_its_router_only() {
    let world = limited().await;
    tokio::time::pause();
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let refused = world.send(body("/echo", Body::empty())).await;
        let served = world.send(body("/apart", Body::empty())).await;
        (refused.problem(), served.status.as_u16())
    };
    let (pending, (refused, served)) = tokio::join!(world.get("/pending"), others);
    assert_eq!((refused.code, refused.retry_after.is_some()), (ProblemCode::Unavailable, true));
    assert_eq!((served, pending.status.as_u16()), (200, 504));
    // The place is free again.
    assert_eq!(world.send(body("/echo", Body::from("x"))).await.text, "x");
}

#[tokio::test]
async fn slow_body_is_408_and_takes_no_place() {
    let world = limited().await;
    tokio::time::pause();
    let other = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.send(body("/echo", Body::from("quick"))).await
    };
    let (slow, quick) = tokio::join!(world.send(body("/echo", unfinished())), other);
    assert_eq!(quick.text, "quick");
    assert_eq!((slow.problem().code, slow.status.as_u16()), (ProblemCode::RequestTimeout, 408));
}

#[tokio::test]
async fn body_above_limit_is_413_declared_or_not() {
    let world = limited().await;
    let streamed =
        |length| Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; length]))]));
    for (path, length, status) in [
        ("/echo", 16, 200),
        ("/echo", 17, 413),
        ("/apart", 17, 200),
        ("/apart", 64, 200),
        ("/apart", 65, 413),
    ] {
        let declared = request("POST", path)
            .header("content-length", length)
            .body(Body::from(vec![b'x'; length]))
            .unwrap();
        assert_eq!(world.send(declared).await.status, status, "{path} {length}");
        assert_eq!(world.send(body(path, streamed(length))).await.status, status, "{path} {length}");
    }
}

#[tokio::test]
async fn broken_body_is_400() {
    let world = limited().await;
    let broken =
        Body::from_stream(stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("cut"))]));
    let problem = world.send(body("/echo", broken)).await.problem();
    assert_eq!((problem.code, problem.status), (ProblemCode::InvalidRequest, 400));
}

#[tokio::test]
async fn routers_of_the_gateway_have_their_own_body_limits() {
    let world = World::new().await;
    let callback = format!("/lark/callback/{APP}");
    for (path, kib, too_large) in
        [("/v1/auth/sessions", 65, true), (callback.as_str(), 65, false), (callback.as_str(), 1025, true)]
    {
        let request = request("POST", path).header("content-type", "application/json");
        let answer = world.send(request.body(Body::from(vec![b' '; kib << 10])).unwrap()).await;
        assert_eq!(answer.problem().code == ProblemCode::PayloadTooLarge, too_large, "{path} {kib}");
    }
}
