//! Exchanges and queues. The embedded bus keeps the same names.
//!
//! ```text
//! events (topic) ──binding keys──▶ queue ──handled──▶ gone
//!                                   │ ▲
//!                     retry (topic) ▼ │ back (direct), after the delay
//!                              delay queues (one per tier, TTL)
//!                                   │
//!                     dead (topic)  ▼  out of attempts, poison, crash loop
//!                              dead-letters queue, dead-letter-notices
//! ```
//!
//! Beside each queue there is an isolated one, whose messages are handled alone: those that were delivered before.

use std::time::Duration;

/// A queue of this product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Cards to send.
    Invitations,
    /// Clicks to handle.
    CardActions,
    /// Browser redirects to handle.
    OauthRedirects,
    /// Cards to reconcile.
    CardFaces,
    /// Token pairs that the store did not take.
    Escrows,
    /// Copies of the dead letters, which end or mark the sessions that they belong to.
    DeadLetterNotices,
}

impl Queue {
    /// Every queue.
    pub const ALL: &'static [Self] = &[
        Self::Invitations,
        Self::CardActions,
        Self::OauthRedirects,
        Self::CardFaces,
        Self::Escrows,
        Self::DeadLetterNotices,
    ];

    /// Returns the name without the prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invitations => "invitations",
            Self::CardActions => "card-actions",
            Self::OauthRedirects => "oauth-redirects",
            Self::CardFaces => "card-faces",
            Self::Escrows => "escrows",
            Self::DeadLetterNotices => "dead-letter-notices",
        }
    }

    /// Returns the routing keys (topic patterns) bound to the queue.
    #[must_use]
    pub const fn binding_keys(self) -> &'static [&'static str] {
        match self {
            Self::Invitations => &["invitation.requested"],
            Self::CardActions => &["card.action.*"],
            Self::OauthRedirects => &["oauth.#"],
            Self::CardFaces => &["card.face.requested", "session.*"],
            Self::Escrows => &["token.escrowed"],
            Self::DeadLetterNotices => &[],
        }
    }

    /// Returns the queues whose dead letters are copied to this queue. Its own are not: their notice would be another one.
    pub fn dead_letters_of(self) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |queue| self.takes_dead_letters_of(*queue))
    }

    /// Returns whether the dead letters of `queue` are copied to this queue.
    #[must_use]
    pub const fn takes_dead_letters_of(self, queue: Self) -> bool {
        matches!(self, Self::DeadLetterNotices) && !matches!(queue, Self::DeadLetterNotices)
    }
}

impl std::fmt::Display for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Suffix of the durable queues' names on RabbitMQ. Queues with other arguments need another one.
pub const GENERATION: &str = "v2";
/// Topic exchange that messages are published to.
pub const EVENTS_EXCHANGE: &str = "events";
/// Topic exchange in front of the delay queues; routing key `<tier>.<queue>`.
pub const RETRY_EXCHANGE: &str = "retry";
/// Topic exchange behind the delay queues; queues bind `*.<queue>`.
pub const BACK_EXCHANGE: &str = "back";
/// Topic exchange in front of the dead letters.
pub const DEAD_EXCHANGE: &str = "dead";
/// Queue of the dead letters, which wait for an operator.
pub const DEAD_LETTER_QUEUE: &str = "dead-letters";
/// Routing keys whose messages go directly to the dead letters.
pub const DEAD_LETTER_BINDING_KEYS: &[&str] = &["callback.unrecognized"];

/// Delays, in seconds. A longer wait passes through the delay queues several times.
pub const DELAY_TIERS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Attempts after which a message becomes a dead letter.
pub const MAX_ATTEMPTS: u32 = 12;
/// Crashes of consumers that handled a message alone, after which it becomes a dead letter.
pub const CRASH_LIMIT: u32 = 5;
/// Retention of dead letters.
pub const DEAD_LETTER_TTL: Duration = Duration::from_secs(14 * 24 * 3600);

/// Returns the delay after an attempt, in seconds: 1, 2, 4, 8, …, up to the longest tier.
#[must_use]
pub fn backoff_tier(attempt: u32) -> u64 {
    let last = DELAY_TIERS.len() - 1;
    DELAY_TIERS[usize::try_from(attempt.saturating_sub(1)).unwrap_or(last).min(last)]
}

/// Returns the shortest tier that covers the wait, else the longest tier.
#[must_use]
pub fn tier_for(wait: Duration) -> u64 {
    let longest = DELAY_TIERS[DELAY_TIERS.len() - 1];
    DELAY_TIERS.iter().copied().find(|tier| Duration::from_secs(*tier) >= wait).unwrap_or(longest)
}

/// Names of message headers.
pub mod header {
    /// Attempts so far, from 1.
    pub const ATTEMPT: &str = "x-larkauth-attempt";
    /// Crashes of consumers that handled the message alone; only on messages of the isolated queues.
    pub const CRASHES: &str = "x-larkauth-crashes";
    /// Reason of the last retry, or of the dead letter.
    pub const REASON: &str = "x-larkauth-reason";
    /// Queue of the message.
    pub const QUEUE: &str = "x-larkauth-queue";
    /// Routing key of the first publish; retries use other keys.
    pub const ROUTING_KEY: &str = "x-larkauth-routing-key";
    /// Remaining wait in milliseconds after this delay: a wait may be longer than the longest tier.
    pub const REMAINING_MS: &str = "x-larkauth-remaining-ms";
    /// Time of publishing, in Unix milliseconds; the AMQP timestamp has a resolution of seconds.
    pub const PUBLISHED_MS: &str = "x-larkauth-published-ms";
    /// Time at which the message became a dead letter, in Unix milliseconds.
    pub const DIED_MS: &str = "x-larkauth-died-ms";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_tier_of_attempts_doubles_to_longest_tier() {
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
