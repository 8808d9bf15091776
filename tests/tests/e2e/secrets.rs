//! Secrets reach the rightful caller only: every byte that the processes write, send or store is
//! searched for every secret that was issued, configured or sent to them.

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use larkauth_lark_sim::{Effect, Endpoint, Fault, Limits, SimConfig};
use larkauth_tests::{Answer, Asked, BusTap, Collector, Kind, Options, TIMEOUT, World, eventually};
use reqwest::{Method, Url};
use serde_json::json;
use sqlx::AssertSqlSafe;

/// Content of a foreign or wrong request. It may be repeated nowhere.
const CANARY: &str = "canary-4f1d9c27-sent-to-the-service";
const SERVICES: [Kind; 3] = [Kind::Gateway, Kind::AuthWorker, Kind::TokenRefresher];

/// All observed text by its place.
#[derive(Default)]
pub(crate) struct Evidence(Vec<(String, String)>);

impl Evidence {
    pub(crate) fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    fn add_answer(&mut self, answer: &Answer) {
        self.add(format!("the answer {}", answer.status), &answer.text);
    }

    /// Returns each place that holds one of the secrets, plain or encoded.
    pub(crate) fn leaks(&self, secrets: &[String]) -> Vec<String> {
        let mut leaks = Vec::new();
        for secret in secrets {
            for (encoding, spelled) in spellings(secret) {
                let places = self.0.iter().filter(|(_, text)| text.contains(&spelled));
                leaks.extend(places.map(|(place, text)| {
                    let at = text.find(&spelled).unwrap_or_default();
                    let before: String =
                        text[..at].chars().rev().take(200).collect::<Vec<_>>().iter().rev().collect();
                    format!("{place} holds {spelled:.4}… ({encoding}) after: {before}")
                }));
            }
        }
        leaks
    }

    /// Returns all text of the places whose name starts with `place`.
    pub(crate) fn of(&self, place: &str) -> String {
        self.0.iter().filter(|(name, _)| name.starts_with(place)).map(|(_, text)| text.as_str()).collect()
    }
}

fn spellings(secret: &str) -> Vec<(&'static str, String)> {
    // Without the last group, whose letters depend on what follows: the same with and without padding.
    let whole_groups = &secret.as_bytes()[..secret.len() / 3 * 3];
    let mut all = vec![
        ("plain", secret.to_owned()),
        ("hex", hex::encode(secret)),
        ("base64", BASE64_STANDARD.encode(whole_groups)),
    ];
    let percent: String = secret.replace('+', "%2B").replace('@', "%40");
    if percent != secret {
        all.push(("percent", percent));
    }
    // A phone number without its country code is a secret too.
    if let Some(national) = secret.strip_prefix("+86") {
        all.push(("national", national.to_owned()));
    }
    all
}

#[test]
fn leak_search_finds_planted_secrets() {
    let secrets = ["u-Zq8-token_value".to_owned(), "+8613900000001".to_owned()];
    for planted in [
        "Authorization: Bearer u-Zq8-token_value",
        "\\x752d5a71382d746f6b656e5f76616c7565",
        "dS1acTgtdG9rZW5fdmFsdWU=",
        "mobile=%2B8613900000001",
        "call 13900000001",
    ] {
        let mut evidence = Evidence::default();
        evidence.add("a log", format!("before {planted} after"));
        assert_eq!(evidence.leaks(&secrets).len(), if planted.contains('%') { 2 } else { 1 }, "{planted}");
    }
    let mut evidence = Evidence::default();
    evidence.add("a log", "nothing of the kind");
    assert_eq!(evidence.leaks(&secrets), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_with_json_logs_are_leaked_nowhere() -> anyhow::Result<()> {
    nothing_leaks("json").await
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_with_pretty_logs_are_leaked_nowhere() -> anyhow::Result<()> {
    nothing_leaks("pretty").await
}

async fn nothing_leaks(log_format: &str) -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let env = vec![
        ("RUST_LOG", "trace".to_owned()),
        ("LOG_FORMAT", log_format.to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint().to_owned()),
        ("HTTP_CALLBACK_ENABLED", "true".to_owned()),
    ];
    // One person is asked far more often here than the default settings allow.
    let limits = Limits { messages_per_user: 100, ..Limits::default() };
    let sim = SimConfig { limits, ..SimConfig::default().with_users(3) };
    let mut world = World::start(Options { sim, env, start: Vec::new(), two_listeners: false }).await?;
    let (database_url, password) = with_password(&world.env(Kind::Gateway)["DATABASE_URL"])?;
    for kind in SERVICES {
        world.start_service(kind, &[("DATABASE_URL", &database_url)]).await?;
    }
    let bus = BusTap::start(&world.bus).await?;

    let mut evidence = Evidence::default();
    let mut secrets = configured(&world);
    secrets.extend([password, CANARY.to_owned()]);
    ends_of_a_session(&world, &mut secrets, &mut evidence).await?;
    strangers(&world, &mut evidence).await?;
    broken_parts(&mut world, &mut secrets, &mut evidence).await?;
    refused_application(&world, &mut secrets, &mut evidence).await?;

    world.quiet().await?;
    secrets.extend(world.sim.issued_secrets());
    for service in &mut world.services {
        let base = format!("http://{}", service.address().await?);
        for path in ["/metrics", "/readyz", "/health"] {
            let text = reqwest::get(format!("{base}{path}")).await?.text().await?;
            evidence.add(format!("{path} of {:?}", service.kind), text);
        }
    }
    for message in bus.published().await?.into_iter().chain(bus.dead_letters().await?) {
        let mut body = message.body;
        if message.routing_key.starts_with("lark.") {
            // An event of another program is passed on as Lark pushed it: with its content and the verification token.
            ensure!(body.contains(CANARY), "the relayed event is not the pushed one: {body}");
            body = body.replace(CANARY, "").replace(&world.env(Kind::Gateway)["LARK_VERIFICATION_TOKEN"], "");
        }
        evidence.add(format!("message {}", message.routing_key), message.properties + "\n" + &body);
    }
    tables(&world, &mut evidence).await?;
    for service in std::mem::take(&mut world.services) {
        let place = format!("output of {:?}", service.kind);
        evidence.add(place, service.terminate().await?.1);
    }
    for body in collector.bodies() {
        evidence.add("exported spans", String::from_utf8_lossy(&body).into_owned());
    }

    is_substantial(&evidence)?;
    ensure!(
        secrets.len() > 30 && secrets.iter().all(|secret| secret.len() >= 8),
        "too few secrets to search for"
    );
    let leaks = evidence.leaks(&secrets);
    ensure!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    world.finish().await
}

/// Checks that the evidence is complete: a search of missing text finds nothing.
fn is_substantial(evidence: &Evidence) -> anyhow::Result<()> {
    let session_id = evidence.of("session");
    for (place, expected) in [
        ("output of Gateway", session_id.as_str()),
        ("output of AuthWorker", &session_id),
        ("output of Gateway", "DEBUG"),
        ("output of TokenRefresher", "DEBUG"),
        ("exported spans", &session_id),
        ("message session.", &session_id),
        ("message lark.event.", "im.message.receive_v1"),
        ("message callback.unrecognized", "card.action.trigger"),
        ("table user_auth_sessions", &session_id),
        ("table access_tokens", "\\x"),
        ("table applications", "\\x"),
        ("/metrics of AuthWorker", "lark_service_auth_failure_total"),
        ("the answer 400", "invalid_request"),
        ("the answer 401", "unauthorized"),
        ("the answer 503", "service_unavailable"),
        ("the answer 503", "app_frozen"),
    ] {
        ensure!(evidence.of(place).contains(expected), "{expected:?} is missing in {place}");
    }
    Ok(())
}

/// Returns the secrets that the services were started with.
fn configured(world: &World) -> Vec<String> {
    let env = world.env(Kind::Gateway);
    let names = ["APP_SECRET", "API_KEY", "LARK_VERIFICATION_TOKEN", "LARK_ENCRYPT_KEY"];
    let mut secrets: Vec<_> = names.iter().map(|name| env[*name].clone()).collect();
    secrets.extend(env["ENCRYPTION_KEYS"].split_once(':').map(|(_, key)| key.to_owned()));
    secrets
}

/// The address with a password in it, and the password. Where the server trusts its clients, any will do.
fn with_password(url: &str) -> anyhow::Result<(String, String)> {
    let mut url = Url::parse(url)?;
    if url.password().is_none() {
        url.set_password(Some("database-pa55word")).ok().context("the address takes no password")?;
    }
    let password = url.password().unwrap_or_default().to_owned();
    Ok((url.into(), password))
}

/// Where the card's button leads; the `state` in it is a secret between Lark and us.
fn consent_page(world: &World, asked: &Asked, secrets: &mut Vec<String>) -> anyhow::Result<String> {
    let card = world.sim.message(&asked.message_id).context("the card")?;
    let url = card.buttons().into_iter().find_map(|button| button.url).context("a link")?;
    let state = Url::parse(&url)?
        .query_pairs()
        .find(|(name, _)| name == "state")
        .map(|(_, state)| state.into_owned());
    secrets.extend(state);
    Ok(url)
}

/// Runs sessions to each of their ends.
async fn ends_of_a_session(
    world: &World,
    secrets: &mut Vec<String>,
    evidence: &mut Evidence,
) -> anyhow::Result<()> {
    let asked = world.ask(0).await?;
    evidence.add("session", asked.session_id.to_string());
    let url = consent_page(world, &asked, secrets)?;
    let click = world.sim.click(&asked.message_id, "authorize", &asked.person).await?;
    assert!(click.answered, "{click:?}");
    let redirect = world.sim.consent(&url, &asked.person).await?;
    evidence.add("a page", world.sim.follow(&redirect).await?.html);
    world.shows(&asked, "green").await?;
    evidence.add("a page", world.sim.follow(&redirect).await?.html);
    let listed = world.api.send(Method::GET, "/v1/auth/sessions?limit=10", None).await?;
    evidence.add_answer(&listed);
    // The one answer with a token in it, and the only one that is not evidence.
    let token = world.api.token(world.app_id(), &asked.person).await?;
    assert!(world.sim.issued_secrets().iter().any(|secret| token.json["access_token"] == secret.as_str()));

    let asked = world.ask(1).await?;
    world.sim.click(&asked.message_id, "cancel", &asked.person).await?;
    let asked = world.ask(1).await?;
    let redirect = world.sim.decline(&consent_page(world, &asked, secrets)?).await?;
    evidence.add("a page", world.sim.follow(&redirect).await?.html);
    let asked = world.ask(1).await?;
    let redirect = world.sim.consent(&consent_page(world, &asked, secrets)?, &world.person(2)).await?;
    evidence.add("a page", world.sim.follow(&redirect).await?.html);
    world.shows(&asked, "red").await?;
    let asked = world.ask(2).await?;
    world.sim.click_with_code(&asked.message_id, "authorize", &asked.person).await?;
    world.shows(&asked, "green").await?;

    for (endpoint, effect) in [
        (Endpoint::TokenCode, Effect::Answer { status: 400, code: 20003 }),
        (Endpoint::TokenCode, Effect::LostAnswer),
        // Half of an answer, with a token in it.
        (Endpoint::TokenCode, Effect::MalformedBody),
        (Endpoint::UserInfo, Effect::Answer { status: 200, code: 20005 }),
        (Endpoint::UserInfo, Effect::Answer { status: 200, code: 20022 }),
    ] {
        let asked = world.ask(0).await?;
        let url = consent_page(world, &asked, secrets)?;
        world.sim.faults().push(Fault::at(endpoint, effect));
        let redirect = world.sim.consent(&url, &asked.person).await?;
        evidence.add("a page", world.sim.follow(&redirect).await?.html);
        world.shows(&asked, "red").await?;
    }
    Ok(())
}

/// Sends foreign and malformed requests to every endpoint.
async fn strangers(world: &World, evidence: &mut Evidence) -> anyhow::Result<()> {
    let (app_id, key) = (world.app_id(), world.env(Kind::Gateway)["API_KEY"].clone());
    let event = json!({"text": CANARY, "authorization_code": CANARY});
    world.sim.push_event(app_id, "im.message.receive_v1", &event)?;
    let click = json!({
        "operator": {"open_id": world.person(0)}, "token": format!("c-{CANARY}"),
        "action": {"value": {"larkauth": 2, "authorization_code": CANARY}, "tag": "button"}, "context": {"open_message_id": "om_1"},
    });
    world.sim.push_event(app_id, "card.action.trigger", &click)?;

    let push = json!({"schema": "2.0", "header": {"event_id": "e-1", "event_type": "card.action.trigger",
        "token": CANARY, "app_id": app_id}, "event": click});
    for body in [
        push.to_string(),
        json!({"encrypt": CANARY}).to_string(),
        json!({"type": "url_verification", "challenge": "c", "token": CANARY}).to_string(),
        format!("{{\"token\": \"{CANARY}"),
        CANARY.to_owned(),
    ] {
        for path in [
            format!("/lark/callback/{app_id}"),
            "/lark/callback".to_owned(),
            format!("/lark/callback/{CANARY}"),
        ] {
            let answer = world.api.raw(|http, base| {
                http.post(format!("{base}{path}")).header("x-lark-signature", CANARY).body(body.clone())
            });
            evidence.add_answer(&answer.await?);
        }
    }

    let sessions = "/v1/auth/sessions";
    for body in [
        format!("{{\"app_id\": \"{CANARY}"),
        json!({"app_id": CANARY, "open_id": CANARY}).to_string(),
        json!({"app_id": app_id, "open_id": format!("{CANARY} ")}).to_string(),
        json!({"app_id": app_id, "open_id": "ou_1", "scopes": [format!("{CANARY} ")]}).to_string(),
        json!({"app_id": app_id, "open_id": "ou_1", "auth_method": CANARY}).to_string(),
        json!({"app_id": app_id, "open_id": "ou_1", "card": {"template_id": format!("{CANARY}\"")}})
            .to_string(),
        CANARY.repeat(3000),
    ] {
        let answer = world.api.raw(|http, base| {
            let request = http.post(format!("{base}{sessions}")).bearer_auth(&key);
            request.header("content-type", "application/json").body(body)
        });
        evidence.add_answer(&answer.await?);
    }
    for path in [
        format!("{sessions}/{CANARY}"),
        format!("{sessions}?cursor={CANARY}"),
        format!("{sessions}?state={CANARY}"),
        format!("/v1/apps/{CANARY}/users/{CANARY}/token"),
        format!("/v1/{CANARY}?access_token={CANARY}"),
    ] {
        evidence.add_answer(&world.api.send(Method::GET, &path, None).await?);
        let wrong_key = world.api.raw(|http, base| http.get(format!("{base}{path}")).bearer_auth(CANARY));
        evidence.add_answer(&wrong_key.await?);
    }
    for query in [
        format!("code={CANARY}&state={CANARY}"),
        format!("error={CANARY}&state={CANARY}"),
        format!("code={CANARY}"),
    ] {
        let page = world.api.raw(|http, base| http.get(format!("{base}/oauth/callback?{query}")));
        evidence.add("a page", page.await?.text);
    }
    Ok(())
}

/// Database and broker go away while people click and callers ask.
async fn broken_parts(
    world: &mut World,
    secrets: &mut Vec<String>,
    evidence: &mut Evidence,
) -> anyhow::Result<()> {
    let (app_id, person) = (world.app_id(), world.person(0));
    let body = json!({"app_id": app_id, "open_id": person});
    for part in ["database", "broker"] {
        let asked = world.ask(0).await?;
        let url = consent_page(world, &asked, secrets)?;
        let redirect = world.sim.consent(&url, &asked.person).await?;
        let proxy = if part == "database" { &world.database_proxy } else { &world.broker_proxy };
        proxy.down();
        let gateway = world.services[0].address().await?;
        let health = format!("http://{gateway}/health");
        let degraded = eventually(TIMEOUT, async || {
            let health = reqwest::get(&health).await?.text().await?;
            Ok(health.contains("degraded").then_some(health))
        });
        evidence.add("/health while a part is down", degraded.await?);
        evidence.add_answer(&world.api.send(Method::POST, "/v1/auth/sessions", Some(body.clone())).await?);
        let click = world.sim.click(&asked.message_id, "authorize", &asked.person).await?;
        evidence.add("an answer to Lark", format!("{:?}", click.toast));
        evidence.add("a page", world.sim.follow(&redirect).await?.html);
        let token = world.api.token(app_id, &person).await?;
        if token.status != 200 {
            evidence.add_answer(&token);
        }
        proxy.resume();
        for service in &mut world.services {
            let health = format!("http://{}/health", service.address().await?);
            eventually(TIMEOUT, async || {
                Ok((!reqwest::get(&health).await?.text().await?.contains("degraded")).then_some(()))
            })
            .await?;
        }
        evidence.add("a page", world.sim.follow(&redirect).await?.html);
        world.shows(&asked, "green").await.with_context(|| format!("after the {part} came back"))?;
    }
    Ok(())
}

/// Lark refuses the application.
async fn refused_application(
    world: &World,
    secrets: &mut Vec<String>,
    evidence: &mut Evidence,
) -> anyhow::Result<()> {
    let asked = world.ask(0).await?;
    let url = consent_page(world, &asked, secrets)?;
    world.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 400, code: 20002 }));
    let redirect = world.sim.consent(&url, &asked.person).await?;
    evidence.add("a page", world.sim.follow(&redirect).await?.html);
    world.shows(&asked, "red").await?;
    let body = json!({"app_id": world.app_id(), "open_id": asked.person});
    let refused = eventually(TIMEOUT, async || {
        let answer = world.api.send(Method::POST, "/v1/auth/sessions", Some(body.clone())).await?;
        Ok((answer.status == 503).then_some(answer))
    });
    evidence.add_answer(&refused.await?);
    Ok(())
}

/// Every row of every table, as text.
async fn tables(world: &World, evidence: &mut Evidence) -> anyhow::Result<()> {
    let mut connection = world.database.connection().await;
    let names: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
            .fetch_all(&mut connection)
            .await?;
    for name in names {
        let rows = format!("select coalesce(string_agg(t::text, ' '), '') from \"{name}\" t");
        let text: String = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(&mut connection).await?;
        evidence.add(format!("table {name}"), text);
    }
    Ok(())
}
