//! What a caller may do with the claim on a session's exchange. Both databases lock the row, ask here, and write.

use std::time::Duration;

use crate::ExchangeClaim;

/// The claim of a pending session. The database compares its end with its own clock.
pub struct ClaimRow {
    /// The caller names no code, or the session's.
    pub is_current: bool,
    /// The claim is the caller's.
    pub is_mine: bool,
    /// Microseconds until the claim expires, negative after that; `None` without a claim.
    pub left: Option<i64>,
    /// The code was sent.
    pub is_sent: bool,
    /// An earlier caller found the claim expired without an escrow.
    pub is_unanswered: bool,
    /// There is a token pair in escrow.
    pub is_escrowed: bool,
}

/// What the store does with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimStep {
    /// Gives the claim to the caller, and reports this.
    Take(ExchangeClaim),
    /// Notes that there was no answer, gives the claim that much longer to its owner, and reports that it is held.
    AwaitEscrow(ExchangeClaim),
    /// Changes nothing, and reports this.
    Report(ExchangeClaim),
}

impl ClaimRow {
    /// Decides for a row; without a row the session has ended.
    #[must_use]
    pub fn decide(row: Option<&Self>, life: Duration) -> ClaimStep {
        let Some(row) = row else { return ClaimStep::Report(ExchangeClaim::NotPending) };
        let left = row.left.and_then(|left| u64::try_from(left).ok()).filter(|left| *left > 0);
        match (row.is_current, left.map(Duration::from_micros)) {
            (false, _) => ClaimStep::Report(ExchangeClaim::Superseded),
            (true, Some(left)) if !row.is_mine => ClaimStep::Report(ExchangeClaim::Held { left }),
            (true, _) if row.is_escrowed => ClaimStep::Take(ExchangeClaim::Escrowed),
            (true, _) if !row.is_sent => ClaimStep::Take(ExchangeClaim::Claimed),
            // The owner sent the code before and does not know the answer either.
            (true, Some(left)) => ClaimStep::Report(ExchangeClaim::Held { left }),
            (true, None) if row.is_unanswered => ClaimStep::Report(ExchangeClaim::Abandoned),
            (true, None) => ClaimStep::AwaitEscrow(ExchangeClaim::Held { left: life }),
        }
    }
}

/// Returns the life of a claim as the databases add it, in microseconds.
#[must_use]
pub fn micros(life: Duration) -> i64 {
    i64::try_from(life.as_micros()).unwrap_or(i64::MAX)
}

/// Returns how many rows are still wanted after some; `None` when there are enough.
#[must_use]
pub fn left(limit: u32, found: usize) -> Option<u32> {
    limit.checked_sub(u32::try_from(found).ok()?).filter(|left| *left > 0)
}
