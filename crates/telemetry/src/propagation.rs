//! W3C trace context (`traceparent`, `tracestate`) across process borders.
//!
//! A sender calls [`inject_current`] (or [`inject_headers`]), a receiver [`set_parent`] on the span in which it handles the
//! message, before the span is first entered.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Adds the current span's context to the headers of a message.
pub fn inject_current(headers: &mut BTreeMap<String, String>) {
    TraceContextPropagator::new().inject_context(&Context::current(), &mut MapCarrier(headers));
}

/// Adds the current span's context to the headers of an HTTP request.
pub fn inject_headers(headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&Context::current(), &mut HttpCarrier(headers));
}

/// Reads the sender's context from the headers of a message. Returns an empty context for missing or malformed headers.
#[must_use]
pub fn extract(headers: &BTreeMap<String, String>) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &MapReader(headers))
}

/// Reads the caller's context from the headers of an HTTP request. Returns an empty context for missing or malformed headers.
#[must_use]
pub fn extract_headers(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HttpReader(headers))
}

/// Makes `span` a child of the sender's span. Does nothing when the headers have no context, when `span` is filtered
/// out, or when `span` was entered before.
pub fn set_parent(span: &Span, headers: &BTreeMap<String, String>) {
    set_parent_context(span, extract(headers));
}

/// Makes `span` a child of the caller's span, as [`set_parent`] does.
pub fn set_parent_from_headers(span: &Span, headers: &HeaderMap) {
    set_parent_context(span, extract_headers(headers));
}

/// Returns the id of the current trace: 32 hexadecimal digits, as in `traceparent`.
#[must_use]
pub fn current_trace_id() -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| span.trace_id().to_string())
    })
}

fn set_parent_context(span: &Span, parent: Context) {
    if parent.span().span_context().is_valid()
        && let Err(error) = span.set_parent(parent)
    {
        tracing::trace!(%error, "the sender's trace is not continued");
    }
}

struct MapCarrier<'a>(&'a mut BTreeMap<String, String>);

impl Injector for MapCarrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        // An empty `tracestate` has no information.
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }
}

struct MapReader<'a>(&'a BTreeMap<String, String>);

impl Extractor for MapReader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

struct HttpCarrier<'a>(&'a mut HeaderMap);

impl Injector for HttpCarrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (false, Ok(name), Ok(value)) =
            (value.is_empty(), HeaderName::try_from(key), HeaderValue::try_from(value))
        {
            self.0.insert(name, value);
        }
    }
}

struct HttpReader<'a>(&'a HeaderMap);

impl Extractor for HttpReader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::info_span;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn traced(run: impl FnOnce()) {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), run);
    }

    #[test]
    fn set_parent_from_message_and_http_headers_continues_trace() {
        traced(|| {
            let (mut message, mut http) = (BTreeMap::new(), HeaderMap::new());
            let sender = info_span!("sender").in_scope(|| {
                inject_current(&mut message);
                inject_headers(&mut http);
                current_trace_id().unwrap()
            });
            assert!(message["traceparent"].contains(&sender), "{message:?}");
            assert_eq!(http["traceparent"], message["traceparent"]);

            let receiver = info_span!("receiver");
            set_parent(&receiver, &message);
            assert_eq!(receiver.in_scope(current_trace_id), Some(sender.clone()));
            let receiver = info_span!("receiver");
            set_parent_from_headers(&receiver, &http);
            assert_eq!(receiver.in_scope(current_trace_id), Some(sender));
        });
    }

    #[test]
    fn set_parent_from_malformed_headers_starts_new_trace() {
        traced(|| {
            let headers = BTreeMap::from([("traceparent".to_owned(), "00-nonsense".to_owned())]);
            assert!(!extract(&headers).span().span_context().is_valid());
            let receiver = info_span!("receiver");
            set_parent(&receiver, &headers);
            assert!(receiver.in_scope(current_trace_id).is_some());
        });
    }

    #[test]
    fn inject_current_outside_of_span_adds_no_header() {
        let mut headers = BTreeMap::new();
        inject_current(&mut headers);
        assert_eq!((headers.len(), current_trace_id()), (0, None));
    }
}
