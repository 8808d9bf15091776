use async_trait::async_trait;
use larkauth_models::{AppId, LossReason, OpenId, Timestamp};

use crate::Result;

/// Which losses of access are listed.
#[derive(Clone, Debug)]
pub struct HorizonFilter {
    /// Of this application only.
    pub app_id: Option<AppId>,
    /// From this time on.
    pub from: Timestamp,
    /// Up to this time.
    pub until: Timestamp,
}

/// A person who loses access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The application.
    pub app_id: AppId,
    /// The person.
    pub open_id: OpenId,
    /// When access ends unless something changes. A suspended person has none already.
    pub at: Timestamp,
    /// Why.
    pub reason: LossReason,
}

impl Loss {
    /// Returns the cursor of the losses after this one.
    #[must_use]
    pub fn cursor(&self) -> HorizonCursor {
        let (app_id, open_id) = (self.app_id.to_string(), self.open_id.to_string());
        HorizonCursor { at: self.at, app_id, open_id }
    }
}

/// Last loss of the previous page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HorizonCursor {
    /// Its time.
    pub at: Timestamp,
    /// Its application.
    pub app_id: String,
    /// Its person.
    pub open_id: String,
}

/// Number of losses for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HorizonCount {
    /// The reason.
    pub reason: LossReason,
    /// Number of people.
    pub people: u64,
}

/// What endangers the tokens of one application now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRisks {
    /// The application.
    pub app_id: AppId,
    /// Tokens whose last refresh has an unknown outcome.
    pub outcome_unknown: i64,
    /// The earliest time of a scheduled refresh, which may be in the future. `None` without one, and for a disabled
    /// application.
    pub next_refresh_at: Option<Timestamp>,
    /// Whether the breaker is open.
    pub is_frozen: bool,
}

/// Who loses access when, and why. No value is decrypted.
///
/// A person whose application has an open breaker, and who would keep access without that, is listed with the end of the
/// access token, and again with what the token itself says.
#[async_trait]
pub trait Horizon {
    /// Returns at most `limit` losses after the cursor, the earliest first.
    async fn losses(
        &self,
        filter: &HorizonFilter,
        after: Option<&HorizonCursor>,
        limit: u32,
    ) -> Result<Vec<Loss>>;
    /// Counts the losses by reason, without those of no one.
    async fn count_losses(&self, filter: &HorizonFilter) -> Result<Vec<HorizonCount>>;
    /// Returns the risks of every application, for the gauges. Looks into two indexes for each application.
    async fn token_risks(&self) -> Result<Vec<TokenRisks>>;
    /// Counts the people of each application whose consent ends by Lark's limit in this span. Leaves out applications
    /// without any. Looks at the losses of this span only.
    async fn ending_consents(&self, from: Timestamp, until: Timestamp) -> Result<Vec<(AppId, i64)>>;
}
