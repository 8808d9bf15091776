use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{DeviceGrant, SessionId, Timestamp};
use uuid::Uuid;

use crate::Result;

/// Polls of the device flow (RFC 8628). A poll holds the claim of the session's exchange, and counts as a sent code until
/// it is postponed, because its answer may hold the token pair. The clock of the database says which polls are due.
#[async_trait]
pub trait DevicePolls {
    /// Stores the device authorization of a pending session in place of the one that expires at `replaces`; `None`: the
    /// session has none. The first poll is due after the interval. False, and nothing is stored, when the session has
    /// another one, or has ended. The card of a session whose authorization is replaced is stale,
    /// and so is one that the session had before.
    async fn record_device_grant(
        &self,
        id: SessionId,
        replaces: Option<Timestamp>,
        grant: &DeviceGrant,
        interval: Duration,
    ) -> Result<bool>;
    /// Records that the person opened the page. Polls are due after each interval from now on.
    async fn record_device_opened(&self, id: SessionId, now: Timestamp) -> Result<bool>;
    /// Records that the card shows the codes that expire at `expires_at`, unless there are later ones.
    async fn record_device_card(&self, id: SessionId, expires_at: Timestamp) -> Result<bool>;
    /// Claims the polls that are due, the longest due first, each with another of the `claims` for `life`. A poll is due
    /// later by `idle` until the person has opened the page, unless the codes expire at `expiring_before` or before. A
    /// session whose application is frozen since after `frozen_before`, whose claim is held, or whose pair is in escrow is
    /// left out. A claim that expired without an answer is taken over once the wait for its escrow is over. Concurrent
    /// calls claim different sessions.
    async fn claim_device_polls(
        &self,
        expiring_before: Timestamp,
        frozen_before: Timestamp,
        idle: Duration,
        claims: &[Uuid],
        life: Duration,
    ) -> Result<Vec<DevicePoll>>;
    /// Ends the claim of a poll whose answer held no pair, and sets the next one. False when another caller has the claim,
    /// or the session has ended.
    async fn postpone_device_poll(&self, id: SessionId, claim: Uuid, next: NextPoll) -> Result<bool>;
}

/// A claimed poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePoll {
    /// The session.
    pub session_id: SessionId,
    /// The claim, of this session only.
    pub claim: Uuid,
    /// Shortest time between two polls.
    pub interval: Duration,
    /// The person opened the page from the card.
    pub is_opened: bool,
    /// Polls without an answer in a row.
    pub failures: u32,
    /// The answer to an earlier poll was lost. It may have held the pair.
    pub is_answer_lost: bool,
    /// The application is switched on. Of one that is switched off no code is sent.
    pub is_enabled: bool,
}

/// The next poll of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextPoll {
    /// Time until it.
    pub after: Duration,
    /// Shortest time between two polls from now on.
    pub interval: Duration,
    /// Polls without an answer in a row.
    pub failures: u32,
    /// The answer to a poll was lost, and no later one says that it held no pair.
    pub is_answer_lost: bool,
}
