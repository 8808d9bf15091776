use std::time::Duration;

use chrono::TimeDelta;
use larkauth_models::{
    AppId, AuthMethod, CardOptions, ConsentSecrets, FailureReason, OpenId, Person, SessionId, SessionState,
    Timestamp, TokenPair, UserProfile,
};
use uuid::Uuid;

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
    pub fn window_start(self, now: Timestamp) -> Timestamp {
        let window = TimeDelta::from_std(self.window).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(window).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The outcome of [`Sessions::create_session`](crate::Sessions::create_session).
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

/// The outcome of [`Sessions::bind_code`](crate::Sessions::bind_code).
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

/// The outcome of [`Sessions::claim_exchange`](crate::Sessions::claim_exchange).
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

/// Where a page of [`Sessions::list_sessions`](crate::Sessions::list_sessions) starts: right after this session (newest first).
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
