use std::{ops::Range, time::Duration};

use crate::refresh_schedule::RefreshSchedule;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// When tokens are refreshed ahead.
    pub schedule: RefreshSchedule,
    /// People who have consented.
    pub people: u32,
    /// The share of them whose token is used, 0 to 1. The others' tokens are idle.
    pub used: f64,
    /// How often a used token is read in a day, at random times.
    pub reads_per_day: f64,
    /// The time that is simulated.
    pub length: Duration,
    /// When Lark answers no call.
    pub outage: Option<Range<Duration>>,
    /// All people consented within this time just before the start. `None`: at any time.
    pub mass_login: Option<Duration>,
    /// Start of the random numbers.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Calls of the token endpoint.
    pub calls: u64,
    /// Calls of them that were made for people.
    pub calls_for_people: u64,
    /// Most calls in any 60 s.
    pub most_in_a_minute: usize,
    /// Most calls in any second.
    pub most_in_a_second: usize,
    /// Access tokens to be kept valid that were refreshed after their end, or not at all.
    pub late_access: u64,
    /// Logins whose refresh token ended before it was refreshed.
    pub lost_logins: u64,
    /// Longest wait of a person for the rate limit.
    pub longest_wait: Duration,
    /// Reads that were not served: no valid token was left, and Lark or the rate limit had no room within 5 s.
    pub unserved_reads: u64,
    /// Time from the end of the outage until no token was overdue. `None`: longer than the simulation.
    pub caught_up_after: Option<Duration>,
}
