use std::{
    convert::Infallible,
    io::{self, ErrorKind},
    net::IpAddr,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::header,
    middleware::from_fn_with_state,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures::{Stream, StreamExt, stream};
use larkauth_lark_sim::Sim;
use larkauth_models::ShiftedClock;
use larkauth_net::Network;
use serde_json::json;
use tokio::{
    net::TcpListener,
    process::Command,
    sync::{broadcast::error::RecvError, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    api, browser,
    document::{Document, Publisher},
    feed::Feed,
    guard::{Hosts, guard},
    platform,
    stage::DemoParts,
    state::DemoState,
};
use crate::report;

/// Number of ports that are tried after the wanted one.
const MORE_PORTS: u16 = 20;
/// Maximum body of a request, in bytes.
const MAX_BODY: usize = 16 << 10;
/// Timeout of a page that the phone's browser loads.
const PAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// The page's parts: path, type, content.
const ASSETS: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("../../assets/demo/index.html")),
    ("/demo.css", "text/css; charset=utf-8", include_str!("../../assets/demo/demo.css")),
    ("/main.js", SCRIPT, include_str!("../../assets/demo/main.js")),
    ("/card.js", SCRIPT, include_str!("../../assets/demo/card.js")),
    ("/timeline.js", SCRIPT, include_str!("../../assets/demo/timeline.js")),
    ("/texts.js", SCRIPT, include_str!("../../assets/demo/texts.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../../assets/demo/icon.svg")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Where the page is.
pub(crate) struct Address {
    /// Address to listen on.
    pub(crate) ip: IpAddr,
    /// The wanted port.
    pub(crate) port: u16,
    /// Open it in the browser.
    pub(crate) open: bool,
}

/// Serves the page until the command is stopped.
pub(crate) async fn run(
    sim: &Sim,
    parts: DemoParts,
    feed: Arc<Feed>,
    clock: Arc<ShiftedClock>,
    Address { ip, port, open }: Address,
) -> anyhow::Result<()> {
    let listener = listen(ip, port).await.context("no port is free for the page; choose one with --port")?;
    let port = listener.local_addr()?.port();
    let url = format!("http://127.0.0.1:{port}/");
    let (publish, state) = watch::channel(Document::from("{}"));
    let app_id = platform::app_id(sim)?;
    let DemoParts { caller, health, pages, services_run_here } = parts;
    let publisher = Publisher {
        sim: sim.clone(),
        app_id: app_id.clone(),
        gateway: caller.base().to_owned(),
        health,
        feed: feed.clone(),
    };
    let browser = Network::default()
        .client_builder()
        .timeout(PAGE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let stopping = CancellationToken::new();
    let demo = DemoState {
        sim: sim.clone(),
        app_id,
        caller,
        pages,
        clock,
        services_run_here,
        feed,
        browser,
        document: state,
        stopping: stopping.clone(),
    };
    // The start of the services is not part of the timeline.
    demo.feed.forget();
    let facts = json!({
        "ready": true,
        "address": url,
        "gateway": demo.caller.base(),
        "lark_base_url": demo.sim.base_url(),
    });
    let signal = larkauth_runtime::shutdown_signal();
    report::result(&facts, || {
        report::done("the demo is open", &url);
        report::say("\nStop it with Ctrl-C.");
    });
    // Kept until the end but not awaited: it may be the browser itself.
    let _opener = open.then(|| open_page(&url)).flatten();
    let stop = async {
        signal.await;
        stopping.cancel();
    };
    let serve = larkauth_runtime::serve(listener, routes(demo, port), None, stopping.clone());
    let publishing = stopping.run_until_cancelled(publisher.run(publish));
    tokio::join!(serve, publishing, stop);
    Ok(())
}

fn routes(demo: DemoState, port: u16) -> Router {
    let mut routes = Router::new();
    for (path, kind, content) in ASSETS {
        routes = routes.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], content) }));
    }
    routes
        .route("/events", get(events))
        .route("/api/invite", post(api::invite))
        .route("/api/click", post(api::click))
        .route("/api/token", post(api::token))
        .route("/api/break", post(api::break_it))
        .route("/api/repair", post(api::repair))
        .route("/api/two-hours", post(api::two_hours))
        .route(browser::CONSENT, get(browser::consent).post(browser::consent))
        .route(browser::RESULT, get(browser::result))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Hosts::of(port), guard))
        .with_state(demo)
}

/// Streams events: `state` is the whole document after each change, `feed` one entry. Ends with the command.
async fn events(State(demo): State<DemoState>) -> impl IntoResponse {
    let (kept, live) = demo.feed.follow();
    let kept = stream::iter(kept);
    let live = stream::unfold(live, |mut live| async move {
        loop {
            match live.recv().await {
                Ok(entry) => return Some((entry, live)),
                // A page that reads too slowly misses entries and continues with the next ones.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let feed = kept.chain(live).map(|entry| Event::default().event("feed").json_data(&*entry));
    let stopped = demo.stopping.cancelled_owned();
    let all = stream::select(states(demo.document), feed.filter_map(|event| async { event.ok().map(Ok) }));
    Sse::new(all.take_until(stopped)).keep_alive(KeepAlive::default())
}

fn states(state: watch::Receiver<Document>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((state, true), |(mut state, first)| async move {
        if !first {
            state.changed().await.ok()?;
        }
        let document = state.borrow_and_update().clone();
        Some((Ok(Event::default().event("state").data(&*document)), (state, false)))
    })
}

/// Listens on the wanted port, or on the next free one.
async fn listen(ip: IpAddr, wanted: u16) -> io::Result<TcpListener> {
    let mut port = wanted;
    loop {
        match TcpListener::bind((ip, port)).await {
            Err(error)
                if error.kind() == ErrorKind::AddrInUse && port < wanted.saturating_add(MORE_PORTS) =>
            {
                report::warn(&format!("port {port} is in use; trying {}", port + 1));
                port += 1;
            }
            other => return other,
        }
    }
}

/// Opens the page where there is a desktop. Failing to open it is no error, since its address was printed.
fn open_page(url: &str) -> Option<tokio::process::Child> {
    let has_desktop = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else if has_desktop("DISPLAY") || has_desktop("WAYLAND_DISPLAY") {
        "xdg-open"
    } else {
        return None;
    };
    let mut command = Command::new(opener);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn listen_on_port_in_use_takes_the_next() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let taken = TcpListener::bind((loopback, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let free = listen(loopback, port).await.unwrap().local_addr().unwrap().port();
        assert!(free > port && free <= port + MORE_PORTS);
    }

    #[test]
    fn page_assets_name_no_foreign_address() {
        for (path, _, content) in ASSETS {
            for (at, _) in content.match_indices("://") {
                let start = content[..at].rfind(|c: char| !c.is_ascii_alphabetic()).map_or(0, |i| i + 1);
                let address = content[start..].split(['"', '\'', '`', ' ', ')']).next().unwrap_or_default();
                assert!(address.starts_with("http://www.w3.org/2000/svg"), "{path} names {address}");
            }
        }
    }
}
