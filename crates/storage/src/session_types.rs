use std::time::Duration;

use chrono::TimeDelta;
use larkauth_models::{
    AppId, AuthMethod, CardOptions, ConsentSecrets, FailureReason, OpenId, Person, SessionId, SessionState,
    Timestamp, TokenPair, UserProfile,
};
use uuid::Uuid;

use crate::AuditEntry;

/// Values of a new session. Its state is `pending`.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Id of the session, chosen by the caller.
    pub id: SessionId,
    /// The application; must be registered.
    pub app_id: AppId,
    /// The invited person.
    pub person: Person,
    /// How the person is asked.
    pub auth_method: AuthMethod,
    /// The requested scopes.
    pub scopes: Vec<String>,
    /// Appearance of the card.
    pub card: CardOptions,
    /// OAuth state and PKCE verifier, stored encrypted until the session ends.
    pub consent: ConsentSecrets,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time at which the pending session expires.
    pub expires_at: Timestamp,
    /// An ended session whose card the new session takes over, in the same transaction.
    pub takes_card_of: Option<SessionId>,
    /// The record of the creation.
    pub audit: AuditEntry,
}

/// Limit of invitations per person and application.
#[derive(Clone, Copy, Debug)]
pub struct InvitationLimit {
    /// Maximum number of invitations in one window.
    pub max: u32,
    /// Length of the sliding window.
    pub window: Duration,
}

impl InvitationLimit {
    /// Returns the start of the window that ends at `now`. Invitations after the start count.
    pub fn window_start(self, now: Timestamp) -> Timestamp {
        let window = TimeDelta::from_std(self.window).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(window).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Pauses before a person is asked again who declined, did not answer or could not be asked. Each unsuccessful invitation
/// in a row doubles the pause.
#[derive(Clone, Copy, Debug)]
pub struct InvitationPause {
    /// Pause after one.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
}

/// The outcome of [`Sessions::create_session`](crate::Sessions::create_session).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The session is created.
    Created,
    /// The person has an open card that asks for all of the scopes.
    Open(SessionId),
    /// The person is not to be asked again yet.
    Paused {
        /// Time until the end of the pause.
        retry_after: Duration,
    },
    /// The person was invited too often.
    RateLimited {
        /// Time until the oldest counted invitation leaves the window.
        retry_after: Duration,
    },
}

/// The outcome of [`Sessions::bind_code`](crate::Sessions::bind_code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeBinding {
    /// The session is pending and has this code now.
    Bound,
    /// The session has this code already: the same redirect was delivered again.
    SameCode,
    /// Another code of the session is being exchanged. An OAuth `state` can be used once.
    OtherCode,
    /// The session has ended, or does not exist.
    NotPending,
}

/// The outcome of [`Sessions::claim_exchange`](crate::Sessions::claim_exchange).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeClaim {
    /// The caller may exchange the code, which was not sent before.
    Claimed,
    /// The caller may finish the exchange: its token pair is in escrow.
    Escrowed,
    /// Another caller holds the claim, or the code was sent and its pair may still arrive in escrow.
    Held {
        /// Time until that claim expires.
        left: Duration,
    },
    /// The code was sent and its pair did not arrive in escrow: the code may be consumed, and the pair is unknown.
    Abandoned,
    /// The session has another code: a later one replaced this code, or this code was never bound.
    Superseded,
    /// The session has ended.
    NotPending,
}

/// How a session ends without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnding {
    /// The person declined.
    Rejected,
    /// The session expired.
    Expired,
    /// The session failed for this reason.
    Failed(FailureReason),
}

impl SessionEnding {
    /// Returns the state of the ended session.
    #[must_use]
    pub const fn state(self) -> SessionState {
        match self {
            Self::Rejected => SessionState::Rejected,
            Self::Expired => SessionState::Expired,
            Self::Failed(_) => SessionState::Failed,
        }
    }
    /// Returns the reason of a failure.
    #[must_use]
    pub const fn reason(self) -> Option<FailureReason> {
        match self {
            Self::Failed(reason) => Some(reason),
            Self::Rejected | Self::Expired => None,
        }
    }
}

/// Values that are written in one transaction when a session completes.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The session; must be pending and claimed with `claim`.
    pub session_id: SessionId,
    /// The claim under which the code was exchanged.
    pub claim: Uuid,
    /// The new token pair. It replaces an older pair of the same person and raises the generation.
    pub pair: TokenPair,
    /// The person who consented. Name, mail, mobile number and union id are copied to the session.
    pub profile: UserProfile,
    /// Time of the first refresh.
    pub next_attempt_at: Option<Timestamp>,
    /// Current time, stored as `completed_at`, `issued_at` and `granted_at`.
    pub now: Timestamp,
    /// The record of the completion.
    pub audit: AuditEntry,
}

/// Filter of a list of sessions. An empty filter selects all sessions.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Selects sessions of this application.
    pub app_id: Option<AppId>,
    /// Selects sessions of these applications; all when empty.
    pub app_ids: Vec<String>,
    /// Selects sessions of this person.
    pub open_id: Option<OpenId>,
    /// Selects sessions in this state.
    pub state: Option<SessionState>,
}

/// Last session of the previous page of [`Sessions::list_sessions`](crate::Sessions::list_sessions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCursor {
    /// Creation time of that session.
    pub created_at: Timestamp,
    /// Id of that session, which orders sessions created in the same microsecond.
    pub id: SessionId,
}

/// The end of a session, as it is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnannouncedEnd {
    /// The session.
    pub id: SessionId,
    /// Its application.
    pub app_id: AppId,
    /// The person.
    pub person: Person,
    /// The final state.
    pub state: SessionState,
    /// Reason of a failure.
    pub failure_reason: Option<FailureReason>,
    /// Time of the end.
    pub ended_at: Timestamp,
}

impl UnannouncedEnd {
    /// Returns the cursor of the ends after this one.
    #[must_use]
    pub const fn cursor(&self) -> EndCursor {
        EndCursor { ended_at: self.ended_at, id: self.id }
    }
}

/// Last end of the previous batch of [`Sessions::unannounced_ends`](crate::Sessions::unannounced_ends).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndCursor {
    /// Time of that end.
    pub ended_at: Timestamp,
    /// Id of its session.
    pub id: SessionId,
}

/// Current numbers of one application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveCounts {
    /// The application.
    pub app_id: AppId,
    /// Pending sessions.
    pub pending_sessions: i64,
    /// Active user tokens.
    pub active_tokens: i64,
    /// Suspended user tokens.
    pub suspended_tokens: i64,
}
