//! Results on standard output: for people on a terminal, in plain lines for other programs, or as JSON.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use larkauth_models::Timestamp;
pub(crate) use larkauth_models::text::one_line;
use serde::Serialize;

/// Characters of one cell of a table.
const LONGEST_CELL: usize = 200;
/// Characters of one field; a token of Lark's may take 8 KB.
const LONGEST_VALUE: usize = 10_000;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Tables on a terminal, lines of tab-separated values elsewhere.
    Text,
    /// JSON, on a terminal too.
    Json,
}

impl Format {
    /// Writes rows as a table, or the values as one JSON document.
    pub(crate) fn list<T: Serialize>(
        self,
        values: &[T],
        headers: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Json => json(&values),
            Self::Text => {
                let row = |value| row(value).iter().map(|cell| one_line(cell, LONGEST_CELL)).collect();
                let rows: Vec<Vec<String>> = values.iter().map(row).collect();
                let text = if std::io::stdout().is_terminal() { table(headers, &rows) } else { lines(&rows) };
                text_out(&text)
            }
        }
    }

    /// Writes the fields of one thing, or the value as one JSON document.
    pub(crate) fn one<T: Serialize>(self, value: &T, fields: &[(&str, String)]) -> anyhow::Result<()> {
        match self {
            Self::Json => json(value),
            Self::Text => {
                let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
                let line = |(name, value): &(&str, String)| {
                    format!("{name:width$}  {}\n", one_line(value, LONGEST_VALUE))
                };
                text_out(&fields.iter().map(line).collect::<String>())
            }
        }
    }
}

/// Writes one JSON document.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text_out(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes one JSON document on one line, for streams of them.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    text_out(&format!("{}\n", serde_json::to_string(value)?))
}

/// Writes text as it is.
pub(crate) fn text_out(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Returns columns with a heading. Long lines are left to the terminal to wrap: an id stays whole when it is copied.
fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "none\n".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn lines(rows: &[Vec<String>]) -> String {
    rows.iter().map(|row| format!("{}\n", row.join("\t"))).collect()
}

/// Returns a time in UTC, readable for people.
pub(crate) fn time(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Returns the text of a value, or `-` when it is missing.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["cli_0123456789abcdef", "feishu", "开"], ["cli_fedcba9876543210", "lark", "off"]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec()
    }

    #[test]
    fn table_of_rows_aligns_columns() {
        insta::assert_snapshot!(table(&["APP", "BRAND", "STATE"], &rows()), @r"
        APP                   BRAND   STATE
        cli_0123456789abcdef  feishu  开
        cli_fedcba9876543210  lark    off
        ");
        assert_eq!(table(&["APP"], &[]), "none\n");
    }

    #[test]
    fn one_line_of_control_characters_replaces_them() {
        assert_eq!(one_line("a\x1b[2Jb", 3), "a […");
        assert_eq!(one_line("a\tb\nc", 10), "a b c");
        assert_eq!(one_line("gnp.\u{202e}exe", 10), "gnp.exe");
        assert_eq!(lines(&[vec!["a".into(), "b".into()]]), "a\tb\n");
    }
}
