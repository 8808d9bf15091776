//! Exemplars: the trace of a measured value, beside the bucket of a histogram that counted the value. The library has
//! none, so they are kept here and added to its text, which makes it the OpenMetrics format.

use std::{collections::HashMap, fmt::Write as _};

use parking_lot::Mutex;

use super::families::FAST;
use crate::propagation::current_trace_id;

/// The latest value and its trace, by the bucket's line up to the value. As many as there are buckets.
#[derive(Debug, Default)]
pub(super) struct Exemplars(Mutex<HashMap<String, (String, f64)>>);

impl Exemplars {
    /// Keeps the current trace, if there is one, for a value of a histogram with the buckets [`FAST`]. The labels are in
    /// the order of their names, and their values need no escape.
    pub(super) fn note(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let Some(trace_id) = current_trace_id() else { return };
        let mut bucket = format!("lark_service_{name}_bucket{{");
        for (label, of) in labels {
            // Writing to a string cannot fail.
            let _ = write!(bucket, "{label}=\"{of}\",");
        }
        let _ = match FAST.iter().find(|bound| value <= **bound) {
            Some(bound) => write!(bucket, "le=\"{bound}\"}}"),
            None => write!(bucket, "le=\"+Inf\"}}"),
        };
        self.0.lock().insert(bucket, (trace_id, value));
    }

    /// Turns the Prometheus text format into the OpenMetrics format.
    pub(super) fn open_metrics(&self, text: &str) -> String {
        let exemplars = self.0.lock();
        let mut out = String::with_capacity(text.len() + 100 * exemplars.len());
        for line in text.lines() {
            if let Some((mark, rest)) = head(line) {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                // The family of a counter is named without the suffix of its sample.
                let _ = writeln!(out, "{mark}{} {rest}", name.strip_suffix("_total").unwrap_or(name));
                continue;
            }
            out.push_str(line);
            let bucket = line.rsplit_once(' ').map_or(line, |(bucket, _)| bucket);
            if let Some((trace_id, value)) = exemplars.get(bucket) {
                let _ = write!(out, " # {{trace_id=\"{trace_id}\"}} {value}");
            }
            out.push('\n');
        }
        out.push_str("# EOF\n");
        out
    }
}

fn head(line: &str) -> Option<(&'static str, &str)> {
    ["# HELP ", "# TYPE "].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)))
}
