use serde::Serialize;

use crate::{
    output::{self, Format},
    report,
};

/// Pages about findings.
pub(crate) mod page {
    /// The redirect URI is not registered.
    pub(crate) const REDIRECT_URI: &str = "docs/troubleshooting/redirect-uri.md";
    /// The long connection is not enabled, or the application is not published.
    pub(crate) const LONG_CONNECTION: &str = "docs/troubleshooting/long-connection.md";
    /// A permission is missing.
    pub(crate) const PERMISSIONS: &str = "docs/troubleshooting/permissions.md";
    /// The bot cannot reach the person.
    pub(crate) const PERSON: &str = "docs/troubleshooting/bot-cannot-reach-person.md";
    /// The application is shared with other programs.
    pub(crate) const RELAY: &str = "docs/operations/relay.md";
    /// Wrong secret, or wrong cloud.
    pub(crate) const CREDENTIALS: &str = "docs/troubleshooting/secret-or-brand.md";
    /// An encryption key is missing.
    pub(crate) const ENCRYPTION_KEYS: &str = "docs/operations/encryption-keys.md";
    /// A part of a running larkauth does not work.
    pub(crate) const HEALTH: &str = "docs/operations/health.md";
    /// This side: settings, database, broker, keys, clock, network, address.
    pub(crate) const THIS_SIDE: &str = "docs/troubleshooting/README.md";
}

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Nothing to correct.
    Ok,
    /// Works, or may work, but is probably not intended.
    Doubtful,
    /// Does not work.
    Wrong,
}

/// Result of one check.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    check: String,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'static str>,
}

impl Finding {
    /// Nothing to correct.
    pub(crate) fn ok(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Ok, detail: detail.into(), cure: None, page: None }
    }

    /// Returns a finding that is probably not intended.
    pub(crate) fn doubtful(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Doubtful, ..Self::ok(check, detail) }
    }

    /// Does not work.
    pub(crate) fn wrong(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, ..Self::ok(check, detail) }
    }

    /// Sets what to do and where to read more.
    pub(crate) fn cure(self, cure: impl Into<String>, page: &'static str) -> Self {
        Self { cure: Some(cure.into()), page: Some(page), ..self }
    }

    /// Sets where to read more, when the detail says what to do.
    pub(crate) fn page(self, page: &'static str) -> Self {
        Self { page: Some(page), ..self }
    }

    /// Returns whether the check failed.
    pub(crate) fn is_wrong(&self) -> bool {
        self.verdict == Verdict::Wrong
    }

    /// Returns whether there is nothing to correct.
    pub(crate) fn is_ok(&self) -> bool {
        self.verdict == Verdict::Ok
    }

    /// Writes the finding to standard error, beside a result.
    pub(crate) fn warn(&self) {
        let cure = self.cure.iter().map(|cure| format!("; {cure}"));
        let page = self.page.iter().map(|page| format!(", see {page}"));
        let rest: String = cure.chain(page).collect();
        report::warn(&format!("{}  {}{rest}", self.check, self.detail));
    }

    /// Writes the finding for a person.
    pub(crate) fn print(&self) {
        match self.verdict {
            Verdict::Ok => report::done(&self.check, &self.detail),
            Verdict::Doubtful => report::doubtful(&self.check, &self.detail),
            Verdict::Wrong => report::wrong(&self.check, &self.detail),
        }
        match (&self.cure, self.page) {
            (Some(cure), Some(page)) => report::say(&format!("    {cure}\n    see {page}")),
            (None, Some(page)) => report::say(&format!("    see {page}")),
            (Some(cure), None) => report::say(&format!("    {cure}")),
            (None, None) => {}
        }
    }
}

/// Writes all findings. Returns true when none is wrong.
pub(crate) fn print_all(findings: &[Finding], format: Format) -> anyhow::Result<bool> {
    let wrong = findings.iter().filter(|finding| finding.is_wrong()).count();
    let doubtful = findings.iter().filter(|finding| finding.verdict == Verdict::Doubtful).count();
    match format {
        Format::Json => {
            output::json(&serde_json::json!({ "ok": wrong == 0, "checks": findings }))?;
        }
        Format::Text => {
            findings.iter().for_each(Finding::print);
            let summary = match (wrong, doubtful) {
                (0, 0) => "Everything is in order.".to_owned(),
                (0, n) => format!("Nothing is wrong; {n} to review (!)."),
                (n, m) => format!(
                    "{n} wrong (✗), {m} to review (!). Correct the first ✗ first: others may follow from it."
                ),
            };
            report::say(&format!("\n{summary}"));
        }
    }
    Ok(wrong == 0)
}
