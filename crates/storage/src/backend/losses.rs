//! Rows of the horizon, and their order.

use larkauth_models::{AppId, LossReason, OpenId, Timestamp};

use crate::{
    HorizonCount, HorizonCursor, HorizonFilter, Loss, Result, StorageError, TokenRisks,
    backend::rows::{TOKENS, app_id},
};

/// A row of the horizon.
pub struct LossRow {
    pub app_id: String,
    pub open_id: String,
    pub at: Timestamp,
    pub reason: String,
}

impl LossRow {
    fn into_model(self) -> Result<Loss> {
        let parse = || {
            Ok::<_, Box<dyn std::error::Error>>(Loss {
                app_id: AppId::new(self.app_id.as_str())?,
                open_id: OpenId::new(self.open_id.as_str())?,
                at: self.at,
                reason: self.reason.parse()?,
            })
        };
        parse().map_err(|error| StorageError::Corrupt {
            table: TOKENS,
            row: format!("{}/{}", self.app_id, self.open_id),
            message: error.to_string(),
        })
    }
}

/// Returns where a page begins: everything after this is on it.
#[must_use]
pub fn start(filter: &HorizonFilter, after: Option<&HorizonCursor>) -> HorizonCursor {
    let first = HorizonCursor { at: filter.from, app_id: String::new(), open_id: String::new() };
    after.filter(|after| **after > first).cloned().unwrap_or(first)
}

/// Puts the losses of tokens and those of frozen applications in one order, and cuts the page off.
pub fn merge(tokens: Vec<LossRow>, frozen: Vec<LossRow>, limit: u32) -> Result<Vec<Loss>> {
    let mut losses = tokens.into_iter().chain(frozen).map(LossRow::into_model).collect::<Result<Vec<_>>>()?;
    losses.sort_by_key(Loss::cursor);
    losses.truncate(limit as usize);
    Ok(losses)
}

/// Returns the counts by reason.
pub fn counts(rows: Vec<(String, i64)>, frozen: i64) -> Result<Vec<HorizonCount>> {
    let known = rows.into_iter().map(|(reason, people)| {
        let reason = reason.parse::<LossReason>().map_err(|error| StorageError::Corrupt {
            table: TOKENS,
            row: "loss_reason".to_owned(),
            message: error.to_string(),
        })?;
        Ok(HorizonCount { reason, people: people.unsigned_abs() })
    });
    let mut counts = known.collect::<Result<Vec<_>>>()?;
    counts.push(HorizonCount { reason: LossReason::BreakerOpen, people: frozen.unsigned_abs() });
    counts.retain(|count| count.people > 0);
    counts.sort_by_key(|count| count.reason.as_str());
    Ok(counts)
}

/// Returns the number of tokens of each application.
pub fn by_application(rows: impl IntoIterator<Item = (String, i64)>) -> Result<Vec<(AppId, i64)>> {
    rows.into_iter().map(|(app, count)| Ok((app_id(app)?, count))).collect()
}

/// Returns the risks of one application.
///
/// # Errors
/// When the application's id is none.
pub fn risks(
    app: String,
    outcome_unknown: i64,
    next_refresh_at: Option<Timestamp>,
    is_frozen: bool,
) -> Result<TokenRisks> {
    Ok(TokenRisks { app_id: app_id(app)?, outcome_unknown, next_refresh_at, is_frozen })
}
