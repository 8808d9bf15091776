//! Export to a collector over OTLP/HTTP and flush by the guard. A separate process, because `init` is global.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc,
    time::Duration,
};

use larkauth_models::{Clock, SystemClock};
use larkauth_net::Network;
use larkauth_telemetry::{
    ExportError, LogFormat, Metrics, MetricsExporter, TelemetryConfig, TelemetryError, init,
    spans_are_recorded,
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message;

/// Accepts exports, answers 200 and sends request line and body to the channel.
fn collector() -> (u16, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
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
            if send.send((first, body)).is_err() {
                return;
            }
        }
    });
    (port, receive)
}

#[tokio::test]
async fn collector_gets_spans_logs_and_metrics_by_the_end() {
    let (port, exported) = collector();
    let config = TelemetryConfig {
        service_name: "larkauth-test".into(),
        log_format: LogFormat::Json,
        filter: Some("warn".into()),
        otlp_endpoint: Some(format!("http://127.0.0.1:{port}/").parse().unwrap()),
        export_logs: true,
        export_metrics: Some(Duration::from_secs(60)),
        ansi: false,
        network: Network::default(),
    };
    assert!(!spans_are_recorded());
    let guard = init(&config).unwrap();
    assert!(spans_are_recorded());
    assert!(matches!(init(&config), Err(TelemetryError::AlreadySet)));

    tracing::info_span!(target: "larkauth_test", "auth.code.exchange", session_id = "s-1").in_scope(|| {
        tracing::info!(target: "larkauth_test", "exchanged");
        tracing::warn!(target: "larkauth_test", app_id = "cli_1", "refused");
        tracing::warn!(target: "opentelemetry_sdk", "an export failed");
        let _ = tracing::info_span!(target: "hyper::client", "not exported").entered();
    });
    guard.shutdown().await;

    let metrics = Metrics::new().unwrap();
    metrics.session_created("cli_1", "websocket_card");
    let exporter = MetricsExporter::new(&config, SystemClock.now()).unwrap().unwrap();
    exporter.export(&metrics, SystemClock.now()).await.unwrap();

    let exports: BTreeMap<_, _> =
        (0..3).map(|_| exported.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
    let bytes = |kind: &str| exports[&format!("POST /v1/{kind} HTTP/1.1\r\n")].as_slice();
    let body = |kind: &str| String::from_utf8_lossy(bytes(kind)).into_owned();
    for (kind, expected) in [
        ("traces", ["auth.code.exchange", "session_id", "exchanged"]),
        ("logs", ["refused", "app_id", "cli_1"]),
        ("metrics", ["lark_service_auth_session_total", "websocket_card", "cli_1"]),
    ] {
        let resource = ["larkauth-test", "service.version", "service.instance.id"];
        for expected in expected.into_iter().chain(resource) {
            assert!(body(kind).contains(expected), "{expected} in {}", body(kind));
        }
    }
    let spans = ExportTraceServiceRequest::decode(bytes("traces")).unwrap();
    let logs = ExportLogsServiceRequest::decode(bytes("logs")).unwrap();
    let span = &spans.resource_spans[0].scope_spans[0].spans[0];
    let record = &logs.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((&record.trace_id, &record.span_id), (&span.trace_id, &span.span_id), "the line's own span");
    assert_eq!(record.trace_id.len(), 16);
    assert!(!body("traces").contains("not exported"));
    assert!(!body("logs").contains("exchanged") && !body("logs").contains("an export failed"));
}

#[tokio::test]
async fn metrics_export_to_what_is_no_collector_fails_with_reason() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = TelemetryConfig {
        service_name: "larkauth-test".into(),
        log_format: LogFormat::Json,
        filter: None,
        otlp_endpoint: Some(format!("http://user:s3cret@{closed}").parse().unwrap()),
        export_logs: false,
        export_metrics: Some(Duration::from_secs(60)),
        ansi: false,
        network: Network::default(),
    };
    let exporter = MetricsExporter::new(&config, SystemClock.now()).unwrap().unwrap();
    let error = exporter.export(&Metrics::new().unwrap(), SystemClock.now()).await.unwrap_err();
    assert!(matches!(error, ExportError::Unreachable(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
}
