//! Log format with one flat JSON object per line: the fields of the event, then those of its spans.

use std::{collections::BTreeMap, fmt};

use opentelemetry::trace::TraceContextExt;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::Record,
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Names that this module writes; a field with such a name is omitted.
const RESERVED: &[&str] = &["timestamp", "level", "target", "message", "span", "trace_id", "span_id"];

/// Formats an event as `{"timestamp", "level", "target", "message", <event fields>, <span fields>, "span", "trace_id",
/// "span_id"}`. A field of the event overrides one of a span, a field of an inner span one of an outer span.
pub(crate) struct JsonLines;

/// Keeps the fields of a span as members of a JSON object, one after the other. A field that is recorded later is appended:
/// nothing is parsed again before an event needs it. Of two members with one name the later one counts.
pub(crate) struct JsonMembers;

impl<'writer> FormatFields<'writer> for JsonMembers {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut members = Members { text: String::new() };
        fields.record(&mut members);
        writer.write_str(&members.text)
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut members = Members { text: std::mem::take(&mut current.fields) };
        fields.record(&mut members);
        current.fields = members.text;
        Ok(())
    }
}

/// Returns the fields of a span.
fn members(text: &str) -> Map<String, Value> {
    serde_json::from_str(&format!("{{{text}}}")).unwrap_or_default()
}

/// Writes fields as members, separated by commas.
struct Members {
    text: String,
}

impl Members {
    fn put(&mut self, field: &Field, value: impl serde::Serialize) {
        let name = field.name().trim_start_matches("r#");
        let (Ok(name), Ok(value)) = (serde_json::to_string(name), serde_json::to_string(&value)) else {
            return;
        };
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(&name);
        self.text.push(':');
        self.text.push_str(&value);
    }
}

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

impl<S> FormatEvent<S, JsonMembers> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonMembers>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;

        let mut fields = BTreeMap::new();
        let mut innermost = None;
        for span in ctx.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            innermost = Some(span.name());
            if let Some(text) = span.extensions().get::<FormattedFields<JsonMembers>>() {
                fields.extend(members(text));
            }
        }
        event.record(&mut Collect(&mut fields));

        // Events of the `log` crate have their metadata as fields.
        let log_target = fields.remove("log.target");
        fields.retain(|name, _| !name.starts_with("log."));
        let target = log_target.as_ref().and_then(Value::as_str).unwrap_or(event.metadata().target());
        let message = fields.remove("message");

        let mut line = Vec::with_capacity(256);
        let mut json = serde_json::Serializer::new(&mut line);
        let mut write = || {
            let mut map = json.serialize_map(None)?;
            map.serialize_entry("timestamp", &timestamp)?;
            map.serialize_entry("level", event.metadata().level().as_str())?;
            map.serialize_entry("target", target)?;
            if let Some(message) = &message {
                map.serialize_entry("message", message)?;
            }
            for (name, value) in fields.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
                map.serialize_entry(name, value)?;
            }
            if let Some(name) = innermost {
                map.serialize_entry("span", name)?;
            }
            if let Some((trace_id, span_id)) = ids(target) {
                map.serialize_entry("trace_id", &trace_id)?;
                map.serialize_entry("span_id", &span_id)?;
            }
            map.end()
        };
        write().map_err(|_: serde_json::Error| fmt::Error)?;
        writeln!(writer, "{}", std::str::from_utf8(&line).map_err(|_| fmt::Error)?)
    }
}

/// Returns trace id and span id in the hexadecimal form of W3C trace context.
fn ids(target: &str) -> Option<(String, String)> {
    // OpenTelemetry logs while its context is borrowed; reading the context then would panic.
    if target.starts_with("opentelemetry") {
        return None;
    }
    opentelemetry::Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| (span.trace_id().to_string(), span.span_id().to_string()))
    })
}

struct Collect<'a>(&'a mut BTreeMap<String, Value>);

impl Collect<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().trim_start_matches("r#").to_owned(), value.into());
    }
}

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
