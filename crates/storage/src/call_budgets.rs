use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, CallRequest};

use crate::Result;

/// Longest lead that counts: 2 h. A longer one comes from a clock of the database that was set back.
pub const MAX_CALL_LEAD: Duration = Duration::from_secs(7200);

/// The calls to Lark that all processes may make together, by application and class of endpoint.
///
/// The state of a budget is the end of the calls that were granted so far. Its distance from now is the lead. The clock of
/// the database measures it, so that the clocks of the processes need not agree.
#[async_trait]
pub trait CallBudgets {
    /// Grants as many of the requested calls as fit, and takes them out of the budget.
    async fn grant_calls(&self, app_id: &AppId, class: &str, request: &CallRequest) -> Result<GrantedCalls>;
    /// Makes the lead of a budget at least this long.
    async fn hold_calls(&self, app_id: &AppId, class: &str, lead: Duration) -> Result<()>;
}

/// Outcome of [`CallBudgets::grant_calls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantedCalls {
    /// Number of granted calls.
    pub calls: u32,
    /// The lead before the grant.
    pub lead: Duration,
}
