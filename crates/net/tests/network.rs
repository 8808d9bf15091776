//! HTTP and raw connections over real sockets: private authorities, bad certificates, proxies.

use std::{error::Error, net::SocketAddr, time::Duration};

use larkauth_net::{
    ConnectError, Network, Proxies, ProxyUrl, Trust, explain_tls,
    testing::{Authority, BlackHole, Connect, HttpProxy, TlsServer, Validity},
};
use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use url::Url;

const DEADLINE: Duration = Duration::from_secs(10);

/// Calls a TLS server through its HTTP client, by a name that leads to it.
async fn get(network: &Network, host: &str, server: SocketAddr) -> reqwest::Result<StatusCode> {
    let builder = network.client_builder().timeout(DEADLINE).resolve_to_addrs(host, &[server]);
    let response = builder.build()?.get(format!("https://{host}:{}/", server.port())).send().await?;
    Ok(response.status())
}

fn explained(error: &(dyn Error + 'static)) -> String {
    explain_tls(error, "LARK_CA_FILE").unwrap_or_else(|| format!("unexplained: {error:?}"))
}

fn through(proxy: SocketAddr, scheme: &str, user: &str) -> Proxies {
    let proxy = ProxyUrl::parse(&format!("{scheme}://{user}{proxy}")).ok();
    Proxies::new(proxy.clone(), proxy, "direct.test")
}

#[tokio::test]
async fn http_client_trusts_the_file_and_says_whose_fault_a_bad_certificate_is() {
    let (ours, other, successor) = (Authority::named("ours"), Authority::new(), Authority::named("ours"));
    let network = Network::new(ours.trust(), Proxies::default());
    for (authority, name, validity, said) in [
        (&ours, "lark.test", Validity::Now, None),
        (
            &other,
            "lark.test",
            Validity::Now,
            Some("not trusted here; give its CA certificate with LARK_CA_FILE"),
        ),
        (
            &successor,
            "lark.test",
            Validity::Now,
            Some("not trusted here; give its CA certificate with LARK_CA_FILE"),
        ),
        (&ours, "elsewhere.test", Validity::Now, Some("is for elsewhere.test, not for lark.test")),
        (&ours, "lark.test", Validity::Expired, Some("has expired; its operator must renew it")),
        (&ours, "lark.test", Validity::Future, Some("not valid yet; check the clock")),
    ] {
        let server = TlsServer::http(authority.issue(&[name], validity).server_config()).await;
        let got = get(&network, "lark.test", server.address()).await;
        match said {
            None => assert_eq!(got.unwrap(), StatusCode::NO_CONTENT),
            Some(said) => {
                let error = explained(&got.unwrap_err());
                assert!(error.contains(said), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn http_client_at_a_port_without_tls_says_so() {
    // One server answers in plain text, one ends the connection.
    for (answer, said) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not speak TLS at this port"),
        (b"", "ended the connection in the handshake"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 16];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            std::future::pending::<()>().await;
        };
        let network = Network::default();
        let error = tokio::select! {
            got = get(&network, "lark.test", address) => got.unwrap_err(),
            () = answering => unreachable!(),
        };
        assert!(explained(&error).contains(said), "{error:?}");
    }
}

#[tokio::test]
async fn http_client_tunnels_through_the_proxy_with_credentials() {
    let authority = Authority::new();
    let server =
        TlsServer::http(authority.issue(&["lark.test", "direct.test"], Validity::Now).server_config()).await;
    let proxy = HttpProxy::start(Some(server.address()), None, Some("Basic bWU6cEBzcw==")).await;
    let network = Network::new(authority.trust(), through(proxy.address(), "http", "me:p%40ss@"));
    // The proxy looks the name up.
    let client = network.client_builder().timeout(DEADLINE).build().unwrap();
    let status = client.get("https://lark.test/x").send().await.unwrap().status();
    assert_eq!(status, StatusCode::NO_CONTENT);
    let asked = Connect { target: "lark.test:443".into(), authorization: Some("Basic bWU6cEBzcw==".into()) };
    assert_eq!(proxy.seen(), std::slice::from_ref(&asked));
    // A host of NO_PROXY is reached without it.
    assert_eq!(get(&network, "direct.test", server.address()).await.unwrap(), StatusCode::NO_CONTENT);
    assert_eq!(proxy.seen(), [asked]);
}

#[tokio::test]
async fn http_client_with_unreachable_first_address_reaches_the_second() {
    let authority = Authority::new();
    let hole = BlackHole::start().await;
    let server = TlsServer::http(authority.issue(&["lark.test"], Validity::Now).server_config()).await;
    let network = Network::new(authority.trust(), Proxies::default());
    let client = network
        .client_builder()
        .connect_timeout(Duration::from_secs(2))
        .timeout(DEADLINE)
        .resolve_to_addrs("lark.test", &[hole.address(), server.address()])
        .build()
        .unwrap();
    // Without a port in the address the client uses the ports of the given addresses.
    assert_eq!(client.get("https://lark.test/").send().await.unwrap().status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn connect_through_a_proxy_returns_a_stream_or_the_reason() {
    let echo = HttpProxy::start(None, None, None).await;
    let url: Url = "wss://lark.test/ws?ticket=s3cret".parse().unwrap();
    let reason = |result: Result<_, ConnectError>| result.map(drop).unwrap_err().to_string();

    let proxy = HttpProxy::start(Some(echo.address()), None, Some("Basic bWU6czNjcmV0")).await;
    let network = Network::new(Trust::default(), through(proxy.address(), "http", "me:s3cret@"));
    assert!(network.connect(&url, DEADLINE).await.is_ok());
    assert_eq!(proxy.seen()[0].target, "lark.test:443");
    assert!(network.connect(&"ws://lark.test/".parse().unwrap(), DEADLINE).await.is_ok());
    assert_eq!(proxy.seen()[1].target, "lark.test:80");

    let network = Network::new(Trust::default(), through(proxy.address(), "http", "me:wr0ng@"));
    let refused = reason(network.connect(&url, DEADLINE).await);
    assert!(
        refused.contains("requires a user name and a password") && !refused.contains("wr0ng"),
        "{refused}"
    );
    assert!(refused.contains(&proxy.address().to_string()), "{refused}");

    let strict = HttpProxy::start(None, None, None).await;
    let network = Network::new(Trust::default(), through(strict.address(), "http", ""));
    let refused = reason(network.connect(&url, DEADLINE).await);
    assert!(refused.contains("refuses to connect to the host") && !refused.contains("s3cret"), "{refused}");

    let gone = strict.address();
    drop(strict);
    let refused = timeout(DEADLINE, async {
        loop {
            let refused = reason(network.connect(&url, DEADLINE).await);
            if !refused.contains("refuses to connect") {
                break refused;
            }
        }
    });
    let refused = refused.await.unwrap();
    assert!(refused.contains("gives no connection") && refused.contains(&gone.to_string()), "{refused}");
}

#[tokio::test]
async fn connect_through_a_proxy_with_tls_verifies_its_certificate() {
    let (ours, other) = (Authority::new(), Authority::new());
    let echo = HttpProxy::start(None, None, None).await;
    let url: Url = "wss://lark.test/".parse().unwrap();
    for (authority, is_trusted) in [(&ours, true), (&other, false)] {
        let tls = authority.issue(&["127.0.0.1"], Validity::Now).server_config();
        let proxy = HttpProxy::start(Some(echo.address()), Some(tls), None).await;
        let network = Network::new(ours.trust(), through(proxy.address(), "https", ""));
        match network.connect(&url, DEADLINE).await {
            Ok(_) => assert!(is_trusted),
            Err(error) => {
                assert!(!is_trusted, "{error}");
                assert!(
                    error.to_string().contains("cannot be used: TLS: the server's certificate comes from"),
                    "{error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn connect_to_this_machine_goes_through_no_proxy() {
    let proxy = HttpProxy::start(None, None, None).await;
    let authority = Authority::new();
    let server = TlsServer::http(authority.issue(&["localhost"], Validity::Now).server_config()).await;
    let network = Network::new(authority.trust(), through(proxy.address(), "http", ""));
    let port = server.address().port();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("wss://{host}:{port}/").parse().unwrap();
        assert!(network.connect(&url, DEADLINE).await.is_ok(), "{host}");
    }
    assert_eq!(get(&network, "localhost", server.address()).await.unwrap(), StatusCode::NO_CONTENT);
    assert!(proxy.seen().is_empty());
}
