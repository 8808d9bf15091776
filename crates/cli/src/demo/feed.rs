//! The page's timeline: spans and events that the product traces, which hold no secret.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::{sync::broadcast, time::Instant};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Maximum number of entries: kept for a page that is opened later, and queued for one that reads slowly.
const MAX_ENTRIES: usize = 400;
/// Maximum length of a field's value, in characters.
const MAX_VALUE_LENGTH: usize = 300;
/// Spans that are not shown: they last as long as a connection, or repeat the span inside.
const HIDDEN_SPANS: [&str; 2] = ["lark.long_connection", "lark.push.handle"];

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// An action on the page. Times count from here.
    Action,
    /// An act of the simulated Lark.
    Lark,
    /// A span of the product.
    Span,
    /// A log line of the product.
    Event,
}

/// One line of the feed. An entry with the id of an earlier one replaces it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    id: u64,
    kind: Kind,
    name: String,
    /// The crate of the entry, empty for the page and the simulator.
    target: &'static str,
    level: &'static str,
    /// Since the last action.
    ms: f64,
    /// Duration. Absent while it lasts, and for entries without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<f64>,
    /// A span that has not ended.
    open: bool,
    fields: BTreeMap<&'static str, String>,
}

/// The newest entries and their subscribers.
pub(crate) struct Feed {
    kept: Mutex<Kept>,
    followers: broadcast::Sender<Arc<Entry>>,
}

struct Kept {
    entries: VecDeque<Arc<Entry>>,
    next_id: u64,
    zero: Instant,
}

impl Feed {
    /// Returns an empty feed.
    pub(crate) fn new() -> Self {
        let kept = Kept { entries: VecDeque::new(), next_id: 1, zero: Instant::now() };
        Self { kept: Mutex::new(kept), followers: broadcast::Sender::new(MAX_ENTRIES) }
    }

    /// Adds an action of the page. Times count from here.
    pub(crate) fn action(&self, name: &str, fields: impl IntoIterator<Item = (&'static str, String)>) {
        let mut kept = self.lock();
        kept.zero = Instant::now();
        self.add(&mut kept, Kind::Action, name, None, fields.into_iter().collect());
    }

    /// An act of the simulated Lark.
    pub(crate) fn lark(&self, name: &str, fields: impl IntoIterator<Item = (&'static str, String)>) {
        self.add(&mut self.lock(), Kind::Lark, name, None, fields.into_iter().collect());
    }

    /// Clears the entries.
    pub(crate) fn forget(&self) {
        self.lock().entries.clear();
    }

    /// Returns the kept entries and a subscription to the later ones.
    pub(crate) fn follow(&self) -> (Vec<Arc<Entry>>, broadcast::Receiver<Arc<Entry>>) {
        // Everything is sent under this lock: no entry is missed or repeated.
        let kept = self.lock();
        (kept.entries.iter().cloned().collect(), self.followers.subscribe())
    }

    fn add(
        &self,
        kept: &mut Kept,
        kind: Kind,
        name: &str,
        from: Option<&'static Metadata<'static>>,
        fields: BTreeMap<&'static str, String>,
    ) -> Entry {
        let ms = millis(kept.zero);
        let entry = Entry {
            id: kept.next_id,
            kind,
            name: name.to_owned(),
            target: from.map_or("", |from| from.target().split("::").next().unwrap_or_default()),
            level: from.map_or("INFO", |from| from.level().as_str()),
            ms,
            took_ms: None,
            open: kind == Kind::Span,
            fields,
        };
        kept.next_id += 1;
        self.send(kept, entry.clone());
        entry
    }

    fn send(&self, kept: &mut Kept, entry: Entry) {
        let entry = Arc::new(entry);
        match kept.entries.iter_mut().rev().find(|known| known.id == entry.id) {
            Some(known) => *known = entry.clone(),
            None => kept.entries.push_back(entry.clone()),
        }
        if kept.entries.len() > MAX_ENTRIES {
            kept.entries.pop_front();
        }
        // There may be no subscriber.
        let _ = self.followers.send(entry);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }
}

fn millis(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 10_000.0).round() / 10.0
}

/// A tracing layer that fills the feed.
pub(crate) struct FeedLayer(Arc<Feed>);

impl FeedLayer {
    /// Returns a layer that fills this feed.
    pub(crate) const fn new(feed: Arc<Feed>) -> Self {
        Self(feed)
    }
}

/// The entry of a span until it ends.
struct OpenSpan {
    entry: Entry,
    since: Instant,
}

impl<S> Layer<S> for FeedLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        if !is_ours(metadata.target()) || HIDDEN_SPANS.contains(&metadata.name()) {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let name = fields.name.unwrap_or_else(|| metadata.name().to_owned());
        let entry = self.0.add(&mut self.0.lock(), Kind::Span, &name, Some(metadata), fields.values);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(OpenSpan { entry, since: Instant::now() });
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open_span) = span.extensions_mut().get_mut::<OpenSpan>() {
            let mut fields = Fields::default();
            record.record(&mut fields);
            open_span.entry.fields.extend(fields.values);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(open_span) = context.span(&id).and_then(|span| span.extensions_mut().remove::<OpenSpan>())
        else {
            return;
        };
        let entry = Entry { took_ms: Some(millis(open_span.since)), open: false, ..open_span.entry };
        self.0.send(&mut self.0.lock(), entry);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !is_ours(event.metadata().target()) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let name = fields.values.remove("message").unwrap_or_else(|| metadata.name().to_owned());
        self.0.add(&mut self.0.lock(), Kind::Event, &name, Some(metadata), fields.values);
    }
}

fn is_ours(target: &str) -> bool {
    target.starts_with("larkauth") && !target.starts_with("larkauth_lark_sim")
}

/// Fields as short texts, without those of OpenTelemetry except the name.
#[derive(Default)]
struct Fields {
    name: Option<String>,
    values: BTreeMap<&'static str, String>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &str) {
        let value: String = value.chars().take(MAX_VALUE_LENGTH).collect();
        match field.name() {
            "otel.name" => self.name = Some(value),
            name if name.starts_with("otel.") => {}
            name => {
                self.values.insert(name, value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use tracing::{info, info_span};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn watched(run: impl FnOnce()) -> Vec<Arc<Entry>> {
        let feed = Arc::new(Feed::new());
        let subscriber = tracing_subscriber::registry().with(FeedLayer::new(feed.clone()));
        tracing::subscriber::with_default(subscriber, run);
        feed.follow().0
    }

    #[test]
    fn feed_of_span_keeps_one_entry_with_later_fields() {
        let entries = watched(|| {
            let span = info_span!(target: "larkauth_lark", "lark.api", otel.name = "lark.api.send", outcome = tracing::field::Empty);
            span.record("outcome", "ok");
        });
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!((entry.name.as_str(), entry.open), ("lark.api.send", false));
        assert_eq!(entry.fields, BTreeMap::from([("outcome", "ok".to_owned())]));
        assert!(entry.took_ms.is_some());
    }

    #[test]
    fn feed_hides_foreign_and_long_lived_spans_and_shortens_values() {
        let entries = watched(|| {
            info!(target: "hyper", "not ours");
            let _span = info_span!(target: "larkauth_lark", "lark.long_connection").entered();
            info!(target: "larkauth_auth", reason = "x".repeat(5000), "auth.session.ended");
        });
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!((entry.name.as_str(), entry.kind), ("auth.session.ended", Kind::Event));
        assert_eq!(entry.fields["reason"].len(), MAX_VALUE_LENGTH);
    }

    #[test]
    fn feed_keeps_bounded_history_and_sends_later_entries() {
        let feed = Feed::new();
        for n in 0..MAX_ENTRIES + 10 {
            feed.lark(&n.to_string(), []);
        }
        let (kept, mut later) = feed.follow();
        assert_eq!((kept.len(), kept[0].name.as_str()), (MAX_ENTRIES, "10"));
        feed.action("click", []);
        assert_eq!(later.try_recv().unwrap().kind, Kind::Action);
    }
}
