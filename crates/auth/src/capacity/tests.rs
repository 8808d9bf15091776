use std::time::Duration;

use larkauth_models::{CallRate, RefreshPolicy};
use proptest::prelude::*;

use super::{
    people::{Due, People},
    scenario::{Outcome, Scenario},
    simulation::carried,
};
use crate::refresh_schedule::{ACCESS_LIFE, LOGIN_LIFE, RefreshSchedule};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn schedule(policy: RefreshPolicy) -> RefreshSchedule {
    RefreshSchedule { policy, threshold: 0.8, used_for: Duration::from_secs(86_400) }
}

fn scenario(policy: RefreshPolicy, people: u32) -> Scenario {
    Scenario {
        schedule: schedule(policy),
        people,
        used: 0.1,
        reads_per_day: 24.0,
        length: HOUR,
        outage: None,
        mass_login: None,
        seed: 7,
    }
}

fn assert_limits_hold(outcome: &Outcome) {
    assert!(outcome.most_in_a_minute <= 1000, "{outcome:?}");
    assert!(outcome.most_in_a_second <= 50, "{outcome:?}");
}

/// People consent within a minute and their tokens are due together.
fn mass_login(people: u32) {
    let (first_due, first_end, length) = (5400.0, 7140.0, Duration::from_secs(10_000));
    let (used, reads_per_day, mass_login) = (1.0, 1.0, Some(MINUTE));
    let all = Scenario { used, reads_per_day, length, mass_login, ..scenario(RefreshPolicy::Eager, people) };
    let outcome = all.run();
    assert_limits_hold(&outcome);
    assert_eq!(outcome.lost_logins, 0);
    assert!(outcome.longest_wait < Duration::from_millis(250), "people are not delayed: {outcome:?}");
    // What the limits can save between the first due time and the first end.
    let savable = ((first_end - first_due) / 60.0 * CallRate::LARK.calls_per_minute()).min(people.into());
    let saved = u64::from(people) - outcome.late_access;
    assert!(saved as f64 >= 0.99 * savable, "{saved} of {savable}: {outcome:?}");
}

#[test]
fn ten_thousand_tokens_due_in_a_minute_are_all_saved() {
    mass_login(10_000);
}

#[test]
#[ignore = "takes a while: scripts/test --full"]
fn hundred_thousand_tokens_due_in_a_minute_exceed_no_limit_and_delay_no_person() {
    mass_login(100_000);
}

#[test]
fn people_within_the_capacity_lose_nothing() {
    for (policy, people) in [(RefreshPolicy::Eager, 80_000), (RefreshPolicy::Adaptive, 20_000)] {
        let outcome = scenario(policy, people).run();
        assert!(f64::from(people) < carried(&schedule(policy), 0.1, 24.0));
        assert_limits_hold(&outcome);
        assert_eq!((outcome.late_access, outcome.lost_logins), (0, 0), "{policy}: {outcome:?}");
        assert_eq!(outcome.unserved_reads, 0, "{policy}");
    }
}

#[test]
#[ignore = "takes a while: scripts/test --full"]
fn carried_is_the_edge_of_the_capacity() {
    for policy in [RefreshPolicy::Eager, RefreshPolicy::Adaptive] {
        let edge = carried(&schedule(policy), 0.1, 0.01);
        let run = |share: f64| {
            let people = (edge * share) as u32;
            Scenario { reads_per_day: 0.01, length: 4 * HOUR, ..scenario(policy, people) }.run()
        };
        let (below, above) = (run(0.97), run(1.5));
        assert_limits_hold(&below);
        assert_limits_hold(&above);
        assert_eq!(below.late_access, 0, "{policy}: {below:?}");
        assert!(above.late_access > 1000, "{policy}: {above:?}");
        // The whole limit is used, to 98 %.
        assert!(above.calls as f64 >= 0.98 * 1000.0 * 4.0 * 60.0, "{policy}: {above:?}");
    }
}

#[test]
fn outage_of_an_hour_costs_no_login() {
    let outage = Some(Duration::from_secs(600)..Duration::from_secs(4200));
    let outcome = Scenario { outage, length: 2 * HOUR, ..scenario(RefreshPolicy::Eager, 10_000) }.run();
    assert_limits_hold(&outcome);
    assert_eq!(outcome.lost_logins, 0);
    assert!(outcome.late_access > 0, "access tokens end during the outage");
    assert!(outcome.caught_up_after.unwrap() < 15 * MINUTE, "{outcome:?}");
}

/// Returns how many of the tokens with these ends can be refreshed in time, one in each step.
fn savable(ends: &mut [u64], step: u64) -> usize {
    ends.sort_unstable();
    ends.iter().fold(0, |saved, end| if saved as u64 * step < *end { saved + 1 } else { saved })
}

/// Refreshes one due token in each step. Returns the numbers of access tokens that were late and of lost logins.
fn refresh_all(ages: &[Duration], step: u64) -> (usize, usize) {
    let empty = Scenario { people: 0, ..scenario(RefreshPolicy::Eager, 0) };
    let mut people = People::new(&empty);
    for age in ages {
        people.add(*age);
    }
    let (mut now, mut late, mut lost) = (Duration::ZERO, 0, 0);
    for _ in 0..ages.len() {
        people.collect_due(now);
        match people.take_due(now).unwrap() {
            Due::LoginOver(person) => {
                lost += 1;
                people.remove(person);
            }
            Due::Token { person, is_late } => {
                late += usize::from(is_late);
                people.remove(person);
            }
        }
        now += Duration::from_secs(step);
    }
    (late, lost)
}

proptest! {
    /// All tokens are due at the start, and there are more than can be saved.
    #[test]
    fn nothing_ends_that_the_limits_could_have_saved(
        access in prop::collection::vec(1_u64..1400, 0..80),
        logins in prop::collection::vec(1_u64..30_000, 0..80),
        step in 10_u64..400,
    ) {
        let access_ages = access.iter().map(|end| ACCESS_LIFE - Duration::from_secs(*end));
        let login_ages = logins.iter().map(|end| LOGIN_LIFE - Duration::from_secs(*end));
        // Alone, each kind loses as little as possible.
        let (late, lost) = refresh_all(&access_ages.clone().collect::<Vec<_>>(), step);
        prop_assert_eq!((access.len() - late, lost), (savable(&mut access.clone(), step), 0));
        let (_, lost) = refresh_all(&login_ages.clone().collect::<Vec<_>>(), step);
        prop_assert_eq!(logins.len() - lost, savable(&mut logins.clone(), step));
        // Together, no access token costs a login.
        let together: Vec<_> = access_ages.chain(login_ages).collect();
        let (_, lost_together) = refresh_all(&together, step);
        prop_assert_eq!(lost_together, lost);
    }
}
