//! Export of spans to a collector over OTLP/HTTP and flush by the guard. A separate process, because `init` is global.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc,
    time::Duration,
};

use larkauth_net::Network;
use larkauth_telemetry::{LogFormat, TelemetryConfig, TelemetryError, init};

/// Accepts one export, answers 200 and sends request line and body to the channel.
fn collector() -> (u16, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        send.send((first, body)).unwrap();
    });
    (port, receive)
}

#[tokio::test]
async fn telemetry_guard_shutdown_exports_spans_to_collector() {
    let (port, exported) = collector();
    let config = TelemetryConfig {
        service_name: "larkauth-test".into(),
        log_format: LogFormat::Json,
        filter: Some("error".into()),
        otlp_endpoint: Some(format!("http://127.0.0.1:{port}/").parse().unwrap()),
        ansi: false,
        network: Network::default(),
    };
    let guard = init(&config).unwrap();
    assert!(matches!(init(&config), Err(TelemetryError::AlreadySet)));

    tracing::info_span!(target: "larkauth_test", "auth.code.exchange", session_id = "s-1").in_scope(|| {
        tracing::info!(target: "larkauth_test", "exchanged");
        let _ = tracing::info_span!(target: "hyper::client", "not exported").entered();
    });
    guard.shutdown().await;

    let (request, body) = exported.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(request.starts_with("POST /v1/traces HTTP/1.1"), "{request}");
    let body = String::from_utf8_lossy(&body);
    for expected in ["larkauth-test", "service.version", "auth.code.exchange", "session_id", "exchanged"] {
        assert!(body.contains(expected), "{expected} in {body}");
    }
    assert!(!body.contains("not exported"));
}
