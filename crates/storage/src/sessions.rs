use async_trait::async_trait;
use larkauth_models::{AppId, AuthSession, CardFace, MessageId, OpenId, SessionId, Timestamp};
use uuid::Uuid;

use crate::{
    ActiveCounts, CodeBinding, Completion, Created, ExchangeClaim, InvitationLimit, NewSession, Result,
    SessionCursor, SessionEnding, SessionFilter,
};

/// Authorization sessions. Every transition is one conditional update: `true` means that this call made it.
#[async_trait]
pub trait Sessions {
    /// Creates, unless that would break the limit. Exact under concurrency, across processes.
    async fn create_session(&self, new: &NewSession, limit: InvitationLimit) -> Result<Created>;
    /// One session.
    async fn session(&self, id: SessionId) -> Result<Option<AuthSession>>;
    /// Newest first, at most `limit`, after the cursor. Without email, mobile and consent secrets: one that cannot be
    /// opened hides no session.
    async fn list_sessions(
        &self,
        filter: &SessionFilter,
        after: Option<SessionCursor>,
        limit: u32,
    ) -> Result<Vec<AuthSession>>;
    /// Finds the session that an OAuth `state` belongs to, by the SHA-256 of the state; works for ended sessions too.
    async fn session_by_state(&self, state_sha256: &[u8; 32]) -> Result<Option<AuthSession>>;
    /// Remembers the sent card, if the session has none yet and no other session has taken this one over.
    async fn record_card(&self, id: SessionId, message_id: &MessageId, face: CardFace) -> Result<bool>;
    /// Remembers which face the card shows.
    async fn record_face(&self, id: SessionId, face: CardFace) -> Result<bool>;
    /// Remembers the open id of a person known by user id only.
    async fn record_open_id(&self, id: SessionId, open_id: &OpenId) -> Result<bool>;
    /// Binds an authorization code (its SHA-256) to a pending session. Until somebody claims the exchange a later code takes
    /// the place of an earlier one, which may have been lost on its way; from then on there is only one.
    async fn bind_code(&self, id: SessionId, code_sha256: &[u8; 32]) -> Result<CodeBinding>;
    /// Takes the right to exchange until `until`; written down before the code leaves the house. `code_sha256` is that of
    /// a code that was bound, which must still be the session's; `None` for a code that needs no binding.
    async fn claim_exchange(
        &self,
        id: SessionId,
        code_sha256: Option<&[u8; 32]>,
        claim: Uuid,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<ExchangeClaim>;
    /// Gives the right back after an attempt that certainly did not use the code up.
    async fn release_exchange(&self, id: SessionId, claim: Uuid) -> Result<bool>;
    /// Ends a pending session well: token, profile and state in one transaction. A profile of somebody else than the
    /// session's person is refused with an error, and nothing is written.
    async fn complete_session(&self, completion: &Completion) -> Result<bool>;
    /// Ends a pending session otherwise. While somebody is exchanging its code it can only fail: what the person then
    /// declines, or what is then over, may be a moment from being stored.
    async fn end_session(&self, id: SessionId, ending: SessionEnding, now: Timestamp) -> Result<bool>;
    /// Expires at most `limit` pending sessions whose time is over and whose code nobody is exchanging; gives their ids.
    /// Replicas that do this at once do not wait for each other.
    async fn expire_due_sessions(&self, now: Timestamp, limit: u32) -> Result<Vec<SessionId>>;
    /// Takes at most `limit` sessions that ended in `ended_after .. ended_before`, whose card is not known to show the
    /// face of their end, and whose application is neither switched off nor frozen. Those taken longest ago, or never,
    /// come first, so that no card waits for ever behind others. Replicas that do this at once do not wait for each other.
    async fn claim_unreconciled_cards(
        &self,
        now: Timestamp,
        ended_after: Timestamp,
        ended_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(AppId, SessionId)>>;
    /// For the gauges.
    async fn active_counts(&self) -> Result<Vec<ActiveCounts>>;
}
