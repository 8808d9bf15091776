//! The HTTP client under every call, and how an answer is read.

use std::{error::Error, time::Duration};

use bytes::{Bytes, BytesMut};

/// The longest answer that is read, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// The deadlines of one HTTP call.
#[derive(Clone, Copy, Debug)]
pub struct HttpTimeouts {
    /// For the connection, including name lookup and TLS.
    pub connect: Duration,
    /// For the next bytes of an answer.
    pub read: Duration,
    /// For the whole call. Must be shorter than the lease of whoever calls.
    pub total: Duration,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), read: Duration::from_secs(8), total: Duration::from_secs(10) }
    }
}

/// Builds the one client that a process shares among all its applications.
///
/// It follows no redirect: a token sent to the wrong place is a token lost.
///
/// # Errors
/// When the TLS roots or the resolver of the system cannot be used.
pub fn http_client(timeouts: &HttpTimeouts) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
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
        .user_agent(concat!("larkauth/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Why an answer could not be read to its end.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It is longer than [`MAX_BODY`].
    TooLong,
    /// The connection failed.
    Http(reqwest::Error),
}

/// Reads an answer's body, but never more than [`MAX_BODY`].
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

/// Somebody else's text as one bounded line, so that it can neither flood nor forge a log.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What an HTTP error and its causes say, on one line and without the address, whose query may hold a secret.
#[must_use]
pub fn http_reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    one_line(&text)
}
