//! What the running gateway counted: events of other programs, and clicks on cards of another larkauth.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use larkauth_config::Settings;
use larkauth_net::Network;
use larkauth_runtime::Broker;

use super::{
    edge::reached_at,
    finding::{Finding, page},
};

/// Deadline of the gateway's answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest metrics page that is read, in bytes.
const MAX_PAGE: usize = 4 << 20;

/// Says where events go that are not larkauth's.
pub(super) fn relay(settings: &Settings) -> Finding {
    let check = "events that are not larkauth's";
    let exchange = format!("{}.events", settings.broker.prefix);
    match (&settings.event_relay_url, Broker::of(settings)) {
        (Some(url), Ok(Broker::RabbitMq(_))) => {
            Finding::ok(check, format!("go to {url}, and to the exchange {exchange} as lark.event.#"))
        }
        (Some(url), _) => Finding::ok(check, format!("go to {url}")),
        (None, Ok(Broker::RabbitMq(_))) => {
            Finding::ok(check, format!("go to the exchange {exchange} as lark.event.# and lark.card.action"))
        }
        (None, _) => {
            Finding::ok(check, "are acknowledged and dropped; larkauth should have an application of its own")
        }
    }
}

/// Checks what the gateway behind `HTTP_ADDR` counted since its start. Nothing when none is running there.
pub(super) async fn counted(addr: SocketAddr) -> Vec<Finding> {
    match metrics(addr).await {
        Some(page) => findings(&page),
        None => Vec::new(),
    }
}

async fn metrics(addr: SocketAddr) -> Option<String> {
    let http = Network::default().client_builder().timeout(TIMEOUT).build().ok()?;
    let mut response = http.get(format!("{}metrics", reached_at(addr))).send().await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let mut page = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        page.extend_from_slice(&chunk);
        if page.len() > MAX_PAGE {
            return None;
        }
    }
    String::from_utf8(page).ok()
}

fn findings(page: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unknown = by_app(page, "callback_answer_seconds_count", &[("outcome", "unknown_session")]);
    for (app_id, count) in unknown {
        let detail = format!(
            "{count} clicks on larkauth cards whose session is not in this database: another program is connected as this \
             application"
        );
        findings.push(Finding::doubtful(format!("{app_id} clicks"), detail).cure(
            "stop the other larkauth, or give each an application of its own; after a change of the database, old cards do this \
             until they expire",
            page::RELAY,
        ));
    }
    let unheard = by_app(page, "callback_answer_seconds_count", &[("outcome", "foreign")]);
    for (app_id, count) in unheard {
        let detail = format!(
            "{count} events that are not larkauth's came to this connection, and no program receives them"
        );
        findings.push(Finding::doubtful(format!("{app_id} events"), detail).cure(
            "give larkauth an application of its own, subscribe it to \"Callback configuration\" only, or relay them with \
             EVENT_RELAY_URL or a queue on RabbitMQ",
            page::RELAY,
        ));
    }
    let dropped = by_app(page, "event_relay_total", &[("destination", "webhook"), ("outcome", "dropped")]);
    for (app_id, count) in dropped {
        let detail = format!("{count} events were dropped: the program at EVENT_RELAY_URL did not take them");
        findings.push(
            Finding::doubtful(format!("{app_id} relay"), detail).cure(
                "look at the log of that program, and for auth.relay.dropped in larkauth's",
                page::RELAY,
            ),
        );
    }
    findings
}

/// Adds up the samples of one metric with these labels, by application. Leaves out sums of zero.
fn by_app(page: &str, name: &str, labels: &[(&str, &str)]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    let prefix = format!("lark_service_{name}{{");
    for line in page.lines() {
        let Some((found, value)) = line.strip_prefix(&prefix).and_then(|rest| rest.rsplit_once("} ")) else {
            continue;
        };
        let label = |name: &str| {
            found
                .split(',')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
                .map(|(_, v)| v.trim_matches('"'))
        };
        let matches = labels.iter().all(|(name, value)| label(name) == Some(value));
        if let (true, Some(app_id), Ok(count)) = (matches, label("app_id"), value.parse::<u64>())
            && count > 0
        {
            *sums.entry(app_id.to_owned()).or_insert(0) += count;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP lark_service_callback_answer_seconds Seconds
lark_service_callback_answer_seconds_bucket{app_id="cli_1",outcome="foreign",le="1"} 7
lark_service_callback_answer_seconds_count{app_id="cli_1",outcome="foreign"} 7
lark_service_callback_answer_seconds_count{app_id="cli_1",outcome="in_time"} 9
lark_service_callback_answer_seconds_count{app_id="cli_2",outcome="unknown_session"} 2
lark_service_event_relay_total{app_id="cli_1",destination="webhook",outcome="dropped"} 0
lark_service_event_relay_total{app_id="cli_2",destination="webhook",outcome="dropped"} 3
"#;

    #[test]
    fn findings_name_the_application_and_the_cure() {
        let found = serde_json::to_value(findings(PAGE)).unwrap();
        let found: Vec<_> =
            found.as_array().unwrap().iter().map(|f| (f["check"].clone(), f["verdict"].clone())).collect();
        let expected =
            [("cli_2 clicks", "doubtful"), ("cli_1 events", "doubtful"), ("cli_2 relay", "doubtful")];
        assert_eq!(found, expected.map(|(check, verdict)| (check.into(), verdict.into())));
        assert!(findings("").is_empty());
    }
}
