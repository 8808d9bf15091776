use std::{future::Future, time::Duration};

use http::{Response, StatusCode};
use larkauth_models::{AppId, ExposeSecret, SecretString};
use larkauth_net::{Network, Stream};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config,
    tungstenite::{self, protocol::WebSocketConfig},
};
use url::Url;

use super::{
    config::LongConnectionConfig,
    error::{ConnectError, websocket_reason},
};
use crate::{
    http::{BodyError, http_reason, one_line, read_body},
    lenient::Fields,
};

const SYSTEM_BUSY: i64 = 1;
const INTERNAL_ERROR: i64 = 1_000_040_343;
const TOO_MANY_CONNECTIONS: i64 = 1_000_040_350;
/// The codes that only long connections have.
const OWN_CODES: std::ops::Range<i64> = 1_000_040_300..1_000_040_400;
const FORBIDDEN: u16 = 403;
const AUTH_FAILED: u16 = 514;

/// Makes one connection. Tests implement it with a transport of their own.
pub(super) trait Dial: Send + Sync {
    /// The transport.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Asks for the address and connects. Returns in bounded time.
    fn dial(&self) -> impl Future<Output = Result<OpenConnection<Self::Io>, ConnectError>> + Send;
}

/// A connection on which no frame was sent or read yet.
pub(super) struct OpenConnection<S> {
    pub(super) socket: WebSocketStream<S>,
    pub(super) service_id: i32,
    pub(super) client_config: ClientConfig,
}

/// The configuration that the server asks for, in the response of discovery and in some pongs. The fields about
/// reconnecting are ignored: [`Backoff`](larkauth_models::Backoff) decides the waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClientConfig {
    /// Seconds. Zero or less means no preference.
    pub(super) ping_interval: i64,
}

impl ClientConfig {
    /// Reads a configuration.
    pub(super) fn read(fields: &Fields) -> Self {
        Self { ping_interval: fields.seconds("PingInterval").unwrap_or_default() }
    }

    /// Returns the shorter of the configured interval and the server's.
    pub(super) fn ping_interval(self, configured: Duration) -> Duration {
        match u64::try_from(self.ping_interval) {
            Ok(seconds @ 1..) => configured.min(Duration::from_secs(seconds)),
            _ => configured,
        }
    }
}

struct Endpoint {
    url: Url,
    client_config: ClientConfig,
}

/// Connects to Lark.
pub(super) struct LarkDial {
    pub(super) http: reqwest::Client,
    pub(super) network: Network,
    pub(super) base_url: Url,
    pub(super) app_id: AppId,
    pub(super) app_secret: SecretString,
    pub(super) config: LongConnectionConfig,
}

impl Dial for LarkDial {
    type Io = MaybeTlsStream<Stream>;

    async fn dial(&self) -> Result<OpenConnection<Self::Io>, ConnectError> {
        let deadline = self.config.discovery_deadline;
        let endpoint =
            request_endpoint(&self.http, &self.base_url, &self.app_id, &self.app_secret, deadline).await?;
        let service_id = service_id(&endpoint.url)?;
        let socket = timeout(self.config.handshake_deadline, self.handshake(&endpoint.url))
            .await
            .map_err(|_| ConnectError::Deadline { step: "handshake" })??;
        Ok(OpenConnection { socket, service_id, client_config: endpoint.client_config })
    }
}

/// Asks for the address of an application's long connection, and does not connect: a second connection would receive some
/// of the pushes that the first one waits for.
///
/// # Errors
/// When a connection could not be made for the same reason.
pub async fn discover(
    http: &reqwest::Client,
    base_url: &Url,
    app_id: &AppId,
    app_secret: &SecretString,
) -> Result<(), ConnectError> {
    let deadline = LongConnectionConfig::default().discovery_deadline;
    request_endpoint(http, base_url, app_id, app_secret, deadline).await.map(drop)
}

async fn request_endpoint(
    http: &reqwest::Client,
    base_url: &Url,
    app_id: &AppId,
    app_secret: &SecretString,
    deadline: Duration,
) -> Result<Endpoint, ConnectError> {
    let network = |e| ConnectError::Network { step: "discovery", reason: http_reason(e) };
    let mut url = base_url.clone();
    url.path_segments_mut()
        .map_err(|()| ConnectError::Malformed { reason: "the base URL has no host".into() })?
        .pop_if_empty()
        .extend(["callback", "ws", "endpoint"]);
    let request = async {
        let response = http
            .post(url)
            .header("locale", "zh")
            .json(&json!({ "AppID": app_id, "AppSecret": app_secret.expose_secret() }))
            .send()
            .await
            .map_err(network)?;
        let status = response.status();
        let body = read_body(response).await.map_err(|e| match e {
            BodyError::TooLong => ConnectError::Malformed { reason: "the response is too long".into() },
            BodyError::Http(e) => network(e),
        })?;
        read_answer(status, &body)
    };
    timeout(deadline, request).await.map_err(|_| ConnectError::Deadline { step: "discovery" })?
}

impl LarkDial {
    async fn handshake(&self, url: &Url) -> Result<WebSocketStream<MaybeTlsStream<Stream>>, ConnectError> {
        let stream = self
            .network
            .connect(url, self.config.handshake_deadline)
            .await
            .map_err(|e| ConnectError::Network { step: "handshake", reason: one_line(&e.to_string()) })?;
        let tls = Connector::Rustls(self.network.tls());
        let limits = WebSocketConfig::default()
            .max_message_size(Some(self.config.max_frame_bytes))
            .max_frame_size(Some(self.config.max_frame_bytes));
        match client_async_tls_with_config(url.as_str(), stream, Some(limits), Some(tls)).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(response)) => Err(refusal(&response)),
            Err(e) => Err(ConnectError::Network { step: "handshake", reason: websocket_reason(&e) }),
        }
    }
}

/// Reads the response of discovery. With an HTTP error status only the codes of long connections count, as others may come
/// from a gateway in between.
fn read_answer(status: StatusCode, body: &[u8]) -> Result<Endpoint, ConnectError> {
    let answer = read_discovery(body);
    let is_own = match &answer {
        Err(ConnectError::Busy { code, .. } | ConnectError::Rejected { code, .. }) => {
            OWN_CODES.contains(code)
        }
        Err(ConnectError::TooManyConnections) => true,
        _ => false,
    };
    if status == StatusCode::OK || is_own {
        answer
    } else {
        Err(ConnectError::HttpStatus { step: "discovery", status: status.as_u16() })
    }
}

/// Reads the body of the response. An address in it is enough; other fields may be missing.
fn read_discovery(body: &[u8]) -> Result<Endpoint, ConnectError> {
    let malformed = |reason: &str| ConnectError::Malformed { reason: reason.into() };
    let answer = Fields::parse(body).ok_or_else(|| malformed("it is not a JSON object"))?;
    let message = one_line(&answer.text("msg").unwrap_or_default());
    match answer.number("code").unwrap_or_default() {
        0 => {
            let url = answer.text("URL").or_else(|| answer.text("url")).and_then(|url| url.parse().ok());
            let config = answer.object("ClientConfig").map(|config| ClientConfig::read(&config));
            Ok(Endpoint {
                url: url.ok_or_else(|| malformed("it has no usable address"))?,
                client_config: config.unwrap_or_default(),
            })
        }
        code @ (SYSTEM_BUSY | INTERNAL_ERROR) => Err(ConnectError::Busy { code, message }),
        TOO_MANY_CONNECTIONS => Err(ConnectError::TooManyConnections),
        code => Err(ConnectError::Rejected { code, message }),
    }
}

fn service_id(url: &Url) -> Result<i32, ConnectError> {
    if !matches!(url.scheme(), "ws" | "wss") {
        return Err(ConnectError::Malformed { reason: "the address is not a WebSocket address".into() });
    }
    url.query_pairs()
        .find(|(key, _)| key == "service_id")
        .and_then(|(_, value)| value.parse().ok())
        .ok_or_else(|| ConnectError::Malformed { reason: "the address has no service_id".into() })
}

/// Returns the error of a refused handshake. Only Lark's own headers count: a bare status may come from a proxy.
fn refusal(response: &Response<Option<Vec<u8>>>) -> ConnectError {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let Some(status) = header("Handshake-Status").and_then(|s| s.trim().parse::<u16>().ok()) else {
        return ConnectError::HttpStatus { step: "handshake", status: response.status().as_u16() };
    };
    let auth_code = header("Handshake-Autherrcode").and_then(|s| s.trim().parse::<i64>().ok());
    let message = one_line(header("Handshake-Msg").unwrap_or_default());
    match status {
        FORBIDDEN => ConnectError::Rejected { code: status.into(), message },
        AUTH_FAILED if auth_code == Some(TOO_MANY_CONNECTIONS) => ConnectError::TooManyConnections,
        _ => ConnectError::Refused { status, message },
    }
}

#[cfg(test)]
mod tests {
    use larkauth_net::{
        Proxies, ProxyUrl,
        testing::{Authority, HttpProxy, TlsServer, Validity},
    };

    use super::*;

    #[tokio::test]
    async fn handshake_error_of_proxy_and_certificate_says_whose_fault() {
        let (ours, other) = (Authority::new(), Authority::new());
        let certificate =
            |authority: &Authority, name, validity| authority.issue(&[name], validity).server_config();
        let right = TlsServer::http(certificate(&ours, "frontier.test", Validity::Now)).await.address();
        let foreign = TlsServer::http(certificate(&other, "frontier.test", Validity::Now)).await;
        let expired = TlsServer::http(certificate(&ours, "frontier.test", Validity::Expired)).await;
        let misnamed = TlsServer::http(certificate(&ours, "other.test", Validity::Now)).await;
        let known = "Basic bWU6czNjcmV0";
        for (leads_to, credentials, said) in [
            (Some(foreign.address()), known, "give its CA certificate with LARK_CA_FILE"),
            (Some(expired.address()), known, "has expired; its operator must renew it"),
            (Some(misnamed.address()), known, "is for other.test, not for frontier.test"),
            (Some(right), "Basic other", "requires a user name and a password"),
            (None, known, "refuses to connect to the host"),
        ] {
            let proxy = HttpProxy::start(leads_to, None, Some(credentials)).await;
            let address = ProxyUrl::parse(&format!("http://me:s3cret@{}", proxy.address())).ok();
            let dial = LarkDial {
                http: reqwest::Client::builder().build().unwrap(),
                network: Network::new(ours.trust(), Proxies::new(None, address, "")),
                base_url: "http://127.0.0.1:1".parse().unwrap(),
                app_id: AppId::new("cli_0123456789abcdef").unwrap(),
                app_secret: SecretString::from("APP-SECRET"),
                config: LongConnectionConfig::default(),
            };
            let url = "wss://frontier.test/ws?ticket=TICKET".parse().unwrap();
            let error = dial.handshake(&url).await.map(drop).unwrap_err().to_string();
            assert!(error.starts_with("handshake failed: ") && error.contains(said), "{error}");
            assert!(!error.contains("s3cret") && !error.contains("TICKET"), "{error}");
        }
    }

    fn answer(code: i64) -> Result<Endpoint, ConnectError> {
        read_discovery(json!({ "code": code, "msg": "no\nway", "data": null }).to_string().as_bytes())
    }

    #[test]
    fn read_discovery_every_code_returns_its_error() {
        assert!(matches!(answer(1), Err(ConnectError::Busy { .. })));
        assert!(matches!(answer(1_000_040_343), Err(ConnectError::Busy { .. })));
        assert!(matches!(answer(1_000_040_350), Err(ConnectError::TooManyConnections)));
        for code in [1_000_040_344, 403, 514, 77] {
            assert_eq!(answer(code).err(), Some(ConnectError::Rejected { code, message: "no way".into() }));
        }
        assert!(matches!(answer(0), Err(ConnectError::Malformed { .. })));
        assert!(matches!(read_discovery(b"<html>"), Err(ConnectError::Malformed { .. })));
    }

    #[test]
    fn read_discovery_success_returns_address_and_interval() {
        let body = json!({"code": 0, "msg": "", "data": {
            "URL": "wss://host/path?device_id=d&service_id=-7",
            "ClientConfig": {"ReconnectCount": -1, "ReconnectInterval": 120, "ReconnectNonce": 30, "PingInterval": 20}
        }});
        let endpoint = read_discovery(body.to_string().as_bytes()).unwrap();
        assert_eq!(service_id(&endpoint.url), Ok(-7));
        let config = endpoint.client_config;
        assert_eq!(config.ping_interval(Duration::from_secs(30)), Duration::from_secs(20));
        assert_eq!(config.ping_interval(Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(ClientConfig::default().ping_interval(Duration::from_secs(5)), Duration::from_secs(5));
    }

    #[test]
    fn read_discovery_odd_success_returns_address() {
        let url = "wss://host/path?service_id=7";
        for body in [
            json!({"code": "0", "data": {"URL": url, "ClientConfig": {"PingInterval": "20"}}}),
            json!({"data": {"URL": url, "ClientConfig": {"PingInterval": 20.0}}, "msg": 7}),
            json!({"code": 0.0, "URL": url, "ClientConfig": {"PingInterval": "20s", "ReconnectCount": []}}),
            json!({"code": null, "data": {"url": url, "ClientConfig": "{\"PingInterval\":20}"}}),
        ] {
            let endpoint = read_discovery(format!("\u{feff}{body}\n").as_bytes()).unwrap();
            assert_eq!(
                endpoint.client_config.ping_interval(Duration::from_secs(30)),
                Duration::from_secs(20)
            );
        }
        for config in [json!(null), json!([]), json!({"PingInterval": {}}), json!("x")] {
            let body = json!({"code": 0, "data": {"URL": url, "ClientConfig": config}});
            let config = read_discovery(body.to_string().as_bytes()).unwrap().client_config;
            assert_eq!(config.ping_interval(Duration::from_secs(30)), Duration::from_secs(30));
        }
    }

    #[test]
    fn read_answer_wrong_cloud_names_setting_with_any_status() {
        let body = json!({"code": "1000040351", "msg": "system busy"}).to_string();
        for status in [StatusCode::OK, StatusCode::FORBIDDEN] {
            let error = read_answer(status, body.as_bytes()).err().unwrap();
            let text = error.to_string();
            assert!(matches!(error, ConnectError::Rejected { code: 1_000_040_351, .. }), "{text}");
            assert!(text.contains("LARK_BASE_URL") && text.contains("brand"), "{text}");
        }
        for (body, status) in [("{\"code\":99991400}", 429), ("{\"code\":0}", 502), ("<html>", 403)] {
            let answer = read_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(answer.err(), Some(ConnectError::HttpStatus { step: "discovery", status }));
        }
    }

    #[test]
    fn service_id_unusable_address_returns_malformed() {
        for bad in ["wss://host/?device_id=d", "wss://host/?service_id=x", "https://host/?service_id=1"] {
            let error = service_id(&bad.parse().unwrap()).unwrap_err();
            assert!(matches!(error, ConnectError::Malformed { .. }) && !error.to_string().contains("host/"));
        }
    }

    #[test]
    fn refusal_every_status_returns_its_error() {
        let refused = |headers: &[(&str, &str)]| {
            let mut response = Response::builder().status(400);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            refusal(&response.body(None).unwrap())
        };
        let msg = ("Handshake-Msg", "a message");
        assert_eq!(
            refused(&[("Handshake-Status", "403"), msg]),
            ConnectError::Rejected { code: 403, message: "a message".into() }
        );
        assert_eq!(
            refused(&[("Handshake-Status", "514"), ("Handshake-Autherrcode", "1000040350")]),
            ConnectError::TooManyConnections
        );
        for status in [514, 500] {
            assert_eq!(
                refused(&[("Handshake-Status", &status.to_string()), msg]),
                ConnectError::Refused { status, message: "a message".into() }
            );
        }
        assert_eq!(refused(&[]), ConnectError::HttpStatus { step: "handshake", status: 400 });
    }
}
