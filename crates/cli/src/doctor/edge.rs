//! Addresses that others reach: the redirect URI from people's browsers, and the address to listen on.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use larkauth_config::HttpSettings;
use larkauth_lark::http_reason;
use larkauth_models::Application;
use larkauth_net::{Network, is_loopback};
use serde_json::Value;
use tokio::net::TcpListener;
use url::Url;

use super::finding::{Finding, page};

/// Deadline of the gateway's answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Path under which the gateway receives browsers after the consent.
const CALLBACK: &str = "/oauth/callback";

/// Returns a finding when codes would travel unencrypted. Needs no network.
pub(crate) fn unencrypted(app: &Application) -> Option<Finding> {
    let uri = &app.redirect_uri;
    let is_safe = uri.scheme() == "https" || is_loopback(uri);
    (!is_safe).then(|| {
        let check = format!("{} redirect URI", app.app_id);
        Finding::wrong(check, format!("{uri} is not https: codes would travel unencrypted")).cure(
            "put a TLS proxy in front of the gateway, and change it with `larkauth apps add --redirect-uri`",
            page::REDIRECT_URI,
        )
    })
}

/// Checks the redirect URI of one application.
pub(crate) async fn redirect_uri(network: &Network, app: &Application) -> Vec<Finding> {
    if let Some(finding) = unencrypted(app) {
        return vec![finding];
    }
    let check = format!("{} redirect URI", app.app_id);
    let uri = &app.redirect_uri;
    let loopback = is_loopback(uri);
    let mut findings = Vec::new();
    if !uri.path().ends_with(CALLBACK) {
        let finding = Finding::doubtful(
            check.clone(),
            format!("{uri} does not end with {CALLBACK}, which the gateway serves"),
        );
        findings.push(finding.cure("change it, unless a proxy rewrites the path", page::REDIRECT_URI));
    }
    findings.push(match callback_at(network, uri).await {
        Ok(()) if loopback => Finding::doubtful(check, format!("{uri} works, but only for browsers on this machine"))
            .cure("enough for a trial; other people need an https address", page::REDIRECT_URI),
        Ok(()) => Finding::ok(check, format!("a gateway answers behind {uri}")),
        Err(why) => Finding::doubtful(check, format!("no gateway receives browsers at {uri}: {why}"))
            .cure("start larkauth, or route this address to its HTTP_ADDR, or its PUBLIC_HTTP_ADDR if that is set; some networks hide it from this machine only", page::REDIRECT_URI),
    });
    findings
}

/// Checks the one or two addresses to listen on.
pub(super) async fn listen(network: &Network, http: &HttpSettings) -> Vec<Finding> {
    let mut findings = listen_on(network, "HTTP_ADDR", http.addr).await;
    if let Some(addr) = http.public_addr {
        findings.extend(listen_on(network, "PUBLIC_HTTP_ADDR", addr).await);
    }
    findings
}

/// Checks that an address to listen on is free, or taken by larkauth, and reports what that larkauth says of itself.
async fn listen_on(network: &Network, setting: &str, addr: SocketAddr) -> Vec<Finding> {
    let check = format!("{setting} {addr}");
    vec![match TcpListener::bind(addr).await {
        Ok(_) if addr.ip().is_unspecified() => {
            Finding::doubtful(check, "free, and reachable from every network of this machine")
                .cure("put a firewall or a TLS proxy in front of it, or listen on 127.0.0.1", page::THIS_SIDE)
        }
        Ok(_) => Finding::ok(check, "free"),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match Url::parse(&reached_at(addr)) {
            Ok(url) if is_larkauth(network, &url).await => {
                let mut findings = vec![Finding::ok(check, "larkauth is listening")];
                if setting == "HTTP_ADDR" {
                    findings.extend(running(network, &url).await);
                }
                return findings;
            }
            _ => Finding::wrong(check, "taken by another program")
                .cure("stop that program, or choose another address", page::THIS_SIDE),
        },
        Err(error) => Finding::wrong(check, format!("cannot be listened on: {error}")).cure(
            "choose an address of this machine, and a port of 1024 or more unless it runs as root",
            page::THIS_SIDE,
        ),
    }]
}

/// Returns a finding for each part that the larkauth on this machine reports as not working.
async fn running(network: &Network, origin: &Url) -> Vec<Finding> {
    let document = async {
        let url = origin.join("/health").map_err(|error| error.to_string())?;
        let response = client(network)?.get(url).send().await.map_err(http_reason)?;
        response.json::<Value>().await.map_err(http_reason)
    };
    let document = match document.await {
        Ok(document) => document,
        Err(why) => {
            return vec![Finding::doubtful("running larkauth", format!("no health document: {why}"))];
        }
    };
    let parts = document["parts"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    parts
        .filter(|part| part["state"] != "ok")
        .map(|part| {
            let reason = part.get("reason").unwrap_or(&part["state"]);
            let detail = format!("{} (since {})", text(reason), text(&part["since"]));
            Finding::doubtful(format!("running larkauth, {}", text(&part["name"])), detail).page(page::HEALTH)
        })
        .collect()
}

fn client(network: &Network) -> Result<reqwest::Client, String> {
    let http = network.client_builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
    http.build().map_err(http_reason)
}

/// Returns the origin under which this machine reaches the address.
pub(super) fn reached_at(mut addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => {}
    }
    format!("http://{addr}/")
}

/// Returns whether larkauth answers on this origin, on either listener.
async fn is_larkauth(network: &Network, origin: &Url) -> bool {
    let answer = async {
        let url = origin.join("/healthz").ok()?;
        let mut response = client(network).ok()?.get(url).send().await.ok()?;
        // The body fits one chunk. More of another server's body is not needed.
        if response.status().is_success() { response.chunk().await.ok()? } else { None }
    };
    answer.await.is_some_and(|bytes| bytes.trim_ascii() == b"ok")
}

/// Fails when the page for browsers is not served at this redirect URI. Asks the address itself: the listener for operators has
/// everything but this page. Without a `state` the page is that of an unknown link.
async fn callback_at(network: &Network, uri: &Url) -> Result<(), String> {
    let response = client(network)?.get(uri.clone()).send().await.map_err(http_reason)?;
    let begins = |name: &str, value: &[u8]| {
        response.headers().get(name).is_some_and(|found| found.as_bytes().starts_with(value))
    };
    if begins("content-type", b"text/html") && begins("x-robots-tag", b"noindex") {
        return Ok(());
    }
    let status = response.status().as_u16();
    Err(if begins("content-type", b"application/problem+json") {
        format!("larkauth answers there, and does not serve this path (HTTP {status})")
    } else {
        format!("another program answers there (HTTP {status})")
    })
}

#[cfg(test)]
mod tests {
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

    use super::*;

    #[tokio::test]
    async fn callback_at_asks_the_redirect_uri_itself() {
        let proxy = MockServer::start().await;
        let page = ResponseTemplate::new(404)
            .insert_header("x-robots-tag", "noindex")
            .set_body_raw("<!doctype html>", "text/html; charset=utf-8");
        Mock::given(matchers::path("/larkauth/oauth/callback")).respond_with(page).mount(&proxy).await;
        // The listener for operators is healthy, and has no page for browsers.
        let healthy = ResponseTemplate::new(200).set_body_string("ok\n");
        Mock::given(matchers::path("/healthz")).respond_with(healthy).mount(&proxy).await;
        let problem = ResponseTemplate::new(404).set_body_raw("{}", "application/problem+json");
        Mock::given(matchers::path("/oauth/callback")).respond_with(problem).mount(&proxy).await;
        let network = Network::default();
        let uri = |path| Url::parse(&format!("{}{path}", proxy.uri())).unwrap();
        assert_eq!(callback_at(&network, &uri("/larkauth/oauth/callback")).await, Ok(()));
        let why = callback_at(&network, &uri("/oauth/callback")).await.unwrap_err();
        assert!(why.contains("does not serve this path (HTTP 404)"), "{why}");
        let why = callback_at(&network, &uri("/elsewhere")).await.unwrap_err();
        assert!(why.contains("another program"), "{why}");
        assert!(is_larkauth(&network, &uri("/")).await);
    }
}
