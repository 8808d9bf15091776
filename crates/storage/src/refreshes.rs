use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, StoredToken, Timestamp, TokenPair, TokenStatus};
use uuid::Uuid;

use crate::Result;

/// Furthest end of a lease from now that counts: 6 min, which is a lease of a minute, longer than any, and
/// [`MAX_CLOCK_LEAD`](crate::MAX_CLOCK_LEAD). The statements of both databases have it as a number.
pub const MAX_LEASE_END: Duration = Duration::from_secs(360);

/// Refreshing the tokens of people. A refresh token works once, so one caller at a time may use it.
///
/// A caller takes the lease of a row, which is also the record that the refresh token may be on its way to Lark. The lease
/// ends with a new pair, with another result, or by its time, which the clock of the database measures. A lease that ended
/// by its time is reported to the next caller: the refresh token may be used up. So is a lease that ends more than
/// [`MAX_LEASE_END`] from now: the clock was set back since, and its holder would block the token for the length of the jump.
///
/// A pair is stored by the generation that it replaces, whether or not its caller still has the lease. So a late pair is not lost, and an old
/// one replaces nothing.
#[async_trait]
pub trait Refreshes {
    /// Takes the lease of one token for `life`, unless another caller holds it.
    async fn claim_refresh(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        owner: Uuid,
        life: Duration,
    ) -> Result<RefreshClaim>;
    /// Returns the applications that have tokens whose next attempt is due and which are not leased, with the number of
    /// these tokens, counted up to `at_most`. Applications that are disabled, or were frozen after `frozen_before`, are left
    /// out.
    async fn due_applications(
        &self,
        now: Timestamp,
        frozen_before: Timestamp,
        at_most: u32,
    ) -> Result<Vec<DueApplication>>;
    /// Takes the leases of at most `limit` tokens of an application whose next attempt is due, in the order of
    /// [`DueOrder`]. Concurrent calls take different tokens. A token whose secrets cannot be read is among them: its
    /// caller gives it back.
    async fn claim_due_refreshes(
        &self,
        app_id: &AppId,
        order: &DueOrder,
        owner: Uuid,
        life: Duration,
        limit: u32,
    ) -> Result<Vec<LeasedToken>>;
    /// Stores a new pair in place of its generation, and ends the lease. A revoked token stays revoked. `false`: the token
    /// has another generation, for example that of this very pair.
    async fn complete_refresh(&self, refreshed: &RefreshedToken) -> Result<bool>;
    /// Ends the lease of this owner without a new pair.
    async fn end_refresh(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        owner: Uuid,
        end: RefreshEnd,
    ) -> Result<bool>;
    /// Records the use of a token, unless one was recorded after `last_before`.
    async fn touch_token(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        now: Timestamp,
        last_before: Timestamp,
    ) -> Result<bool>;
}

/// An application with due tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueApplication {
    /// The application.
    pub app_id: AppId,
    /// Number of its due tokens, up to a limit.
    pub due: u32,
}

/// The order of due tokens. First those whose refresh token ends before `logins_before`, because its end costs the login;
/// then those whose access token ends before `access_before`, because its end costs a wait; each in the order of their ends.
/// What has ended already, and what ends later, comes last, in the order in which it became due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueOrder {
    /// Current time.
    pub now: Timestamp,
    /// Refresh tokens that end before this time come first.
    pub logins_before: Timestamp,
    /// Access tokens that end before this time come next.
    pub access_before: Timestamp,
}

/// Outcome of [`Refreshes::claim_refresh`].
#[derive(Clone, Debug)]
pub enum RefreshClaim {
    /// The caller has the lease.
    Leased(Box<LeasedToken>),
    /// Another caller has it.
    Held {
        /// Time until its lease ends.
        left: Duration,
    },
    /// There is no token with a refresh token, or its status permits no refresh.
    NotRefreshable,
}

/// A token under the caller's lease.
#[derive(Clone, Debug)]
pub struct LeasedToken {
    /// The token.
    pub token: StoredToken,
    /// An earlier lease ended by its time: its holder may have sent the refresh token.
    pub was_interrupted: bool,
}

/// A new pair for [`Refreshes::complete_refresh`].
#[derive(Clone, Debug)]
pub struct RefreshedToken {
    /// The application.
    pub app_id: AppId,
    /// The person.
    pub open_id: OpenId,
    /// The generation that the pair replaces.
    pub generation: i64,
    /// The new pair.
    pub pair: TokenPair,
    /// Answers in a row that kept the login and gave no access token; 0 after a whole pair.
    pub failures: u32,
    /// Time of the next refresh.
    pub next_attempt_at: Option<Timestamp>,
    /// Current time, stored as `issued_at`.
    pub now: Timestamp,
}

/// How a refresh ended without a new pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshEnd {
    /// The status of the token from now on.
    pub status: TokenStatus,
    /// Failed attempts in a row.
    pub failures: u32,
    /// Time of the next attempt.
    pub next_attempt_at: Option<Timestamp>,
}
