//! One listener for browsers and Lark, another for callers.

use std::net::TcpListener;

use larkauth_models::SessionState;
use larkauth_tests::{Kind, Options, Service, World};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread")]
async fn two_listeners_serve_their_own_paths_only() -> anyhow::Result<()> {
    let world = World::start(Options { two_listeners: true, ..Options::default() }).await?;
    let asked = world.ask(0).await?;
    world.sim.follow(&world.consent(&asked).await?).await?;
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Completed);

    let token = format!("/v1/apps/{}/users/{}/token", world.app_id(), asked.person);
    let callback = format!("/lark/callback/{}", world.app_id());
    for (method, path, on_public, on_private) in [
        (Method::GET, "/healthz", 200, 200),
        (Method::GET, "/oauth/callback", 404, 404),
        (Method::POST, callback.as_str(), 403, 404),
        (Method::GET, "/v1/auth/sessions", 404, 200),
        (Method::GET, token.as_str(), 404, 200),
        (Method::GET, "/docs/", 404, 200),
        (Method::GET, "/docs/openapi.json", 404, 200),
        (Method::GET, "/metrics", 404, 200),
        (Method::GET, "/readyz", 404, 200),
        (Method::GET, "/health", 404, 200),
        (Method::GET, "/v1/../metrics", 404, 200),
        (Method::GET, "//metrics", 404, 404),
    ] {
        let public = world.public.send(method.clone(), path, None).await?;
        assert_eq!(public.status, on_public, "public {path}: {public:?}");
        assert!(!public.text.contains("docs"), "{path}: {public:?}");
        let private = world.api.send(method, path, None).await?;
        assert_eq!(private.status, on_private, "private {path}: {private:?}");
    }
    let page = world.public.send(Method::GET, "/oauth/callback", None).await?;
    assert!(page.content_type.starts_with("text/html"), "{page:?}");
    // The other services have nothing for the public, and do not take the address.
    assert_eq!(world.services.len(), 3);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_on_one_port_or_taken_port_are_refused() -> anyhow::Result<()> {
    let world = World::start(Options { start: Vec::new(), ..Options::default() }).await?;
    let mut env = world.env(Kind::Gateway);
    let port = env["HTTP_ADDR"].rsplit(':').next().unwrap_or_default().to_owned();
    for address in [format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
        env.insert("PUBLIC_HTTP_ADDR".to_owned(), address.clone());
        let (status, output) = Service::spawn(Kind::Gateway, &[], &env)?.wait().await?;
        assert_eq!(status.code(), Some(2), "{output}");
        assert!(output.contains("PUBLIC_HTTP_ADDR") && output.contains("give two ports"), "{output}");
        assert_eq!(output.lines().count(), 1, "{output}");
    }
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    env.insert("PUBLIC_HTTP_ADDR".to_owned(), address.clone());
    let (status, output) = Service::spawn(Kind::Gateway, &[], &env)?.wait().await?;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains(&format!("PUBLIC_HTTP_ADDR {address} cannot be listened on")), "{output}");
    Ok(())
}
