use std::time::Duration;

use larkauth_models::{CallRate, RefreshPolicy};

use super::{
    budget::Budget,
    people::{Due, People},
    scenario::{Outcome, Scenario},
};
use crate::refresh_schedule::{ACCESS_LIFE, LOGIN_LIFE, RefreshSchedule, SPREAD};

/// Time between two reservations of the background, as in production.
const STEP: Duration = Duration::from_millis(240);
/// Longest wait of a person for the rate limit.
const PERSON_WAIT: Duration = Duration::from_secs(5);

impl Scenario {
    /// Runs the simulation.
    #[must_use]
    pub fn run(&self) -> Outcome {
        let mut people = People::new(self);
        let mut budget = Budget::new(CallRate::LARK);
        let mut outcome = Outcome::default();
        let mut now = Duration::ZERO;
        while now < self.length {
            let is_down = self.outage.as_ref().is_some_and(|outage| outage.contains(&now));
            while let Some((at, person)) = people.next_read(now) {
                self.read(&mut people, &mut budget, &mut outcome, person, at, is_down);
            }
            people.collect_due(now);
            if !is_down {
                for at in budget.reserve(now, people.due_count()) {
                    let Some(due) = people.take_due(now) else { break };
                    match due {
                        Due::LoginOver(person) => {
                            outcome.lost_logins += 1;
                            people.remove(person);
                        }
                        Due::Token { person, is_late } => {
                            outcome.late_access += u64::from(is_late);
                            people.refreshed(person, at);
                        }
                    }
                }
                let over = self.outage.as_ref().filter(|outage| outage.end <= now);
                if let Some(outage) = over
                    && outcome.caught_up_after.is_none()
                    && people.due_count() == 0
                {
                    outcome.caught_up_after = Some(now - outage.end);
                }
            }
            now += STEP;
        }
        let (late, lost) = people.left_behind(self.length);
        outcome.late_access += late;
        outcome.lost_logins += lost;
        outcome.calls = budget.calls();
        outcome.most_in_a_minute = budget.most_within(Duration::from_secs(60));
        outcome.most_in_a_second = budget.most_within(Duration::from_secs(1));
        outcome
    }

    /// A service reads the token of a person: it is refreshed first if little of its life is left.
    fn read(
        &self,
        people: &mut People,
        budget: &mut Budget,
        outcome: &mut Outcome,
        person: usize,
        at: Duration,
        is_down: bool,
    ) {
        if !people.wants_refresh(person, at) {
            return;
        }
        let is_served = people.access_left(person, at);
        let wait = if is_down { None } else { budget.acquire(at, PERSON_WAIT) };
        match wait {
            Some(wait) => {
                outcome.calls_for_people += 1;
                outcome.longest_wait = outcome.longest_wait.max(wait);
                people.refreshed(person, at + wait);
            }
            None => outcome.unserved_reads += u64::from(!is_served),
        }
    }
}

/// Returns how many people the rate carries when nothing goes wrong: as many as are refreshed once in the mean life of what
/// the policy keeps. Reads under [`RefreshPolicy::OnDemand`] are counted as one refresh per life of an access token, at
/// most.
#[must_use]
pub fn carried(schedule: &RefreshSchedule, used: f64, reads_per_day: f64) -> f64 {
    let share = schedule.threshold - SPREAD / 2.0;
    let per_minute = |life: Duration, share: f64| 60.0 / (life.as_secs_f64() * share);
    let fresh = per_minute(ACCESS_LIFE, share);
    let alive = per_minute(LOGIN_LIFE, share);
    // A read within the last tenth of the life, or the first one after it, refreshes.
    let pause = 86_400.0 / reads_per_day.max(f64::MIN_POSITIVE);
    let on_read = 60.0 / (ACCESS_LIFE.as_secs_f64() * 0.9 + pause);
    let calls = match schedule.policy {
        RefreshPolicy::Eager => fresh,
        RefreshPolicy::Adaptive => used * fresh + (1.0 - used) * alive,
        RefreshPolicy::OnDemand => used * on_read,
    };
    CallRate::LARK.calls_per_minute() / calls.max(f64::MIN_POSITIVE)
}
