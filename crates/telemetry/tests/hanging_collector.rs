//! The end of a process while the collector hangs. A separate process, because `init` is global.

use std::{net::TcpListener, time::Duration};

use larkauth_models::{Clock, SystemClock};
use larkauth_net::Network;
use larkauth_telemetry::{LogFormat, Metrics, MetricsExporter, TelemetryConfig, export_at_end, init};
use tokio::time::Instant;

#[test]
fn shutdown_with_hanging_collector_ends_within_three_seconds_for_all_signals() {
    // The operating system accepts connections, and no program answers.
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = TelemetryConfig {
        service_name: "larkauth-test".into(),
        log_format: LogFormat::Json,
        filter: Some("warn".into()),
        otlp_endpoint: Some(format!("http://{}/", collector.local_addr().unwrap()).parse().unwrap()),
        export_logs: true,
        export_metrics: Some(Duration::from_secs(60)),
        ansi: false,
        network: Network::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let began = runtime.block_on(async {
        let guard = init(&config).unwrap();
        let exporter = MetricsExporter::new(&config, SystemClock.now()).unwrap().unwrap();
        export_at_end(exporter, Metrics::new().unwrap());
        tracing::info_span!(target: "larkauth_test", "auth.code.exchange").in_scope(|| {
            tracing::warn!(target: "larkauth_test", "refused");
        });
        let began = Instant::now();
        guard.shutdown().await;
        began
    });
    // The end of the runtime waits for none of its threads.
    drop(runtime);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(5), "{took:?}");
    collector.set_nonblocking(true).unwrap();
    let asked = std::iter::from_fn(|| collector.accept().ok()).count();
    assert!(asked >= 3, "spans, logs and metrics were sent at once: {asked} connections");
}
