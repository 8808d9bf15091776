use http::{Method, StatusCode};

use super::*;

/// Returns metrics after one call of every method.
fn used() -> Metrics {
    let (metrics, app, queue, took) =
        (Metrics::new().unwrap(), "cli_1", "larkauth.auth", Duration::from_millis(40));
    metrics.websocket_connected(app, true);
    metrics.websocket_fallback(app, false);
    metrics.websocket_reconnected(app, "connected");
    metrics.callback_answered(app, "ok", took);
    metrics.foreign_event(app, "im.message.receive_v1");
    metrics.event_relayed(app, "exchange", "taken");
    metrics.unknown_session_clicked(app);
    metrics.session_created(app, "websocket_card");
    metrics.sessions_active(app, 3);
    metrics.sessions_expired(app, 2);
    metrics.auth_succeeded(app, "websocket_card", Duration::from_secs(42));
    metrics.auth_failed(app, "websocket_card", "identity_mismatch");
    metrics.token_refreshed(app, "ok");
    metrics.token_refresh_lag(app, took);
    metrics.tokens_active(app, 7);
    metrics.tokens_outcome_unknown(app, 1);
    metrics.tokens_suspended(app, 2);
    metrics.token_refresh_overdue(app, Duration::from_millis(90_500));
    metrics.consents_ending(app, "14d", 3);
    metrics.breaker_open(app, true);
    metrics.reauthorization(app, "asked");
    metrics.user_suspended(app, "frozen");
    metrics.user_restored(app);
    metrics.user_synced(app, "found", 49);
    metrics.user_sync_ended(app, "done");
    metrics.user_sync_left(app, 50);
    metrics.token_refresh_late(app, "access_token");
    metrics.token_spool(0);
    metrics.bus_published("confirmed", took);
    metrics.bus_consumed(queue, "done", took);
    metrics.bus_lag(queue, took);
    metrics.bus_retried(queue);
    metrics.bus_dead_lettered(queue, "malformed");
    metrics.bus_queue_messages(queue, 5);
    metrics.bus_queue_consumers(queue, 2);
    metrics.bus_up(true);
    metrics.bus_isolated(queue);
    metrics.bus_blocked(false);
    metrics.lark_api_called(app, "send_card", "ok", took);
    metrics.lark_api_budget(app, "token", "people", "granted", 1);
    metrics.http_request("/healthz", &Method::GET, StatusCode::OK, took);
    metrics.audit_records_dropped(2);
    metrics.encryption_keys_missing(0);
    metrics.changes_followed(true);
    metrics.database_up(true);
    metrics.database_writable(true);
    metrics.database_size(8192);
    metrics.database_pool(2, 1, 10);
    metrics
}

fn ours(metrics: &Metrics) -> String {
    metrics
        .render()
        .lines()
        .filter(|line| line.contains("lark_service_"))
        .fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn render_of_used_metrics_matches_snapshot() {
    // Without buckets, which would be most of the snapshot.
    let text = ours(&used())
        .lines()
        .filter(|line| !line.contains("_bucket{"))
        .fold(String::new(), |all, line| all + line + "\n");
    insta::assert_snapshot!(text);
}

#[test]
fn metric_names_have_prefix_and_suffix_of_their_kind() {
    let text = ours(&used());
    let types: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert_eq!(types.len(), 55);
    for (name, kind) in types {
        let rest = name.strip_prefix("lark_service_").unwrap();
        assert!(rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !rest.is_empty(), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{name}");
    }
}

#[test]
fn render_open_metrics_adds_trace_to_bucket_and_names_families() {
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let metrics = Metrics::new().unwrap();
    let trace_id = tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info_span!("call").in_scope(|| {
            metrics.lark_api_called("cli_1", "refresh_token", "ok", Duration::from_millis(40));
            metrics.lark_api_called("cli_1", "refresh_token", "ok", Duration::from_secs(60));
            metrics.callback_answered("cli_1", "in_time", Duration::from_millis(1500));
            crate::propagation::current_trace_id().unwrap()
        })
    });
    let text = metrics.render_open_metrics();
    for line in [
        format!(
            "lark_service_lark_api_seconds_bucket{{api=\"refresh_token\",le=\"0.05\"}} 1 # {{trace_id=\"{trace_id}\"}} 0.04"
        ),
        "lark_service_lark_api_seconds_bucket{api=\"refresh_token\",le=\"0.1\"} 1".to_owned(),
        format!(
            "lark_service_lark_api_seconds_bucket{{api=\"refresh_token\",le=\"+Inf\"}} 2 # {{trace_id=\"{trace_id}\"}} 60"
        ),
        format!(
            "lark_service_callback_answer_seconds_bucket{{app_id=\"cli_1\",outcome=\"in_time\",le=\"2\"}} 1 # {{trace_id=\"{trace_id}\"}} 1.5"
        ),
        "# TYPE lark_service_lark_api_calls counter".to_owned(),
        "lark_service_lark_api_calls_total{api=\"refresh_token\",app_id=\"cli_1\",outcome=\"ok\"} 2"
            .to_owned(),
        "# TYPE lark_service_lark_api_seconds histogram".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
    assert!(!metrics.render().contains("trace_id"), "the older format has no exemplars");
}

#[cfg(target_os = "linux")]
#[test]
fn render_on_linux_includes_process_metrics() {
    assert!(Metrics::new().unwrap().render().contains("process_resident_memory_bytes"));
}

#[test]
fn http_request_with_unknown_method_is_other_and_forget_app_removes_gauges() {
    let metrics = used();
    metrics.http_request("/healthz", &Method::from_bytes(b"X-1").unwrap(), StatusCode::OK, Duration::ZERO);
    assert!(metrics.render().contains(r#"method="other""#));
    metrics.forget_app("cli_1");
    assert!(!metrics.render().contains("websocket_connection_status"));
}
