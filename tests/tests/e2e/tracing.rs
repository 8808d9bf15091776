//! One trace from the caller through the gateway and the broker to the worker and Lark; and log lines that say
//! what they are about.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use larkauth_tests::{Api, Asked, BusTap, Collector, Kind, LarkTap, Options, RawMessage, World};
use serde_json::{Value, json};

const GATEWAY: &str = "larkauth-gateway";
const WORKER: &str = "larkauth-auth-worker";
const SEND_CARD: &str = "/open-apis/im/v1/messages";
const TOKEN: &str = "/open-apis/authen/v2/oauth/token";
const USER_INFO: &str = "/open-apis/authen/v1/user_info";

/// A world with a witness at every border.
struct Watched {
    world: World,
    collector: Collector,
    lark: LarkTap,
    bus: BusTap,
}

/// What is left when everything has stopped and flushed.
struct Evidence {
    /// Names of spans by trace and service.
    spans: BTreeMap<(String, String), Vec<String>>,
    /// Log lines by service.
    logs: BTreeMap<&'static str, Vec<Value>>,
    messages: Vec<RawMessage>,
    /// Path and trace of each call.
    calls: Vec<(String, String)>,
}

impl Watched {
    async fn start() -> anyhow::Result<Self> {
        let collector = Collector::start().await?;
        let otlp = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint().to_owned());
        let mut world =
            World::start(Options { start: Vec::new(), env: vec![otlp], ..Options::default() }).await?;
        let lark = LarkTap::start(world.sim.base_url()).await?;
        for kind in [Kind::Gateway, Kind::AuthWorker, Kind::TokenRefresher] {
            world.start_service(kind, &[("LARK_BASE_URL", lark.base_url())]).await?;
        }
        let bus = BusTap::start(&world.bus).await?;
        Ok(Self { world, collector, lark, bus })
    }

    async fn stop(mut self) -> anyhow::Result<Evidence> {
        self.world.quiet().await?;
        let mut logs = BTreeMap::new();
        for service in std::mem::take(&mut self.world.services) {
            let name = match service.kind {
                Kind::Gateway => GATEWAY,
                Kind::AuthWorker => WORKER,
                _ => "other",
            };
            let (_, output) = service.terminate().await?;
            logs.insert(name, output.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?);
        }
        let messages = self.bus.published().await?;
        let mut spans: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for span in self.collector.spans()? {
            spans.entry((span.trace_id, span.service)).or_default().push(span.name);
        }
        let calls =
            self.lark.calls().into_iter().filter_map(|call| Some((call.path, trace_of(&call.traceparent?))));
        let calls = calls.collect();
        self.world.finish().await?;
        Ok(Evidence { spans, logs, messages, calls })
    }
}

impl Evidence {
    /// The trace that the message of this kind travelled with.
    fn trace_of_message(&self, routing_key: &str) -> anyhow::Result<String> {
        self.trace_of_first(|message| message.routing_key == routing_key)
    }

    /// The trace that the click on this card travelled with.
    fn trace_of_click(&self, on: &Asked) -> anyhow::Result<String> {
        let session_id = on.session_id.to_string();
        let is_it = |m: &RawMessage| m.routing_key == "card.action.triggered" && m.body.contains(&session_id);
        self.trace_of_first(is_it)
    }

    fn trace_of_first(&self, wanted: impl Fn(&RawMessage) -> bool) -> anyhow::Result<String> {
        let message = self.messages.iter().find(|message| wanted(message)).context("no such message")?;
        Ok(trace_of(message.traceparent.as_deref().context("the message has no traceparent")?))
    }

    /// Both services took part in the trace, the worker with this span.
    fn spans_both(&self, trace: &str, worker_span: &str) -> anyhow::Result<()> {
        let of = |service: &str| self.spans.get(&(trace.to_owned(), service.to_owned()));
        ensure!(of(GATEWAY).is_some(), "the gateway has no span in {trace}: {:?}", self.spans);
        let worker = of(WORKER).with_context(|| format!("the worker has no span in {trace}"))?;
        ensure!(worker.iter().any(|name| name == worker_span), "{worker_span} is not among {worker:?}");
        Ok(())
    }

    fn called(&self, path: &str, trace: &str) -> anyhow::Result<()> {
        let hit = self.calls.iter().any(|(called, of)| called == path && of == trace);
        ensure!(hit, "Lark saw no {path} in {trace}: {:?}", self.calls);
        Ok(())
    }

    /// The first log line of this service in this trace that says so.
    fn line(&self, service: &str, trace: &str, message: &str) -> anyhow::Result<&Value> {
        let mut lines = self.logs[service].iter().filter(|line| line["trace_id"] == trace);
        lines
            .find(|line| line["message"].as_str().is_some_and(|text| text.contains(message)))
            .with_context(|| format!("{service} says no {message:?} in {trace}"))
    }
}

fn trace_of(traceparent: &str) -> String {
    traceparent.split('-').nth(1).unwrap_or_default().to_owned()
}

/// Asks the n-th person within this trace.
async fn ask(world: &World, n: usize, trace: &str, request_id: &str) -> anyhow::Result<Asked> {
    let (person, key) = (world.person(n), world.env(Kind::Gateway)["API_KEY"].clone());
    let body = json!({"app_id": world.app_id(), "open_id": person});
    let answer = world.api.raw(|http, base| {
        http.post(format!("{base}/v1/auth/sessions"))
            .bearer_auth(key)
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
            .header("x-request-id", request_id)
            .json(&body)
    });
    let answer = answer.await?;
    ensure!(answer.status == 201, "{answer:?}");
    let session_id = serde_json::from_value(answer.json["session_id"].clone())?;
    let message_id = world.card(&person, &answer.json["session_id"].to_string()).await?.message_id;
    Ok(Asked { session_id, person, message_id })
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_of_caller_spans_broker_and_lark() -> anyhow::Result<()> {
    let watched = Watched::start().await?;
    let world = &watched.world;
    let (asking, coming_back) = ("4bf92f3577b34da6a3ce929d0e0e4736", "a3ce929d0e0e47364bf92f3577b34da6");

    let asked = ask(world, 0, asking, "req-1").await?;
    let click = world.sim.click(&asked.message_id, "authorize", &asked.person).await?;
    assert!(click.card_changed, "{click:?}");
    let redirect = world.consent(&asked).await?;
    let page = world.api.raw(|http, _| {
        http.get(&redirect).header("traceparent", format!("00-{coming_back}-00f067aa0ba902b7-01"))
    });
    assert_eq!(page.await?.status, 200);
    world.shows(&asked, "green").await?;
    // A code inside a click: the whole exchange in the trace of the push.
    let on_card = world.ask(1).await?;
    let click = world.sim.click_with_code(&on_card.message_id, "authorize", &on_card.person).await?;
    assert!(click.card_changed, "{click:?}");
    let evidence = watched.stop().await?;

    assert_eq!(evidence.trace_of_message("invitation.requested")?, asking);
    evidence.spans_both(asking, "auth.invitations.handle")?;
    evidence.called(SEND_CARD, asking)?;

    assert_eq!(evidence.trace_of_message("oauth.code.received")?, coming_back);
    evidence.spans_both(coming_back, "auth.oauth-redirects.handle")?;
    evidence.called(TOKEN, coming_back)?;
    evidence.called(USER_INFO, coming_back)?;
    assert_eq!(evidence.trace_of_message("session.completed")?, coming_back);
    evidence.called(&format!("{SEND_CARD}/{}", asked.message_id), coming_back)?;

    let (first, second) = (evidence.trace_of_click(&asked)?, evidence.trace_of_click(&on_card)?);
    assert_ne!(first, second, "each click has a trace of its own");
    for trace in [&first, &second] {
        assert!(trace != asking && trace != coming_back, "a push belongs to no request");
        evidence.spans_both(trace, "auth.card-actions.handle")?;
    }
    evidence.called(TOKEN, &second)?;

    // Log lines of both services find each other, and say what they are about.
    let (session_id, app_id) = (asked.session_id.to_string(), "cli_0123456789abcdef");
    let line = evidence.line(GATEWAY, asking, "auth.session.created")?;
    assert_eq!((&line["session_id"], &line["app_id"]), (&json!(session_id), &json!(app_id)), "{line}");
    assert_eq!(line["request_id"], "req-1", "{line}");
    let line = evidence.line(WORKER, coming_back, "auth.session.ended")?;
    assert_eq!((&line["session_id"], &line["app_id"]), (&json!(session_id), &json!(app_id)), "{line}");
    assert_eq!(line["state"], "completed");
    Ok(())
}

/// From the click to the commit, and to the card that is updated after the answer: one trace, through three queues.
#[tokio::test(flavor = "multi_thread")]
async fn trace_of_click_spans_commit_and_card_update() -> anyhow::Result<()> {
    let watched = Watched::start().await?;
    let world = &watched.world;
    let asked = world.ask(0).await?;
    // Longer than the answer to a click waits for a worker.
    let slow = larkauth_lark_sim::Effect::Latency(2500);
    world.sim.faults().push(larkauth_lark_sim::Fault::at(larkauth_lark_sim::Endpoint::TokenCode, slow));
    let click = world.sim.click_with_code(&asked.message_id, "authorize", &asked.person).await?;
    assert!(!click.card_changed, "{click:?}");
    world.shows(&asked, "green").await?;
    let evidence = watched.stop().await?;

    let trace = evidence.trace_of_click(&asked)?;
    let spans = |service: &str| evidence.spans[&(trace.clone(), service.to_owned())].clone();
    let (gateway, worker) = (spans(GATEWAY), spans(WORKER));
    assert!(gateway.iter().any(|name| name == "gateway.push.handle"), "{gateway:?}");
    for step in [
        "bus.card-actions.handle",
        "lark.api.exchange_code",
        "lark.api.user_info",
        "auth.session.commit",
        "bus.card-faces.handle",
        "lark.api.update_card",
    ] {
        assert!(worker.iter().any(|name| name == step), "{step} is not among {worker:?}");
    }
    assert_eq!(evidence.trace_of_message("session.completed")?, trace);
    evidence.called(TOKEN, &trace)?;
    evidence.called(&format!("{SEND_CARD}/{}", asked.message_id), &trace)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn log_line_of_failure_names_session_application_and_trace() -> anyhow::Result<()> {
    let watched = Watched::start().await?;
    let world = &watched.world;
    let trace = "0e0e47364bf92f3577b34da6a3ce929d";
    let asked = world.ask(0).await?;
    let fault = larkauth_lark_sim::Effect::Answer { status: 400, code: 20003 };
    world.sim.faults().push(larkauth_lark_sim::Fault::at(larkauth_lark_sim::Endpoint::TokenCode, fault));
    let redirect = world.consent(&asked).await?;
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let landed = world.api.raw(|http, _| http.get(&redirect).header("traceparent", traceparent));
    assert!(landed.await?.status < 500);
    world.shows(&asked, "red").await?;
    // A caller's mistake, to be found by the id in the answer.
    let wrong = Api::new(world.api.base.clone(), "another-key-0123456789")?;
    let refused = wrong.token(world.app_id(), &asked.person).await?;
    let request_id = refused.json["request_id"].as_str().context("a request id")?.to_owned();
    // A read is an audit record in the log at once.
    let missing = world.api.token(world.app_id(), &asked.person).await?;
    let read_id = missing.json["request_id"].as_str().context("a request id")?.to_owned();
    let evidence = watched.stop().await?;

    let is_read =
        |line: &&Value| line["target"] == "larkauth::audit" && line["request_id"] == read_id.as_str();
    let audit = evidence.logs[GATEWAY].iter().find(is_read).context("the audit record of the read")?;
    assert_eq!(
        (&audit["action"], &audit["reason"]),
        (&json!("token.serve"), &json!("authentication_required"))
    );
    assert_eq!((&audit["actor_name"], &audit["address"]), (&json!("API_KEY"), &json!("127.0.0.1")));
    let line = evidence.line(WORKER, trace, "auth.exchange.refused")?;
    assert_eq!(line["session_id"], json!(asked.session_id), "{line}");
    assert_eq!(line["app_id"], "cli_0123456789abcdef", "{line}");
    assert!(line["error"].as_str().is_some_and(|error| error.contains("20003")), "{line}");
    assert!(
        evidence.logs[GATEWAY].iter().any(|line| line["request_id"] == request_id.as_str()),
        "{request_id}"
    );
    for (service, lines) in &evidence.logs {
        for line in lines {
            for field in ["timestamp", "level", "target", "message"] {
                assert!(line[field].is_string(), "{field} in {service}: {line}");
            }
        }
    }
    Ok(())
}
