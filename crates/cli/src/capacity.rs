use std::{fmt::Write as _, process::ExitCode, time::Duration};

use larkauth_auth::{
    RefreshSchedule,
    capacity::{Outcome, Scenario, carried},
};
use larkauth_models::RefreshPolicy;
use serde_json::json;

use crate::{
    exit::CommandError,
    output::{self, Format},
};

/// Simulate how many people the rate limit of one application can carry
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  larkauth capacity --people 50000 --used 0.3")]
pub(crate) struct Arguments {
    /// Number of people who have consented; may be given more than once
    #[arg(long, value_name = "NUMBER", default_values_t = [1_000, 10_000, 100_000, 1_000_000], value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    people: Vec<u32>,
    /// Share of them whose token is used every day
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    used: f64,
    /// Reads of a used token in a day, at random times
    #[arg(long, value_name = "NUMBER", default_value_t = 24.0)]
    reads: f64,
    /// AUTH_TOKEN_REFRESH_THRESHOLD: the share of a token's life after which it is refreshed
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    threshold: f64,
    /// Length of Lark's outage, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    outage: u64,
}

/// Longest outage in minutes: the life of a refresh token.
const LONGEST_OUTAGE: u64 = 7 * 24 * 60;
/// Simulated time without an outage, and before and after one.
const HOURS: u64 = 4;
const POLICIES: [RefreshPolicy; 3] = [RefreshPolicy::Eager, RefreshPolicy::Adaptive, RefreshPolicy::OnDemand];

struct Row {
    policy: RefreshPolicy,
    people: u32,
    steady: Outcome,
    outage: Outcome,
}

pub(crate) fn run(arguments: &Arguments, format: Format) -> anyhow::Result<ExitCode> {
    let is_share = |value: f64| (0.0..=1.0).contains(&value);
    let are_valid = is_share(arguments.used)
        && (0.5..=0.95).contains(&arguments.threshold)
        && (0.01..=1e5).contains(&arguments.reads)
        && arguments.outage <= LONGEST_OUTAGE;
    if !are_valid {
        let message = "--used is a share from 0 to 1, --threshold one from 0.5 to 0.95, --reads a number from 0.01 to 100000, \
                       --outage at most 10080 (a week)";
        return Err(CommandError::Usage(message.to_owned()).into());
    }
    let mut rows = Vec::new();
    for policy in POLICIES {
        for people in &arguments.people {
            rows.push(row(arguments, policy, *people));
        }
    }
    match format {
        Format::Json => output::json(&as_json(arguments, &rows))?,
        Format::Text => output::text_out(&as_markdown(arguments, &rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn schedule(arguments: &Arguments, policy: RefreshPolicy) -> RefreshSchedule {
    RefreshSchedule { policy, threshold: arguments.threshold, used_for: Duration::from_secs(86_400) }
}

fn row(arguments: &Arguments, policy: RefreshPolicy, people: u32) -> Row {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let steady = Scenario {
        schedule: schedule(arguments, policy),
        people,
        used: arguments.used,
        reads_per_day: arguments.reads,
        length: hours(HOURS),
        outage: None,
        mass_login: None,
        seed: 1,
    };
    let (begin, end) = (hours(1), hours(1) + Duration::from_secs(60 * arguments.outage));
    let outage = Scenario { outage: Some(begin..end), length: end + hours(HOURS), ..steady };
    Row { policy, people, steady: steady.run(), outage: outage.run() }
}

fn per_minute(outcome: &Outcome) -> f64 {
    outcome.calls as f64 / (60 * HOURS) as f64
}

fn as_json(arguments: &Arguments, rows: &[Row]) -> serde_json::Value {
    let outcome = |outcome: &Outcome| {
        json!({
            "calls": outcome.calls,
            "calls_for_people": outcome.calls_for_people,
            "most_in_a_minute": outcome.most_in_a_minute,
            "most_in_a_second": outcome.most_in_a_second,
            "late_access_tokens": outcome.late_access,
            "lost_logins": outcome.lost_logins,
            "longest_wait_ms": outcome.longest_wait.as_millis(),
            "unserved_reads": outcome.unserved_reads,
            "caught_up_after_seconds": outcome.caught_up_after.map(|after| after.as_secs()),
        })
    };
    let carried = |policy| carried(&schedule(arguments, policy), arguments.used, arguments.reads).round();
    json!({
        "carried": POLICIES.map(|policy| json!({ "policy": policy.as_str(), "people": carried(policy) })),
        "simulated": rows.iter().map(|row| json!({
            "policy": row.policy.as_str(),
            "people": row.people,
            "steady": outcome(&row.steady),
            "outage": outcome(&row.outage),
        })).collect::<Vec<_>>(),
    })
}

fn as_markdown(arguments: &Arguments, rows: &[Row]) -> String {
    let mut text = "| policy | people carried by one application |\n| --- | ---: |\n".to_owned();
    for policy in POLICIES {
        let people = carried(&schedule(arguments, policy), arguments.used, arguments.reads);
        // Two significant digits: the formula knows no more.
        let unit = 10_f64.powf(people.log10().floor() - 1.0);
        let rounded = (people / unit).floor() * unit;
        let shown = if rounded.is_finite() { grouped(rounded) } else { "no limit".to_owned() };
        let _ = writeln!(text, "| `{policy}` | {shown} |");
    }
    let _ = writeln!(
        text,
        "\n| policy | people | calls a minute | most in a minute | access tokens late | logins lost | reads unserved | longest wait |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for Row { policy, people, steady, .. } in rows {
        let _ = writeln!(
            text,
            "| `{policy}` | {} | {} | {} | {} | {} | {} | {} ms |",
            grouped((*people).into()),
            per_minute(steady).round(),
            steady.most_in_a_minute,
            grouped(steady.late_access as f64),
            steady.lost_logins,
            grouped(steady.unserved_reads as f64),
            steady.longest_wait.as_millis()
        );
    }
    let _ = writeln!(
        text,
        "\n| policy | people | caught up after | most in a minute | access tokens late | logins lost | reads unserved | longest wait |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for Row { policy, people, outage, .. } in rows {
        let caught_up = outage
            .caught_up_after
            .map_or_else(|| format!("more than {HOURS} h"), |after| format!("{} s", after.as_secs()));
        let _ = writeln!(
            text,
            "| `{policy}` | {} | {caught_up} | {} | {} | {} | {} | {} ms |",
            grouped((*people).into()),
            outage.most_in_a_minute,
            grouped(outage.late_access as f64),
            outage.lost_logins,
            grouped(outage.unserved_reads as f64),
            outage.longest_wait.as_millis()
        );
    }
    text
}

/// Returns a whole number with its digits in groups of three.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of the page are what the command prints. The larger ones take long in a debug build.
    #[test]
    fn small_rows_of_the_documentation_are_those_of_the_command() {
        let page = include_str!("../../../docs/capacity.md");
        let arguments =
            Arguments { people: vec![1_000, 10_000], used: 0.1, reads: 24.0, threshold: 0.8, outage: 60 };
        let rows: Vec<_> =
            [1_000, 10_000].map(|people| row(&arguments, RefreshPolicy::Adaptive, people)).into();
        for line in as_markdown(&arguments, &rows).lines() {
            assert!(page.contains(line), "docs/capacity.md lacks: {line}");
        }
    }

    #[test]
    fn grouped_number_has_commas() {
        assert_eq!([0.0, 999.0, 1000.0, 1_234_567.0].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
