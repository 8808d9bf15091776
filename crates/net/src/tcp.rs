use std::{convert::Infallible, error::Error, io, net::SocketAddr, time::Duration};

use hyper_util::client::legacy::connect::{
    HttpConnector,
    dns::{GaiResolver, Name},
};
use tokio::net::TcpStream;
use tower::ServiceExt;

/// The deadline of a connection is divided: TCP to all addresses of the host may take this part, TLS has the rest.
const TCP_PART: u32 = 2;

/// Connects to the first address of a host that answers, with Nagle's algorithm disabled. Each address has its own share of
/// `at_most`, and addresses of the other family are tried after 300 ms, so that one unreachable address costs a part of the
/// deadline only.
///
/// # Errors
/// Fails when the name cannot be looked up, or no address answers in time.
pub async fn connect_tcp(host: &str, port: u16, at_most: Duration) -> io::Result<TcpStream> {
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let target = format!("http://{host}:{port}/").parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    open(connector(at_most), target).await
}

/// Connects to the first of several addresses that answers, as [`connect_tcp`] does.
///
/// # Errors
/// Fails when no address answers in time.
pub async fn connect_addresses(addresses: Vec<SocketAddr>, at_most: Duration) -> io::Result<TcpStream> {
    let resolver = tower::service_fn(move |_: Name| {
        let addresses = addresses.clone().into_iter();
        async move { Ok::<_, Infallible>(addresses) }
    });
    let connector = with_deadline(HttpConnector::new_with_resolver(resolver), at_most);
    // The addresses have ports of their own.
    let connected = connector.oneshot(http::Uri::from_static("http://addresses.invalid/")).await;
    connected.map(hyper_util::rt::TokioIo::into_inner).map_err(|error| reason(&error))
}

/// Returns what connects for [`connect_tcp`]: one half of `at_most` is for TCP.
pub(crate) fn connector(at_most: Duration) -> HttpConnector {
    with_deadline(HttpConnector::new(), at_most)
}

fn with_deadline<R>(mut connector: HttpConnector<R>, at_most: Duration) -> HttpConnector<R> {
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(at_most / TCP_PART));
    connector
}

pub(crate) async fn open(connector: HttpConnector<GaiResolver>, target: http::Uri) -> io::Result<TcpStream> {
    let connected = connector.oneshot(target).await;
    connected.map(hyper_util::rt::TokioIo::into_inner).map_err(|error| reason(&error))
}

/// Returns the reason of the operating system inside the error of a connector.
fn reason(error: &(dyn Error + 'static)) -> io::Error {
    let mut next = error.source();
    while let Some(inner) = next {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            return io::Error::new(found.kind(), found.to_string());
        }
        next = inner.source();
    }
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::testing::BlackHole;

    #[tokio::test]
    async fn connect_with_unreachable_first_address_reaches_the_second() {
        let hole = BlackHole::start().await;
        let port = hole.address().port();
        let second = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
        let server = tokio::net::TcpListener::bind(second).await.unwrap();
        let resolver = tower::service_fn(move |_: Name| async move {
            Ok::<_, Infallible>(vec![hole_address(port), second].into_iter())
        });
        let connector = with_deadline(HttpConnector::new_with_resolver(resolver), Duration::from_secs(2));
        let target = format!("http://two-addresses.test:{port}/").parse().unwrap();
        let stream =
            tokio::time::timeout(Duration::from_secs(20), connector.oneshot(target)).await.unwrap().unwrap();
        assert_eq!(stream.into_inner().peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 2]));
        drop((server, hole));
    }

    #[tokio::test]
    async fn connect_addresses_keeps_their_ports_and_passes_a_silent_one() {
        let hole = BlackHole::start().await;
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = server.local_addr().unwrap();
        let connecting = connect_addresses(vec![hole.address(), second], Duration::from_secs(2));
        let stream = tokio::time::timeout(Duration::from_secs(20), connecting).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), second);
        drop(server);
        let refused = connect_addresses(vec![second], Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    fn hole_address(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[tokio::test]
    async fn connect_to_closed_port_returns_the_reason() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = connect_tcp("127.0.0.1", port, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect_tcp("::1", port, Duration::from_secs(5)).await.is_err());
    }
}
