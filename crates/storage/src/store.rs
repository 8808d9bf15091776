use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use larkauth_models::{
    AppId, Application, AuthMethod, AuthSession, CardFace, CardOptions, ConsentSecrets, EventId,
    FailureReason, MessageId, OpenId, Person, SessionId, SessionState, StoredToken, Timestamp, TokenKind,
    TokenPair, UserProfile,
};
use uuid::Uuid;

use crate::{JobTicks, Result};

/// Everything that is kept. One object, so that the code above holds one handle.
#[async_trait]
pub trait Store:
    Applications + Sessions + Tokens + Profiles + ProcessedEvents + ApiKeys + JobTicks + Send + Sync + 'static
{
    /// Answers when the database does, within the deadline of one statement.
    async fn ping(&self) -> Result<()>;
    /// Closes connections once what is under way has ended.
    async fn close(&self);
}

/// An application in the list of all.
#[derive(Debug)]
pub struct Registration {
    /// Which one.
    pub app_id: AppId,
    /// Whether it is switched on.
    pub enabled: bool,
    /// The rest, or why it cannot be read.
    pub application: Result<Application>,
}

/// Registered applications.
#[async_trait]
pub trait Applications {
    /// One application, enabled or not.
    async fn application(&self, app_id: &AppId) -> Result<Option<Application>>;
    /// All of them, ordered by id. One that cannot be read hides no other.
    async fn applications(&self) -> Result<Vec<Registration>>;
    /// Registers or replaces; closes the breaker, since settings may just have been mended.
    async fn put_application(&self, application: &Application, now: Timestamp) -> Result<()>;
    /// Switches serving on or off. False when there is no such application.
    async fn set_application_enabled(&self, app_id: &AppId, enabled: bool, now: Timestamp) -> Result<bool>;
    /// Opens (`Some(reason)`) or closes (`None`) the app-level breaker. True when that changed something.
    async fn set_application_frozen(
        &self,
        app_id: &AppId,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<bool>;
}

/// What a new session starts with; its state is `pending`.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Chosen by the caller.
    pub id: SessionId,
    /// Must be registered.
    pub app_id: AppId,
    /// Who is asked.
    pub person: Person,
    /// The way it takes.
    pub auth_method: AuthMethod,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// How the card looks.
    pub card: CardOptions,
    /// Stored encrypted until the session ends.
    pub consent: ConsentSecrets,
    /// Now.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// An ended session whose card this one goes on with: the card changes hands in the same transaction.
    pub takes_card_of: Option<SessionId>,
}

/// How many invitations one person may get from one application.
#[derive(Clone, Copy, Debug)]
pub struct InvitationLimit {
    /// At most so many …
    pub max: u32,
    /// … in so long.
    pub window: Duration,
}

impl InvitationLimit {
    /// Where the window begins that ends now: later invitations count.
    pub(crate) fn window_start(self, now: Timestamp) -> Timestamp {
        let window = TimeDelta::from_std(self.window).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(window).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The outcome of [`Sessions::create_session`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there.
    Created,
    /// The person was asked too often; try again after this long.
    RateLimited {
        /// Until the oldest counted invitation leaves the window.
        retry_after: Duration,
    },
}

/// The outcome of [`Sessions::bind_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeBinding {
    /// The session is pending and this is its code now.
    Bound,
    /// The session has this very code already: a replay of the same redirect.
    SameCode,
    /// Another code of the session is being exchanged: OAuth `state` works once.
    OtherCode,
    /// The session has ended (or never was).
    NotPending,
}

/// The outcome of [`Sessions::claim_exchange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeClaim {
    /// The caller may exchange the code.
    Claimed,
    /// Somebody else is at it until then.
    Held {
        /// When that claim ends by itself.
        until: Timestamp,
    },
    /// Somebody was at it and never said how it went: the code may be used up.
    Abandoned,
    /// A later code has taken this one's place, or it never was the session's.
    Superseded,
    /// The session has ended.
    NotPending,
}

/// How a session ends otherwise than well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnding {
    /// The person said no.
    Rejected,
    /// Its time is over.
    Expired,
    /// It failed.
    Failed(FailureReason),
}

impl SessionEnding {
    /// The state it leads to.
    #[must_use]
    pub const fn state(self) -> SessionState {
        match self {
            Self::Rejected => SessionState::Rejected,
            Self::Expired => SessionState::Expired,
            Self::Failed(_) => SessionState::Failed,
        }
    }
    /// The reason, for a failure.
    #[must_use]
    pub const fn reason(self) -> Option<FailureReason> {
        match self {
            Self::Failed(reason) => Some(reason),
            Self::Rejected | Self::Expired => None,
        }
    }
}

/// What is written, in one transaction, when a session ends well.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The session; must be pending and claimed by `claim`.
    pub session_id: SessionId,
    /// The claim under which the code was exchanged.
    pub claim: Uuid,
    /// The new pair; replaces an older one of the same person and raises its generation.
    pub pair: TokenPair,
    /// Who consented; also fills the session's name, mail, mobile and union id.
    pub profile: UserProfile,
    /// Now: becomes `completed_at`, `issued_at` and `granted_at`.
    pub now: Timestamp,
}

/// Which sessions to list; an empty filter means all.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Of this application.
    pub app_id: Option<AppId>,
    /// Of this person.
    pub open_id: Option<OpenId>,
    /// In this state.
    pub state: Option<SessionState>,
}

/// Where a page of [`Sessions::list_sessions`] starts: right after this session (newest first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCursor {
    /// Its creation time.
    pub created_at: Timestamp,
    /// Its id, for sessions of the same microsecond.
    pub id: SessionId,
}

/// How many there are now, by application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveCounts {
    /// The application.
    pub app_id: AppId,
    /// Pending sessions.
    pub pending_sessions: i64,
    /// Active user tokens.
    pub active_tokens: i64,
}

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
    async fn take_stale_cards(
        &self,
        now: Timestamp,
        ended_after: Timestamp,
        ended_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(AppId, SessionId)>>;
    /// For the gauges.
    async fn active_counts(&self) -> Result<Vec<ActiveCounts>>;
}

/// Tokens.
#[async_trait]
pub trait Tokens {
    /// The one live token, whatever its status; a revoked one is not live.
    async fn token(&self, app_id: &AppId, open_id: &OpenId, kind: TokenKind) -> Result<Option<StoredToken>>;
    /// Forgets: wipes the secrets and stops refreshing. True when there was something to forget.
    async fn revoke_token(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        kind: TokenKind,
        now: Timestamp,
    ) -> Result<bool>;
}

/// People.
#[async_trait]
pub trait Profiles {
    /// One person as one application sees them.
    async fn profile(&self, app_id: &AppId, open_id: &OpenId) -> Result<Option<UserProfile>>;
}

/// Which events have had their effect. Kept for at least 24 hours.
#[async_trait]
pub trait ProcessedEvents {
    /// Whether this consumer has finished with this event.
    async fn is_processed(&self, consumer: &str, event_id: &EventId) -> Result<bool>;
    /// Remembers that it has. Twice is fine.
    async fn mark_processed(&self, consumer: &str, event_id: &EventId, now: Timestamp) -> Result<()>;
    /// Forgets at most `limit` records older than `before`; gives their number.
    async fn purge_processed(&self, before: Timestamp, limit: u32) -> Result<u64>;
}

/// A key of the REST API. The key itself is not kept, only its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Public handle.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
}

/// API keys.
#[async_trait]
pub trait ApiKeys {
    /// Stores a new key's hash.
    async fn put_api_key(&self, key: &ApiKey, sha256: &[u8; 32]) -> Result<()>;
    /// Finds a key that is not revoked.
    async fn api_key(&self, sha256: &[u8; 32]) -> Result<Option<ApiKey>>;
    /// All of them, oldest first.
    async fn api_keys(&self) -> Result<Vec<ApiKey>>;
    /// Refuses a key from now on. False when there is no such living key.
    async fn revoke_api_key(&self, id: Uuid, now: Timestamp) -> Result<bool>;
}
