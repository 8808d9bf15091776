//! The HTTP client of all calls, and the bounded reading of responses.

use std::{error::Error, time::Duration};

use bytes::{Bytes, BytesMut};
use larkauth_net::{Network, explain_tls};

/// Longest response that is read, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// The timeouts of one HTTP call.
#[derive(Clone, Copy, Debug)]
pub struct HttpTimeouts {
    /// Timeout of the connection, including name lookup and TLS.
    pub connect: Duration,
    /// Longest wait for the next bytes of a response.
    pub read: Duration,
    /// Timeout of the whole call. Must be shorter than the caller's lease.
    pub total: Duration,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), read: Duration::from_secs(8), total: Duration::from_secs(10) }
    }
}

/// Builds the HTTP client that a process shares among all its applications.
///
/// The client follows no redirect, as a token could reach the wrong server.
///
/// # Errors
/// When the resolver of the system cannot be used.
pub fn http_client(timeouts: &HttpTimeouts, network: &Network) -> Result<reqwest::Client, reqwest::Error> {
    network
        .client_builder()
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read)
        .timeout(timeouts.total)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Shorter than the keep-alive of common load balancers: a request sent into a closing connection has an
        // unknown outcome, and for a refresh token that is expensive.
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(32)
        .tcp_keepalive(Duration::from_secs(15))
        // A program that gets relayed events may look for a header in Lark's own spelling, like `X-Lark-Signature`.
        .http1_title_case_headers()
        .user_agent(concat!("larkauth/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Why a response could not be read completely.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The response is longer than [`MAX_BODY`].
    TooLong,
    /// The connection failed.
    Http(reqwest::Error),
}

/// Reads the body of a response, up to [`MAX_BODY`].
pub(crate) async fn read_body(mut response: reqwest::Response) -> Result<Bytes, BodyError> {
    if response.content_length().is_some_and(|length| length > MAX_BODY as u64) {
        return Err(BodyError::TooLong);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Http)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Longest text of another party that is logged, in characters.
const MAX_LINE: usize = 200;

/// Returns another party's text as one bounded line, so that it can neither flood a log nor forge a line of it.
pub(crate) fn one_line(text: &str) -> String {
    larkauth_models::text::one_line(text, MAX_LINE)
}

/// Setting of further authorities, for an error about the certificate of another side.
pub(crate) const CA_SETTING: &str = "LARK_CA_FILE";

/// Describes an HTTP error and its causes on one line. The address is left out, as its query may hold a secret.
#[must_use]
pub fn http_reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    if let Some(fault) = explain_tls(&error, CA_SETTING) {
        return fault;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    if text.contains("tunnel error") {
        text = format!("the proxy of HTTPS_PROXY or ALL_PROXY gives no connection: {text}");
    }
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use larkauth_net::{
        Proxies, ProxyUrl, Trust,
        testing::{Authority, HttpProxy, TlsServer, Validity},
    };

    use super::*;

    async fn reason_through(proxy: &HttpProxy) -> String {
        let address = ProxyUrl::parse(&format!("http://me:s3cret@{}", proxy.address())).ok();
        let network = Network::new(Trust::default(), Proxies::new(None, address, ""));
        let client = http_client(&HttpTimeouts::default(), &network).unwrap();
        http_reason(client.get("https://open.lark.test/?code=s3cret").send().await.unwrap_err())
    }

    #[tokio::test]
    async fn http_reason_of_proxy_and_certificate_names_the_setting_and_no_secret() {
        let server =
            TlsServer::http(Authority::new().issue(&["open.lark.test"], Validity::Now).server_config()).await;
        for (leads_to, said) in
            [(None, "the proxy of HTTPS_PROXY"), (Some(server.address()), "with LARK_CA_FILE")]
        {
            let reason = reason_through(&HttpProxy::start(leads_to, None, None).await).await;
            assert!(reason.contains(said) && !reason.contains("s3cret"), "{reason}");
        }
    }
}
