use std::time::Duration;

use larkauth_models::{RefreshPolicy, Timestamp};

use super::{queue::Queue, scenario::Scenario};
use crate::refresh_schedule::{ACCESS_LIFE, LOGIN_LIFE, Life, RefreshSchedule, SPREAD};

/// Time of the start. Any will do.
const START: i64 = 1_800_000_000;
/// A time long enough ago that the token is idle.
const IDLE_FOR: Duration = Duration::from_secs(365 * 24 * 3600);

struct Person {
    issued_at: Timestamp,
    is_used: bool,
    is_due: bool,
    is_gone: bool,
    /// Counts refreshes. Entries of queues from before do not count.
    generation: u32,
}

/// A due token that is refreshed next.
pub(super) enum Due {
    /// Its refresh token is over.
    LoginOver(usize),
    /// It can be refreshed.
    Token { person: usize, is_late: bool },
}

/// The people, their tokens, and the order in which these are refreshed: that of `DueOrder`.
pub(super) struct People {
    schedule: RefreshSchedule,
    people: Vec<Person>,
    due_count: usize,
    scheduled: Queue,
    logins: Queue,
    access: Queue,
    rest: Queue,
    reads: Queue,
    read_pause: f64,
    random: u64,
}

impl People {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut people = Self {
            schedule: scenario.schedule,
            people: Vec::with_capacity(scenario.people as usize),
            due_count: 0,
            scheduled: Queue::default(),
            logins: Queue::default(),
            access: Queue::default(),
            rest: Queue::default(),
            reads: Queue::default(),
            read_pause: 86_400.0 / scenario.reads_per_day,
            random: scenario.seed,
        };
        let used = (f64::from(scenario.people) * scenario.used).round() as usize;
        for index in 0..scenario.people as usize {
            let is_used = index < used;
            let (spread, jitter) = (people.fraction(), people.fraction());
            // The time since the last refresh, as it is after a long time.
            let age = match scenario.mass_login {
                Some(within) => within.mul_f64(spread),
                None => people.longest_age(is_used, jitter).mul_f64(spread),
            };
            let person = Person {
                issued_at: at(Duration::ZERO) - age,
                is_used,
                is_due: false,
                is_gone: false,
                generation: 0,
            };
            people.people.push(person);
            people.schedule_next(index, Duration::ZERO, jitter);
            if is_used && scenario.reads_per_day > 0.0 {
                people.schedule_read(index, Duration::ZERO);
            }
        }
        people
    }

    /// Adds a person in use whose pair is this old.
    #[cfg(test)]
    pub(super) fn add(&mut self, age: Duration) {
        let issued_at = at(Duration::ZERO) - age;
        let person = Person { issued_at, is_used: true, is_due: false, is_gone: false, generation: 0 };
        self.people.push(person);
        self.schedule_next(self.people.len() - 1, Duration::ZERO, 0.0);
    }

    /// Returns the age at which a pair of a person is refreshed.
    fn longest_age(&self, is_used: bool, jitter: f64) -> Duration {
        let share = self.schedule.threshold - SPREAD * jitter;
        if self.keeps_access(is_used) {
            ACCESS_LIFE.mul_f64(share)
        } else if self.schedule.policy == RefreshPolicy::OnDemand && is_used {
            // By the first read after nine tenths of its life.
            ACCESS_LIFE.mul_f64(0.9) + Duration::from_secs_f64(self.read_pause.min(1e9))
        } else {
            LOGIN_LIFE.mul_f64(share)
        }
    }

    fn keeps_access(&self, is_used: bool) -> bool {
        match self.schedule.policy {
            RefreshPolicy::Eager => true,
            RefreshPolicy::Adaptive => is_used,
            RefreshPolicy::OnDemand => false,
        }
    }

    /// Returns the next random number, 0 to 1: `SplitMix64`.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn schedule_next(&mut self, index: usize, now: Duration, jitter: f64) {
        let person = &self.people[index];
        let used_at = if person.is_used { at(now) } else { at(now) - IDLE_FOR };
        let life = Life {
            issued_at: person.issued_at,
            access_expires_at: person.issued_at + ACCESS_LIFE,
            refresh_expires_at: Some(person.issued_at + LOGIN_LIFE),
            last_used_at: used_at,
        };
        if let Some(next) = self.schedule.next(&life, at(now), jitter) {
            self.scheduled.push(next, index, person.generation);
        }
    }

    fn schedule_read(&mut self, index: usize, now: Duration) {
        // The pauses of independent reads are distributed exponentially.
        let pause = -self.read_pause * (1.0 - self.fraction()).ln();
        self.reads.push(at(now + Duration::from_secs_f64(pause)), index, 0);
    }

    /// Takes the next read that happens by now, with its time, and schedules the one after it.
    pub(super) fn next_read(&mut self, now: Duration) -> Option<(Duration, usize)> {
        let (time, index) = self.reads.first(|_, _| true).filter(|(time, _)| *time <= at(now))?;
        self.reads.pop();
        let time = (time - at(Duration::ZERO)).to_std().unwrap_or_default();
        self.schedule_read(index, time);
        Some((time, index)).filter(|(_, index)| !self.people[*index].is_gone)
    }

    /// Returns whether a read refreshes the token first: less than a tenth of its life is left.
    pub(super) fn wants_refresh(&self, index: usize, now: Duration) -> bool {
        at(now) > self.people[index].issued_at + ACCESS_LIFE.mul_f64(0.9)
    }

    /// Returns whether the access token is valid.
    pub(super) fn access_left(&self, index: usize, now: Duration) -> bool {
        at(now) < self.people[index].issued_at + ACCESS_LIFE
    }

    /// Finds the tokens that have become due.
    pub(super) fn collect_due(&mut self, now: Duration) {
        let people = &mut self.people;
        while let Some((due_at, index)) =
            self.scheduled.first(|index, generation| people[index].generation == generation)
        {
            if due_at > at(now) {
                break;
            }
            self.scheduled.pop();
            let person = &mut people[index];
            person.is_due = true;
            self.due_count += 1;
            self.logins.push(person.issued_at + LOGIN_LIFE, index, person.generation);
            self.access.push(person.issued_at + ACCESS_LIFE, index, person.generation);
            self.rest.push(due_at, index, person.generation);
        }
    }

    pub(super) const fn due_count(&self) -> usize {
        self.due_count
    }

    /// Takes the due token that is refreshed first. It stays due until it is refreshed or removed.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Due> {
        let order = self.schedule.order(at(now));
        let people = &self.people;
        let counts =
            |index: usize, generation| people[index].is_due && people[index].generation == generation;
        let ends = |index: usize, life| people[index].issued_at + life > order.now;
        let login =
            self.logins.first(|index, generation| counts(index, generation) && ends(index, LOGIN_LIFE));
        let access =
            self.access.first(|index, generation| counts(index, generation) && ends(index, ACCESS_LIFE));
        let index = match (login, access) {
            (Some((end, index)), _) if end <= order.logins_before => index,
            (_, Some((end, index))) if end <= order.access_before => index,
            _ => self.rest.first(counts)?.1,
        };
        let person = &people[index];
        if person.issued_at + LOGIN_LIFE <= order.now {
            return Some(Due::LoginOver(index));
        }
        let is_over = person.issued_at + ACCESS_LIFE <= order.now;
        Some(Due::Token { person: index, is_late: is_over && self.keeps_access(person.is_used) })
    }

    /// Gives a person a new pair.
    pub(super) fn refreshed(&mut self, index: usize, now: Duration) {
        self.settle(index);
        self.people[index].issued_at = at(now);
        let jitter = self.fraction();
        self.schedule_next(index, now, jitter);
    }

    /// Ends the login of a person.
    pub(super) fn remove(&mut self, index: usize) {
        self.settle(index);
        self.people[index].is_gone = true;
    }

    fn settle(&mut self, index: usize) {
        let person = &mut self.people[index];
        self.due_count -= usize::from(person.is_due);
        person.is_due = false;
        person.generation += 1;
    }

    /// Returns how many due access tokens and how many logins are over at the end.
    pub(super) fn left_behind(&self, end: Duration) -> (u64, u64) {
        let count = |is_over: &dyn Fn(&Person) -> bool| {
            self.people.iter().filter(|person| person.is_due && is_over(person)).count() as u64
        };
        let late =
            |person: &Person| self.keeps_access(person.is_used) && person.issued_at + ACCESS_LIFE <= at(end);
        (count(&late), count(&|person| person.issued_at + LOGIN_LIFE <= at(end)))
    }
}

/// Returns a time of the simulation as the schedule needs it.
fn at(time: Duration) -> Timestamp {
    Timestamp::from_timestamp(START, 0).unwrap_or_default() + time
}
