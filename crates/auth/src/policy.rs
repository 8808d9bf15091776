use std::time::Duration;

use larkauth_models::{Backoff, CardOptions, RefreshPolicy};
use larkauth_storage::{InvitationLimit, InvitationPause};
use url::Url;

use crate::{
    people_policy::{ReauthorizePolicy, UserSyncPolicy},
    refresh_schedule::RefreshSchedule,
};

/// The settings and timings that decisions depend on. A test sets short ones.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `CloudEvents` `source` of this process, e.g. `/larkauth/gateway`.
    pub source: String,
    /// Life of an invitation.
    pub session_lifetime: Duration,
    /// How often one person may be invited.
    pub invitation_limit: InvitationLimit,
    /// How long a person is left in peace whose token is missing and who was asked in vain: 10 min to 24 h.
    pub invitation_pause: InvitationPause,
    /// How cards look unless the request says otherwise.
    pub card: CardOptions,

    /// How long the answer to a callback waits for the worker: 2 s. Lark gives up after 3 s.
    pub answer_deadline: Duration,
    /// How long the browser waits for the worker before it gets a page that looks again by itself: 2.5 s.
    pub redirect_deadline: Duration,
    /// Delay of what must come after the answer to a callback: 4 s. Lark takes at most 3 s for an answer.
    pub after_answer_delay: Duration,
    /// Where events that are not larkauth's are posted, besides the events exchange.
    pub event_relay_url: Option<Url>,
    /// Timings of those posts.
    pub webhook: WebhookTimings,
    /// First and longest pause between two looks at a session whose end is awaited: 100 ms to 1 s.
    pub session_poll: Backoff,

    /// Longest handling of one delivery: 24 s. A handler that takes longer is cancelled and its delivery comes again. A
    /// process that stops waits at least as long (`SHUTDOWN_GRACE_SECONDS`), and Kubernetes kills after 30 s.
    pub handler_deadline: Duration,
    /// Part of a delivery kept for the escrow of the tokens: 8 s, for the store, the bus and the spool in turn.
    pub escrow_reserve: Duration,
    /// Longest attempt at putting the tokens in escrow in one place: 3 s.
    pub escrow_attempt: Duration,
    /// Part of a delivery kept for storing the tokens: 6 s, one statement with its deadline and a little.
    pub commit_reserve: Duration,
    /// Longest resumption of one exchange whose tokens are in escrow: 13 s, of which 4 s for who consented.
    pub resume_deadline: Duration,
    /// Pause until an exchange is resumed that could not be finished: 5 s.
    pub resume_pause: Duration,
    /// Attempts at moving tokens from the bus to the store with backoff: 5, with 1 + 2 + 4 + 8 s. After that it is tried
    /// once per [`Policy::escrow_pause`], so that a long outage makes no dead letter of them.
    pub escrow_attempts: u32,
    /// Pause after those attempts: 16 s, shorter than the wait of an abandoned claim for its escrow.
    pub escrow_pause: Duration,
    /// Part of a delivery kept for the announcement: 3 s. The sweep repeats an announcement that is cut off.
    pub announce_reserve: Duration,
    /// Age of an end that should be announced: 10 s, longer than an announcement takes. Older ends are announced by the
    /// sweep.
    pub announce_grace: Duration,
    /// Life of the claim on a code: 30 s, longer than [`Policy::handler_deadline`]. The clock of the database measures it.
    pub exchange_claim: Duration,
    /// How long a code is tried again: 270 s. Lark's codes expire after 300 s.
    pub code_lifetime: Duration,
    /// Longest pause until a delivery whose code another worker exchanges is looked at again: 8 s.
    pub claim_check_interval: Duration,
    /// Pauses between repeated calls of one step of an exchange: 200 ms to 2 s.
    pub retry: Backoff,

    /// How much later a device code is polled until the person has opened the page from the card: 15 s. With Lark's interval
    /// of 5 s and its limit of 1000 calls a minute that leaves room for 300 open cards of one application.
    pub device_idle: Duration,
    /// Longest pause between two polls of a device code that Lark does not answer: 30 s.
    pub device_retry_longest: Duration,

    /// When tokens are refreshed ahead.
    pub refresh: RefreshSchedule,
    /// Life of the lease of a refresh: 30 s, longer than [`Policy::refresh_call`] and the keeping of the pair. The clock of
    /// the database measures it.
    pub refresh_lease: Duration,
    /// Longest call to Lark of a refresh: 15 s, with the wait for the rate limit.
    pub refresh_call: Duration,
    /// How long a caller waits for a refresh: 8 s. The refresh goes on without it.
    pub refresh_wait: Duration,
    /// Pauses of a token after failures in a row: 2 s to 60 s.
    pub refresh_retry: Backoff,
    /// Pause of a token whose refresh token cannot be read: 60 s. Another process may have the key.
    pub unreadable_pause: Duration,
    /// Tokens of one application that a process takes at once: 8, as many calls as the rate limit grants ahead.
    pub refresh_batch: u32,
    /// How long one run of the scheduled refresh takes more tokens: 10 s.
    pub refresh_run: Duration,
    /// Longest time between a change in the database and its effect on what any process serves: 1 s.
    pub read_staleness: Duration,
    /// How often changes are asked for: 200 ms. Several are missed before `read_staleness` is over.
    pub read_poll: Duration,
    /// How long what was read is kept at most, even if no change is announced: 30 s.
    pub read_life: Duration,
    /// Most decrypted tokens that a process keeps: 10,000, up to 100 MB with the longest tokens. 0 keeps none.
    pub read_tokens: usize,
    /// Shortest time between two records of a token's use: 1 h.
    pub use_interval: Duration,

    /// When and how people are looked up at Lark.
    pub user_sync: UserSyncPolicy,
    /// When and how people are asked again by larkauth itself.
    pub reauthorize: ReauthorizePolicy,

    /// How long Lark sends at most one message with the same `uuid`: 55 min, less than its hour.
    pub send_dedup_window: Duration,
    /// How long an open breaker refuses invitations: 5 min. After that one invitation may try Lark again.
    pub breaker_open: Duration,
    /// How long a registration is used without a look at the store: 10 s.
    pub app_cache_ttl: Duration,

    /// Attempts at updating one card: 6, with 1 + 2 + 4 + 8 + 16 s of backoff. The reconciliation takes over then.
    pub card_update_attempts: u32,
    /// Age of an end that every card should show: 60 s. Older ends are reconciled.
    pub card_grace: Duration,
    /// Age of the oldest end that is reconciled: 24 h. Lark takes updates of a card for 14 days.
    pub card_reconcile_window: Duration,
    /// How long handled events are remembered: 48 h, longer than the 24 h for which duplicates are recognised.
    pub event_retention: Duration,
    /// How long ended sessions are kept, counted from their creation: 90 days.
    pub session_retention: Duration,
    /// How long audit records are kept: 365 days.
    pub audit_retention: Duration,
    /// How audit records of reads and refusals get into the database.
    pub audit: AuditTimings,
    /// Rows that one statement of a sweep touches.
    pub sweep_batch: u32,
}

impl Default for Policy {
    fn default() -> Self {
        const fn seconds(count: u64) -> Duration {
            Duration::from_secs(count)
        }
        let backoff = |base, cap| Backoff::new(Duration::from_millis(base), Duration::from_millis(cap), 0.2);
        Self {
            source: "/larkauth".to_owned(),
            session_lifetime: seconds(600),
            invitation_limit: InvitationLimit { max: 5, window: seconds(60) },
            invitation_pause: InvitationPause { first: seconds(600), longest: seconds(24 * 3600) },
            card: CardOptions::default(),
            answer_deadline: seconds(2),
            redirect_deadline: Duration::from_millis(2500),
            after_answer_delay: seconds(4),
            event_relay_url: None,
            webhook: WebhookTimings::default(),
            session_poll: backoff(100, 1000),
            handler_deadline: seconds(24),
            escrow_reserve: seconds(8),
            escrow_attempt: seconds(3),
            commit_reserve: seconds(6),
            resume_deadline: seconds(13),
            resume_pause: seconds(5),
            escrow_attempts: 5,
            escrow_pause: seconds(16),
            announce_reserve: seconds(3),
            announce_grace: seconds(10),
            exchange_claim: seconds(30),
            code_lifetime: seconds(270),
            claim_check_interval: seconds(8),
            retry: backoff(200, 2000),
            device_idle: seconds(15),
            device_retry_longest: seconds(30),
            refresh: RefreshSchedule {
                policy: RefreshPolicy::Adaptive,
                threshold: 0.8,
                used_for: seconds(24 * 3600),
            },
            refresh_lease: seconds(30),
            refresh_call: seconds(15),
            refresh_wait: seconds(8),
            refresh_retry: backoff(2000, 60_000),
            unreadable_pause: seconds(60),
            refresh_batch: 8,
            refresh_run: seconds(10),
            read_staleness: seconds(1),
            read_poll: Duration::from_millis(200),
            read_life: seconds(30),
            read_tokens: 10_000,
            use_interval: seconds(3600),
            user_sync: UserSyncPolicy::default(),
            reauthorize: ReauthorizePolicy::default(),
            send_dedup_window: seconds(55 * 60),
            breaker_open: seconds(300),
            app_cache_ttl: seconds(10),
            card_update_attempts: 6,
            card_grace: seconds(60),
            card_reconcile_window: seconds(24 * 3600),
            event_retention: seconds(48 * 3600),
            session_retention: seconds(90 * 24 * 3600),
            audit_retention: seconds(365 * 24 * 3600),
            audit: AuditTimings::default(),
            sweep_batch: 200,
        }
    }
}

/// Sizes and timings of the queue of audit records.
#[derive(Clone, Debug)]
pub struct AuditTimings {
    /// Most records that wait: 10,000, about 5 MB. More are counted, and in the log only.
    pub queue: usize,
    /// Records that one transaction writes: 500.
    pub batch: usize,
    /// Longest wait for a whole batch: 1 s. A crash loses what was queued since.
    pub interval: Duration,
    /// How long a stopping process writes what waits: 5 s.
    pub drain: Duration,
}

impl Default for AuditTimings {
    fn default() -> Self {
        let (interval, drain) = (Duration::from_secs(1), Duration::from_secs(5));
        Self { queue: 10_000, batch: 500, interval, drain }
    }
}

/// Timings of [`Policy::event_relay_url`].
#[derive(Clone, Debug)]
pub struct WebhookTimings {
    /// Deadline of one call: 3 s, as Lark's own.
    pub call: Duration,
    /// Pauses between the attempts of one event: 500 ms to 8 s.
    pub backoff: Backoff,
    /// How long an event is tried: 30 s. It is dropped and counted then.
    pub window: Duration,
    /// How long a stopping process goes on with what waits: 5 s.
    pub drain: Duration,
}

impl Default for WebhookTimings {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(3),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(8), 0.2),
            window: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_claim_outlives_a_delivery_and_a_resumption() {
        let policy = Policy::default();
        assert!(policy.exchange_claim > policy.handler_deadline.max(policy.resume_deadline));
        assert!(policy.exchange_claim > policy.escrow_pause);
    }

    #[test]
    fn default_lease_counts_until_its_end_beside_clocks_that_differ() {
        let policy = Policy::default();
        assert!(policy.refresh_lease + larkauth_storage::MAX_CLOCK_LEAD < larkauth_storage::MAX_LEASE_END);
    }

    #[test]
    fn default_reserves_leave_time_for_the_exchange() {
        let policy = Policy::default();
        assert!(policy.escrow_reserve + policy.announce_reserve < policy.handler_deadline);
        assert!(2 * policy.escrow_attempt < policy.escrow_reserve);
        assert!(policy.commit_reserve + policy.announce_reserve < policy.resume_deadline);
        assert!(policy.announce_reserve < policy.announce_grace);
    }
}
