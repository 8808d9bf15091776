//! `/metrics` of a running process: the labels that it has, and that people add no series.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use larkauth_models::SessionState;
use larkauth_tests::{TIMEOUT, eventually};

use crate::standalone::{APP_ID, Home};

/// Every label of a metric of larkauth. Their values come from the configuration and from the code.
const LABELS: &[&str] = &[
    "api",
    "app_id",
    "auth_method",
    "class",
    "destination",
    "event_type",
    "lane",
    "le",
    "method",
    "outcome",
    "queue",
    "reason",
    "route",
    "state",
    "status",
    "version",
    "what",
    "within",
];
/// Most series of a process with one application. A histogram with three outcomes alone has 42.
const MOST: usize = 1500;

/// Labels by series, of the metrics of larkauth.
type Page = BTreeMap<String, BTreeMap<String, String>>;

fn parse(text: &str) -> anyhow::Result<Page> {
    let mut page = Page::new();
    for line in text.lines().filter(|line| line.starts_with("lark_service_")) {
        let (series, _) = line.rsplit_once(' ').context("a line without a value")?;
        let labels = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
        let labels = labels.split("\",").filter(|label| !label.is_empty()).map(|label| {
            let (name, value) = label.split_once("=\"").context("a label without a value")?;
            anyhow::Ok((name.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        page.insert(series.to_owned(), labels.collect::<Result<_, _>>()?);
    }
    Ok(page)
}

impl Home {
    /// Sends people through an authorization, a read and a refresh, and one who declines.
    async fn serve(&self, people: std::ops::Range<usize>) -> anyhow::Result<()> {
        for person in people.map(|n| self.person(n)) {
            let session = self.api.invite(APP_ID, &person).await?;
            let ended = self.authorize(&session, &person).await?;
            ensure!(ended.state == SessionState::Completed, "{ended:?}");
            let path = format!("/v1/apps/{APP_ID}/users/{person}/token");
            for (method, path) in
                [(reqwest::Method::GET, path.clone()), (reqwest::Method::POST, format!("{path}/refresh"))]
            {
                let body = (method == reqwest::Method::POST).then(|| serde_json::json!({}));
                let answer = self.api.send(method, &path, body).await?;
                ensure!(answer.status == 200, "{answer:?}");
            }
            // No route is this path, and no person has this id.
            self.api
                .send(reqwest::Method::GET, &format!("/v1/{person}/{}", session.session_id), None)
                .await?;
            self.api.token(APP_ID, &format!("{person}x")).await?;
        }
        Ok(())
    }

    async fn metrics(&self) -> anyhow::Result<Page> {
        parse(&self.api.raw(|http, base| http.get(format!("{base}/metrics"))).await?.text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_many_people_have_no_series_of_a_person() -> anyhow::Result<()> {
    const FEW: usize = 5;
    const MANY: usize = 25;
    let home = Home::new(25).await?;
    let service = home.standalone().await?;
    home.serve(0..FEW).await?;
    // Gauges are measured from time to time.
    let measured = async || {
        let page = home.metrics().await?;
        let is_measured = |name: &str| page.keys().any(|series| series.starts_with(name));
        let gauges =
            ["lark_service_bus_queue_messages", "lark_service_database_pool", "lark_service_token_suspended"];
        Ok(gauges.into_iter().all(is_measured).then_some(page))
    };
    let few = eventually(TIMEOUT, measured).await?;
    home.serve(FEW..MANY).await?;
    let many = home.metrics().await?;

    let allowed: BTreeSet<_> = LABELS.iter().copied().collect();
    let users = home.sim.users();
    for (series, labels) in &many {
        for (name, value) in labels {
            ensure!(allowed.contains(name.as_str()), "{name} is no known label: {series}");
            ensure!(value.len() <= 64, "{series}");
        }
        for user in &users {
            let open_id = home.sim.open_id(APP_ID, user);
            let person = [Some(&open_id), Some(&user.union_id), user.user_id.as_ref(), user.email.as_ref()];
            for id in person.into_iter().flatten().chain([&user.name, &user.en_name]) {
                ensure!(!series.contains(id.as_str()), "{series} names a person");
            }
        }
        let is_uuid = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
        ensure!(!labels.values().any(|value| value.split('/').any(is_uuid)), "{series} names a session");
    }
    ensure!((100..=MOST).contains(&many.len()), "{} series", many.len());
    // Five times as many people may meet a new outcome of a call, and nothing else.
    let new: Vec<_> =
        many.keys().filter(|series| !few.contains_key(*series) && !series.contains("_bucket")).collect();
    ensure!(new.len() <= 12, "people add series: {new:?}");

    // Prometheus gets the same series with the trace of a value beside some of them.
    let open = home.api.raw(|http, base| {
        http.get(format!("{base}/metrics"))
            .header("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    });
    let open = open.await?;
    ensure!(
        open.content_type.starts_with("application/openmetrics-text; version=1.0.0"),
        "{}",
        open.content_type
    );
    ensure!(open.text.ends_with("# EOF\n"));
    for histogram in ["callback_answer_seconds", "lark_api_seconds", "bus_handle_seconds"] {
        let start = format!("lark_service_{histogram}_bucket");
        let has_trace = |line: &str| line.starts_with(&start) && line.contains("# {trace_id=\"");
        ensure!(open.text.lines().any(has_trace), "{histogram} has no exemplar");
    }
    service.terminate().await?;
    Ok(())
}
