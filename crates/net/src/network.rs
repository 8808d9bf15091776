use std::{
    error::Error,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper_rustls::HttpsConnector;
use hyper_util::{client::legacy::connect::proxy::Tunnel, rt::TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;
use url::Url;

use crate::{Proxies, Trust, explain::explain_tls, tcp};

/// What a connection can do.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to a host, directly or through a proxy, without TLS of its own.
pub type Stream = Box<dyn Io>;

/// Why a connection could not be made. Holds no address, except host and port of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address has no host.
    #[error("the address has no host")]
    Address,
    /// The host does not answer.
    #[error("{0}")]
    Host(String),
    /// The proxy does not answer, or not with a connection.
    #[error("the proxy {proxy} {reason}")]
    Proxy {
        /// Host and port.
        proxy: String,
        /// What happened and what to do.
        reason: String,
    },
}

/// How this process reaches other machines over HTTP and WebSocket. Cheap to clone. The default trusts the bundled
/// authorities and those of the operating system, and uses no proxy.
#[derive(Clone, Default)]
pub struct Network(Arc<Inner>);

#[derive(Default)]
struct Inner {
    trust: Trust,
    proxies: Proxies,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("trust", &self.0.trust).field("proxies", &self.0.proxies).finish()
    }
}

impl Network {
    /// Makes one. Reads and connects to nothing.
    #[must_use]
    pub fn new(trust: Trust, proxies: Proxies) -> Self {
        Self(Arc::new(Inner { trust, proxies, tls: OnceLock::new() }))
    }

    /// Returns the TLS configuration.
    #[must_use]
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.0.tls.get_or_init(|| Arc::new(self.0.trust.client_config())).clone()
    }

    /// Returns the TLS configuration of an HTTP client, which negotiates HTTP/2.
    #[must_use]
    pub fn http_tls(&self) -> ClientConfig {
        let mut tls = ClientConfig::clone(&self.tls());
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tls
    }

    /// Returns the proxies of an HTTP client.
    #[must_use]
    pub fn http_proxy(&self) -> reqwest::Proxy {
        let proxies = self.0.proxies.clone();
        reqwest::Proxy::custom(move |url| proxies.url_for(url))
    }

    /// Returns the builder of an HTTP client. The caller sets deadlines.
    pub fn client_builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder().tls_backend_preconfigured(self.http_tls()).proxy(self.http_proxy())
    }

    /// Returns whether an address is reached through a proxy.
    #[must_use]
    pub fn is_proxied(&self, url: &Url) -> bool {
        self.0.proxies.intercept(url).is_some()
    }

    /// Connects to the host of an address, through its proxy if it has one. `at_most` is the caller's deadline for the
    /// whole handshake; each address of the host has a share of it.
    ///
    /// # Errors
    /// Fails when the host or the proxy does not answer, or the proxy refuses.
    pub async fn connect(&self, url: &Url, at_most: Duration) -> Result<Stream, ConnectError> {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(ConnectError::Address);
        };
        let target: http::Uri =
            format!("https://{host}:{port}/").parse().map_err(|_| ConnectError::Address)?;
        let tcp = tcp::connector(at_most);
        let Some(proxy) = self.0.proxies.intercept(url) else {
            let stream =
                tcp::open(tcp, target).await.map_err(|error| ConnectError::Host(error.to_string()))?;
            return Ok(Box::new(stream));
        };
        // Plain TCP to an `http` proxy, TLS to an `https` one.
        let connector = HttpsConnector::from((tcp, self.tls()));
        let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        match tunnel.oneshot(target).await {
            Ok(stream) => Ok(Box::new(TokioIo::new(stream))),
            Err(error) => Err(ConnectError::Proxy {
                proxy: proxy.uri().authority().map(ToString::to_string).unwrap_or_default(),
                reason: proxy_reason(&error),
            }),
        }
    }
}

/// Describes why a proxy gives no connection. Its error type is not public.
fn proxy_reason(error: &(dyn Error + 'static)) -> String {
    if let Some(fault) = explain_tls(error, "LARK_CA_FILE") {
        return format!("cannot be used: {fault}");
    }
    let mut text = error.to_string();
    if text.contains("authorization required") {
        return "requires a user name and a password; write them into its address, http://user:password@host:port"
            .to_owned();
    }
    if text.contains("unsuccessful") {
        return "refuses to connect to the host; let it allow the host, or put the host into NO_PROXY"
            .to_owned();
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    format!("gives no connection ({text}); check HTTPS_PROXY and ALL_PROXY")
}
