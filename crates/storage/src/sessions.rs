use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, AuthSession, CardFace, MessageId, OpenId, SessionId, Timestamp, TokenPair};
use uuid::Uuid;

use crate::{
    ActiveCounts, AuditEntry, CodeBinding, Completion, Created, EndCursor, ExchangeClaim, InvitationLimit,
    InvitationPause, NewSession, Result, Sealed, SessionCursor, SessionEnding, SessionFilter, UnannouncedEnd,
};

/// Authorization sessions. Every transition is one conditional update; `true` means that this call made the change. The
/// record of a change that a person or a caller made is written in the same transaction: it is an argument, or a field of
/// the argument. A session that expires by itself has none.
#[async_trait]
pub trait Sessions {
    /// Creates a session unless the person has reached the limit. The limit is exact for concurrent calls, also of
    /// several processes.
    async fn create_session(&self, new: &NewSession, limit: InvitationLimit) -> Result<Created>;
    /// Creates a session as [`Sessions::create_session`] does, unless the person has an open card already or is to be left in
    /// peace for a while. Both are decided under the lock of the person: of concurrent calls one creates.
    async fn create_session_unless_asked(
        &self,
        new: &NewSession,
        limit: InvitationLimit,
        pause: InvitationPause,
    ) -> Result<Created>;
    /// Returns one session.
    async fn session(&self, id: SessionId) -> Result<Option<AuthSession>>;
    /// Lists at most `limit` sessions after the cursor, newest first. The sessions have no email, mobile number and
    /// consent secrets, so that a value that cannot be opened hides no session.
    async fn list_sessions(
        &self,
        filter: &SessionFilter,
        after: Option<SessionCursor>,
        limit: u32,
    ) -> Result<Vec<AuthSession>>;
    /// Finds the session of an OAuth `state` by the SHA-256 of the state. Finds ended sessions too.
    async fn session_by_state(&self, state_sha256: &[u8; 32]) -> Result<Option<AuthSession>>;
    /// Records the message id of the sent card, unless the session already has a card or another session has this one.
    async fn record_card(&self, id: SessionId, message_id: &MessageId, face: CardFace) -> Result<bool>;
    /// Records which face the card shows.
    async fn record_face(&self, id: SessionId, face: CardFace) -> Result<bool>;
    /// Records the open id of a person who was invited by user id.
    async fn record_open_id(&self, id: SessionId, open_id: &OpenId) -> Result<bool>;
    /// Binds an authorization code (its SHA-256) to a pending session. Until the exchange is claimed, a later code
    /// replaces an earlier one, because the message with the earlier code may be lost. After the claim the code stays,
    /// unless the claim expired before the code was sent.
    async fn bind_code(&self, id: SessionId, code_sha256: &[u8; 32]) -> Result<CodeBinding>;
    /// Claims the exchange of the session's code for `life`, by the clock of the database. The same claim again renews
    /// it. An expired claim is taken over unless its code was sent and no pair is in escrow: such a claim is extended
    /// once, by `life`, for an escrow on its way, and then abandoned; that of a poll is left to the next poll. `code_sha256` is the hash of a bound code, which the
    /// session must still have; `None` for a code that is not bound.
    async fn claim_exchange(
        &self,
        id: SessionId,
        code_sha256: Option<&[u8; 32]>,
        claim: Uuid,
        life: Duration,
    ) -> Result<ExchangeClaim>;
    /// Notes under the claim that the code is about to be sent. Called before the code leaves; false when another caller
    /// has the claim, the session has ended, or its application is switched off: the code must not be sent.
    async fn mark_exchange_sent(&self, id: SessionId, claim: Uuid) -> Result<bool>;
    /// Puts the token pair of a sent code in escrow under the claim; see [`seal_escrow`](crate::seal_escrow). The same
    /// call again changes nothing. False when the pair is not wanted: the session has ended, or another caller has
    /// taken the claim over with the pair.
    async fn escrow_exchange(&self, id: SessionId, claim: Uuid, pair: &Sealed) -> Result<bool>;
    /// Puts a refreshed pair in the place of the pair in escrow, under the claim. [`Sessions::escrow_exchange`] with the
    /// earlier pair changes nothing after it. False when the pair is not wanted, as there.
    async fn replace_escrow(&self, id: SessionId, claim: Uuid, pair: &Sealed) -> Result<bool>;
    /// Returns the token pair in escrow under the claim.
    async fn escrowed_pair(&self, id: SessionId, claim: Uuid) -> Result<Option<TokenPair>>;
    /// Returns at most `limit` sessions whose code was sent and whose claim has expired, the longest expired first. Their
    /// exchange has to be resumed or ended. A poll whose answer did not arrive in escrow is left to the next poll.
    async fn unfinished_exchanges(&self, limit: u32) -> Result<Vec<SessionId>>;
    /// Releases a claim after an attempt that has certainly not consumed the code. A pair in escrow stays.
    async fn release_exchange(&self, id: SessionId, claim: Uuid) -> Result<bool>;
    /// Completes a pending session: writes token, profile and state in one transaction. Fails, and writes nothing, when
    /// the profile is not that of the session's person.
    async fn complete_session(&self, completion: &Completion) -> Result<bool>;
    /// Ends a pending session at the time of the record without a token, and wipes a pair in escrow. While its code is being exchanged, and once
    /// its code was sent, only `Failed` is accepted: the exchange may already have succeeded, so the session can neither
    /// be declined nor expire. While a device code is polled, the person may still decline: a pair is not wanted then.
    async fn end_session(&self, id: SessionId, ending: SessionEnding, audit: &AuditEntry) -> Result<bool>;
    /// Expires at most `limit` pending sessions past their `expires_at` whose code was not sent and is not being
    /// exchanged, and returns their ids. The sessions that are due longest come first. Concurrent calls expire different sessions.
    async fn expire_due_sessions(&self, now: Timestamp, limit: u32) -> Result<Vec<SessionId>>;
    /// Claims at most `limit` sessions whose card has to be reconciled: the session ended at or after `ended_after` and
    /// before `ended_before`, the recorded face is not the final one, and the application is enabled and not frozen.
    /// Sessions that were never claimed come first, then the least recently claimed, so that a card that cannot be
    /// updated does not block others. Concurrent calls claim different sessions.
    async fn claim_unreconciled_cards(
        &self,
        now: Timestamp,
        ended_after: Timestamp,
        ended_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(AppId, SessionId)>>;
    /// Returns at most `limit` ends before `ended_before` that are not announced, the oldest first, after the cursor.
    /// Every transition to a final state leaves its end unannounced. No value is decrypted.
    async fn unannounced_ends(
        &self,
        ended_before: Timestamp,
        after: Option<EndCursor>,
        limit: u32,
    ) -> Result<Vec<UnannouncedEnd>>;
    /// Records that the end of a session is announced.
    async fn record_announced(&self, id: SessionId, now: Timestamp) -> Result<bool>;
    /// Deletes at most `limit` ended sessions that were created before `before`, oldest first, and returns their number.
    async fn purge_sessions(&self, before: Timestamp, limit: u32) -> Result<u64>;
    /// Counts pending sessions and active tokens of each application, for the metrics. Reads indexes only.
    async fn active_counts(&self) -> Result<Vec<ActiveCounts>>;
}
