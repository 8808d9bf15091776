//! Exchanges and queues. The embedded bus keeps the same names.
//!
//! ```text
//! events (topic) ──binding keys──▶ queue ──handled──▶ gone
//!                                   │ ▲
//!                     retry (topic) ▼ │ back (direct), after the delay
//!                              delay queues (one per tier, TTL)
//!                                   │
//!                     dead (topic)  ▼  out of attempts, poison, crash loop
//!                              dead-letters queue
//! ```

use std::time::Duration;

/// A queue of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Cards to send.
    Invitations,
    /// Clicks to handle.
    CardActions,
    /// Browser redirects to handle.
    OauthRedirects,
    /// Cards to bring up to date.
    CardFaces,
}

impl Queue {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Invitations, Self::CardActions, Self::OauthRedirects, Self::CardFaces];

    /// Its name, after the prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invitations => "invitations",
            Self::CardActions => "card-actions",
            Self::OauthRedirects => "oauth-redirects",
            Self::CardFaces => "card-faces",
        }
    }

    /// The routing keys (topic patterns) bound to it.
    #[must_use]
    pub const fn binding_keys(self) -> &'static [&'static str] {
        match self {
            Self::Invitations => &["invitation.requested"],
            Self::CardActions => &["card.action.*"],
            Self::OauthRedirects => &["oauth.#"],
            Self::CardFaces => &["card.face.requested", "session.*"],
        }
    }
}

impl std::fmt::Display for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Topic exchange that everything is published to.
pub const EVENTS_EXCHANGE: &str = "events";
/// Topic exchange in front of the delay queues; routing key `<tier>.<queue>`.
pub const RETRY_EXCHANGE: &str = "retry";
/// Topic exchange behind the delay queues; queues bind `*.<queue>`.
pub const BACK_EXCHANGE: &str = "back";
/// Topic exchange in front of the dead letters.
pub const DEAD_EXCHANGE: &str = "dead";
/// Where dead letters wait for a person.
pub const DEAD_LETTER_QUEUE: &str = "dead-letters";
/// Routing keys that go to the dead letters without a detour.
pub const DEAD_LETTER_BINDING_KEYS: &[&str] = &["callback.unrecognized"];

/// Delays a message can wait for, in seconds; a longer wait goes round again.
pub const DELAY_TIERS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];

/// A message that its handlers gave back so often is dead.
pub const MAX_ATTEMPTS: u32 = 12;
/// A message that killed its consumer so often is dead (`x-delivery-limit`).
pub const DELIVERY_LIMIT: u32 = 5;
/// How long dead letters are kept.
pub const DEAD_LETTER_TTL: Duration = Duration::from_secs(14 * 24 * 3600);

/// The tier of an attempt's backoff: 1-2-4-8… seconds, capped at the longest.
#[must_use]
pub fn backoff_tier(attempt: u32) -> u64 {
    let last = DELAY_TIERS.len() - 1;
    DELAY_TIERS[usize::try_from(attempt.saturating_sub(1)).unwrap_or(last).min(last)]
}

/// The shortest tier that is not shorter than the wait (or the longest there is).
#[must_use]
pub fn tier_for(wait: Duration) -> u64 {
    let longest = DELAY_TIERS[DELAY_TIERS.len() - 1];
    DELAY_TIERS.iter().copied().find(|tier| Duration::from_secs(*tier) >= wait).unwrap_or(longest)
}

/// Names of message headers.
pub mod header {
    /// Attempts so far, from 1.
    pub const ATTEMPT: &str = "x-larkauth-attempt";
    /// Why it was given back last, or died.
    pub const REASON: &str = "x-larkauth-reason";
    /// The queue it was in.
    pub const QUEUE: &str = "x-larkauth-queue";
    /// The key it was published with first; retries travel under other keys.
    pub const ROUTING_KEY: &str = "x-larkauth-routing-key";
    /// Milliseconds still to wait when it comes back: a wait longer than the longest tier goes round again.
    pub const REMAINING_MS: &str = "x-larkauth-remaining-ms";
    /// When it was published, in Unix milliseconds; the AMQP timestamp knows seconds only.
    pub const PUBLISHED_MS: &str = "x-larkauth-published-ms";
    /// When it died, in Unix milliseconds.
    pub const DIED_MS: &str = "x-larkauth-died-ms";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_is_capped() {
        assert_eq!(
            (1..=12).map(backoff_tier).collect::<Vec<_>>(),
            [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256, 256]
        );
        assert_eq!(backoff_tier(u32::MAX), 256);
        assert_eq!(tier_for(Duration::ZERO), 1);
        assert_eq!(tier_for(Duration::from_millis(4001)), 8);
        assert_eq!(tier_for(Duration::from_secs(100_000)), 256);
    }
}
