//! `amqps://` to the real broker, with TLS in front of it.

use std::net::SocketAddr;

use larkauth_messaging::{Bus, BusError, RabbitMq, testing::TestBus};
use larkauth_net::testing::{Authority, TlsServer, Validity};

/// Returns the broker's address with TLS, under a host and a port.
fn url(bed: &TestBus, host: &str, at: SocketAddr) -> String {
    let through = bed.url_through(at).replace("amqp://", "amqps://");
    through.replace(&at.to_string(), &format!("{host}:{}", at.port()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_over_tls_verifies_and_says_whose_fault() {
    let bed = TestBus::fast().await;
    let broker: SocketAddr = tokio::net::lookup_host(bed.target()).await.unwrap().next().unwrap();
    let (ours, other) = (Authority::new(), Authority::new());
    for (authority, names, validity, said) in [
        (&ours, &["localhost", "127.0.0.1"][..], Validity::Now, None),
        (
            &other,
            &["localhost", "127.0.0.1"],
            Validity::Now,
            Some("give its CA certificate with AMQP_CA_FILE"),
        ),
        (&ours, &["mq.test"], Validity::Now, Some("is for mq.test, not for ")),
        (
            &ours,
            &["localhost", "127.0.0.1"],
            Validity::Expired,
            Some("has expired; its operator must renew it"),
        ),
    ] {
        let config = authority.issue(names, validity).server_config();
        let tls = TlsServer::in_front_of(broker, config).await;
        for host in ["localhost", "127.0.0.1"] {
            let mut options = bed.options();
            options.url = url(&bed, host, tls.address()).into();
            options.trust = ours.trust();
            match (RabbitMq::connect(options).await, said) {
                (Ok(bus), None) => bus.close().await,
                (Err(error), Some(said)) => {
                    assert!(matches!(error, BusError::Unavailable { .. }), "{error}");
                    assert!(error.to_string().contains(said), "{error}");
                }
                (result, said) => panic!("{:?} instead of {said:?}", result.map(drop)),
            }
        }
    }
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_over_tls_to_the_plain_port_says_so() {
    let bed = TestBus::fast().await;
    let broker: SocketAddr = tokio::net::lookup_host(bed.target()).await.unwrap().next().unwrap();
    let mut options = bed.options();
    options.url = url(&bed, "127.0.0.1", broker).into();
    let error = RabbitMq::connect(options).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("TLS: the server"), "{error}");
}
