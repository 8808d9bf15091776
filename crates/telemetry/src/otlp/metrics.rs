//! The metrics of the registry as OTLP. The SDK cannot export metrics that it has not recorded itself, so the request is built
//! here, by the mapping of the OpenTelemetry specification for Prometheus metrics. Names are those of `/metrics`.

use larkauth_models::{Clock, SystemClock, Timestamp};
use opentelemetry::KeyValue;
use opentelemetry_proto::{
    tonic::{
        collector::metrics::v1::ExportMetricsServiceRequest,
        common::v1::{InstrumentationScope, KeyValue as WireKeyValue},
        metrics::v1::{
            AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
            ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point::Value,
        },
        resource::v1::Resource,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use parking_lot::Mutex;
use prometheus::proto::{LabelPair, MetricFamily, MetricType};
use prost::Message;
use reqwest::{Client, StatusCode, header};

use super::{EXPORT_TIMEOUT, path, resource};
use crate::{Metrics, config::TelemetryConfig, error::TelemetryError};

const MEDIA_TYPE: &str = "application/x-protobuf";

/// Failure of an export. The next export sends the same counters with what was added since.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The collector was not reached, or did not answer in time.
    #[error("the OTLP collector cannot be reached: {0}")]
    Unreachable(String),
    /// The collector answered with an error.
    #[error("the OTLP collector answered {0} to metrics; it must take OTLP/HTTP on /v1/metrics")]
    Refused(StatusCode),
}

/// What [`export_at_end`] was given. As global as the subscriber, which ends with it.
static AT_END: Mutex<Option<(MetricsExporter, Metrics)>> = Mutex::new(None);

/// Has the metrics sent once more by [`TelemetryGuard::shutdown`](crate::TelemetryGuard::shutdown): after the last work in progress,
/// and within the deadline of everything that is sent then.
pub fn export_at_end(exporter: MetricsExporter, metrics: Metrics) {
    *AT_END.lock() = Some((exporter, metrics));
}

/// Sends the metrics of [`export_at_end`].
pub(crate) async fn export_last() -> Result<(), ExportError> {
    let last = AT_END.lock().take();
    match last {
        Some((exporter, metrics)) => exporter.export(&metrics, SystemClock.now()).await,
        None => Ok(()),
    }
}

/// Sends all metrics to the collector. Has no `Debug`: the address may have a password.
#[derive(Clone)]
pub struct MetricsExporter {
    client: Client,
    url: String,
    resource: Resource,
    started: u64,
}

impl MetricsExporter {
    /// Returns the exporter of the configuration; `None` when metrics are not to be exported.
    ///
    /// # Errors
    /// Fails when the HTTP client cannot be built.
    pub fn new(config: &TelemetryConfig, started: Timestamp) -> Result<Option<Self>, TelemetryError> {
        let (Some(endpoint), Some(_)) = (&config.otlp_endpoint, config.export_metrics) else {
            return Ok(None);
        };
        let client = Client::builder()
            .timeout(EXPORT_TIMEOUT)
            .tls_backend_preconfigured(config.network.http_tls())
            .proxy(config.network.http_proxy())
            .build()
            .map_err(|_| TelemetryError::Client)?;
        let attributes = ResourceAttributesWithSchema::from(&resource(&config.service_name)).attributes.0;
        let resource = Resource { attributes, ..Resource::default() };
        Ok(Some(Self { client, url: path(endpoint, "metrics"), resource, started: nanoseconds(started) }))
    }

    /// Sends the metrics as they are now, within ten seconds.
    ///
    /// # Errors
    /// When the collector has not taken them.
    pub async fn export(&self, metrics: &Metrics, now: Timestamp) -> Result<(), ExportError> {
        let times = Times { start: self.started, now: nanoseconds(now) };
        let body = request(self.resource.clone(), &metrics.gather(), times).encode_to_vec();
        let sent = self.client.post(&self.url).header(header::CONTENT_TYPE, MEDIA_TYPE).body(body).send();
        let answer = sent.await.map_err(|error| ExportError::Unreachable(error.without_url().to_string()))?;
        if answer.status().is_success() { Ok(()) } else { Err(ExportError::Refused(answer.status())) }
    }
}

/// The interval that values are about, in nanoseconds of Unix time.
#[derive(Clone, Copy)]
struct Times {
    start: u64,
    now: u64,
}

fn nanoseconds(time: Timestamp) -> u64 {
    time.timestamp_nanos_opt().and_then(|nanoseconds| nanoseconds.try_into().ok()).unwrap_or(0)
}

fn request(resource: Resource, families: &[MetricFamily], times: Times) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope {
        name: "larkauth".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let metrics = families.iter().filter_map(|family| metric(family, times)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let resource_metrics =
        vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

/// Translates a family; the registry has counters, gauges and histograms only.
fn metric(family: &MetricFamily, times: Times) -> Option<Metric> {
    let numbers = |value: fn(&prometheus::proto::Metric) -> f64| {
        let point = |metric: &prometheus::proto::Metric| number(metric.get_label(), value(metric), times);
        family.get_metric().iter().map(point).collect()
    };
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: numbers(|metric| metric.get_counter().get_value()),
            aggregation_temporality,
            is_monotonic: true,
        }),
        MetricType::GAUGE => {
            Data::Gauge(Gauge { data_points: numbers(|metric| metric.get_gauge().get_value()) })
        }
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: family.get_metric().iter().map(|metric| histogram(metric, times)).collect(),
            aggregation_temporality,
        }),
        MetricType::SUMMARY | MetricType::UNTYPED => return None,
    };
    let (name, description) = (family.name().to_owned(), family.help().to_owned());
    Some(Metric { name, description, data: Some(data), ..Metric::default() })
}

fn number(labels: &[LabelPair], value: f64, times: Times) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

/// Translates buckets: those of Prometheus contain the ones before them, those of OTLP do not, and the last one has no bound.
fn histogram(metric: &prometheus::proto::Metric, times: Times) -> HistogramDataPoint {
    let histogram = metric.get_histogram();
    let count = histogram.get_sample_count();
    let finite = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    let (mut bucket_counts, mut explicit_bounds, mut before) = (Vec::new(), Vec::new(), 0);
    for bucket in finite {
        explicit_bounds.push(bucket.upper_bound());
        bucket_counts.push(bucket.cumulative_count().saturating_sub(before));
        before = bucket.cumulative_count();
    }
    bucket_counts.push(count.saturating_sub(before));
    HistogramDataPoint {
        attributes: attributes(metric.get_label()),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        count,
        sum: Some(histogram.get_sample_sum()),
        bucket_counts,
        explicit_bounds,
        ..HistogramDataPoint::default()
    }
}

fn attributes(labels: &[LabelPair]) -> Vec<WireKeyValue> {
    let pair = |label: &LabelPair| KeyValue::new(label.name().to_owned(), label.value().to_owned());
    labels.iter().map(|label| WireKeyValue::from(&pair(label))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn exported() -> Vec<Metric> {
        let metrics = Metrics::new().unwrap();
        metrics.session_created("cli_1", "websocket_card");
        metrics.session_created("cli_1", "websocket_card");
        metrics.sessions_active("cli_1", 3);
        metrics.callback_answered("cli_1", "answered", Duration::from_millis(40));
        metrics.callback_answered("cli_1", "answered", Duration::from_secs(3600));
        let request = request(Resource::default(), &metrics.gather(), Times { start: 1, now: 2 });
        // What a collector reads from the wire.
        let bytes = request.encode_to_vec();
        let mut read = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
        read.resource_metrics.remove(0).scope_metrics.remove(0).metrics
    }

    fn data(name: &str) -> Data {
        exported().into_iter().find(|metric| metric.name == name).and_then(|metric| metric.data).unwrap()
    }

    #[test]
    fn counter_is_cumulative_monotonic_sum_with_labels() {
        let Data::Sum(sum) = data("lark_service_auth_session_total") else { panic!("not a sum") };
        assert!(sum.is_monotonic && sum.aggregation_temporality() == AggregationTemporality::Cumulative);
        let point = &sum.data_points[0];
        assert_eq!(point.value, Some(Value::AsDouble(2.0)));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
        let names: Vec<_> = point.attributes.iter().map(|label| label.key.as_str()).collect();
        assert_eq!(names, ["app_id", "auth_method"]);
    }

    #[test]
    fn gauge_has_the_value() {
        let Data::Gauge(gauge) = data("lark_service_auth_session_active") else { panic!("not a gauge") };
        assert_eq!(gauge.data_points[0].value, Some(Value::AsDouble(3.0)));
    }

    #[test]
    fn histogram_buckets_sum_up_to_count() {
        let Data::Histogram(histogram) = data("lark_service_callback_answer_seconds") else {
            panic!("not a histogram")
        };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum), (2, Some(3600.04)));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert_eq!(point.bucket_counts.last(), Some(&1));
    }
}
