//! Starting, not starting, stopping; what the operations endpoints say; the edges of the REST API.

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use anyhow::Context;
use larkauth_models::ExposeSecret;
use larkauth_storage::{EncryptionKeys, testing::TestAuthorization};
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_tests::{Answer, Kind, Options, Service, World};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

const SERVICES: [Kind; 3] = [Kind::Gateway, Kind::AuthWorker, Kind::TokenRefresher];
const PASSWORD: &str = "pa55word-never-shown";

/// Starts a service that is expected to end by itself. Returns its exit code and its one line.
async fn refused(kind: Kind, env: &BTreeMap<String, String>) -> anyhow::Result<(i32, String)> {
    let (status, output) = Service::spawn(kind, &[], env)?.wait().await?;
    // Log lines are JSON; what is left is for the person at the terminal.
    let lines: Vec<_> = output.lines().filter(|line| !line.starts_with('{')).collect();
    let [line] = lines.as_slice() else { anyhow::bail!("not one line: {output}") };
    assert!(!output.contains(PASSWORD), "{output}");
    Ok((status.code().context("ended by a signal")?, (*line).to_owned()))
}

async fn idle_world() -> anyhow::Result<World> {
    World::start(Options { start: Vec::new(), ..Options::default() }).await
}

fn changed(env: &BTreeMap<String, String>, name: &str, value: &str) -> BTreeMap<String, String> {
    let mut env = env.clone();
    env.insert(name.to_owned(), value.to_owned());
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn start_with_wrong_setting_fails_and_names_it() -> anyhow::Result<()> {
    let world = idle_world().await?;
    let mut env = world.env(Kind::Gateway);
    env.remove("API_KEY");
    for (name, value) in [
        ("DATABASE_URL", format!("mysql://root:{PASSWORD}@127.0.0.1/db")),
        ("DATABASE_URL", "sqlite:larkauth.db".to_owned()),
        ("AMQP_URL", format!("http://guest:{PASSWORD}@127.0.0.1")),
        ("APP_ID", "cli_short".to_owned()),
        ("APP_ID", "app_0123456789abcdef".to_owned()),
        ("API_KEY", "too-short".to_owned()),
        ("ENCRYPTION_KEYS", format!("k1:{PASSWORD}")),
        ("API_KEY_FILE", "/nowhere".to_owned()),
        ("HTTP_ADDR", "localhost".to_owned()),
        ("LARK_BASE_URL", "not a url".to_owned()),
        ("LARK_BRAND", "slack".to_owned()),
        ("OAUTH_REDIRECT_URI", "/callback".to_owned()),
        ("AUTH_SESSION_EXPIRY_SECONDS", "0".to_owned()),
        ("AUTH_REQUEST_RATE_LIMIT", "many".to_owned()),
        ("AUTH_TOKEN_REFRESH_THRESHOLD", "1.5".to_owned()),
        ("WEBSOCKET_FALLBACK_TO_HTTP", "perhaps".to_owned()),
        ("USER_INFO_SYNC_SCHEDULE", "at night".to_owned()),
        ("LOG_FORMAT", "xml".to_owned()),
        ("RUST_LOG", "info,=,=".to_owned()),
    ] {
        let (code, line) = refused(Kind::Gateway, &changed(&env, name, &value)).await.context(name)?;
        assert_eq!(code, 2, "{name}: {line}");
        assert!(line.starts_with(&format!("larkauth-gateway: {name}")), "{line}");
    }
    for (kind, name) in [
        (Kind::Gateway, "DATABASE_URL"),
        (Kind::AuthWorker, "AMQP_URL"),
        (Kind::TokenRefresher, "ENCRYPTION_KEYS"),
    ] {
        let mut env = world.env(kind);
        env.remove(name);
        let (code, line) = refused(kind, &env).await?;
        assert!(code == 2 && line.contains(&format!(": {name} is not set; ")), "{code} {line}");
    }
    env.remove("APP_SECRET");
    let (code, line) = refused(Kind::Gateway, &env).await?;
    assert!(code == 2 && line.contains("APP_SECRET is not set") && line.contains("APP_ID"), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn start_with_unreachable_part_fails_and_names_cure() -> anyhow::Result<()> {
    let world = idle_world().await?;
    let unused = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let empty = TestDatabase::create_empty().await;
    for kind in SERVICES {
        let env = world.env(kind);
        let url = format!("postgres://root:{PASSWORD}@{unused}/larkauth?sslmode=disable");
        let (code, line) = refused(kind, &changed(&env, "DATABASE_URL", &url)).await?;
        assert_eq!(code, 1);
        assert!(
            line.contains("database is unavailable") && line.contains("DATABASE_URL points to it"),
            "{line}"
        );

        let (code, line) = refused(kind, &changed(&env, "DATABASE_URL", empty.url().expose_secret())).await?;
        assert_eq!(code, 1);
        assert!(line.contains("run `larkauth migrate`"), "{line}");
    }
    // The right database, the keys of another: said once at the start instead of by every request.
    let store = world.database.store().await;
    TestAuthorization::new(1).register(&store).await;
    let keys = "k1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwA=";
    for kind in SERVICES {
        let (code, line) = refused(kind, &changed(&world.env(kind), "ENCRYPTION_KEYS", keys)).await?;
        assert_eq!(code, 1);
        assert!(
            line.contains("open none of the stored applications")
                && line.contains("use the ENCRYPTION_KEYS of this database"),
            "{line}"
        );
    }
    // A noted key would make every process without it not ready.
    let noted = store.key_uses().await?;
    assert!(noted.iter().all(|known| known.key_id != "k1"), "{noted:?}");
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    for kind in SERVICES {
        let (code, line) = refused(kind, &changed(&world.env(kind), "HTTP_ADDR", &address)).await?;
        assert!(
            code == 1 && line.contains(&format!("HTTP_ADDR {address}")) && line.contains("free"),
            "{line}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn start_after_migrating_empty_database_succeeds() -> anyhow::Result<()> {
    let mut world = idle_world().await?;
    let empty = TestDatabase::create_empty().await;
    let url = empty.url().expose_secret().to_owned();
    let env = changed(&world.env(Kind::Cli), "DATABASE_URL", &url);
    for _ in 0..2 {
        let (status, output) = Service::spawn(Kind::Cli, &["migrate"], &env)?.wait().await?;
        assert!(status.success(), "{output}");
    }
    world.start_service(Kind::TokenRefresher, &[("DATABASE_URL", &url)]).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_with_hanging_collector_ends_within_seconds() -> anyhow::Result<()> {
    let mut world = idle_world().await?;
    // Connections are taken and never answered.
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", collector.local_addr()?);
    let change = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
    ];
    world.start_service(Kind::TokenRefresher, &change).await?;
    // Exports of metrics and of logs are under way.
    let _asked = (collector.accept().await?, collector.accept().await?);
    let service = world.services.pop().context("no service")?;
    let began = Instant::now();
    let (status, output) = service.terminate().await?;
    let took = began.elapsed();
    assert!(status.success() && took < Duration::from_secs(8), "{took:?}\n{output}");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn help_of_services_lists_settings() -> anyhow::Result<()> {
    let names = ["DATABASE_URL", "AMQP_URL", "ENCRYPTION_KEYS", "APP_ID", "API_KEY", "HTTP_ADDR", "RUST_LOG"];
    for kind in SERVICES {
        let (status, output) = Service::spawn(kind, &["--help"], &BTreeMap::new())?.wait().await?;
        assert!(status.success());
        for expected in names.into_iter().chain([
            "--config",
            "[default: 600]",
            "/healthz",
            "/readyz",
            "/health",
            "/metrics",
        ]) {
            assert!(output.contains(expected), "{kind:?} does not tell about {expected}:\n{output}");
        }
        let (status, output) = Service::spawn(kind, &["--version"], &BTreeMap::new())?.wait().await?;
        assert!(status.success() && output.contains(env!("CARGO_PKG_VERSION")), "{output}");
        let (status, output) = Service::spawn(kind, &["--unheard-of"], &BTreeMap::new())?.wait().await?;
        assert_eq!(status.code(), Some(2), "{output}");
    }
    Ok(())
}

/// Names that the design promises, by the service that shows them after one authorization.
const METRICS: [(Kind, &[&str]); 3] = [
    (
        Kind::Gateway,
        &[
            "websocket_connection_status",
            "auth_session_total",
            "callback_answer_seconds_count",
            "bus_publish_total",
            "http_requests_total",
            "bus_up",
            "database_up",
            "database_writable",
        ],
    ),
    (
        Kind::AuthWorker,
        &[
            "auth_success_total",
            "auth_failure_total",
            "auth_duration_seconds_count",
            "lark_api_calls_total",
            "bus_consumed_total",
            "bus_lag_seconds_count",
        ],
    ),
    (
        Kind::TokenRefresher,
        &["auth_session_active", "token_active_count", "auth_session_expired_total", "database_up"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn services_report_health_and_stop_on_sigterm() -> anyhow::Result<()> {
    let options =
        Options { env: vec![("AUTH_SESSION_EXPIRY_SECONDS", "15".to_owned())], ..Options::default() };
    let mut world = World::start(options).await?;
    let asked = world.ask(0).await?;
    world.sim.click(&asked.message_id, "authorize", &asked.person).await?;
    world.sim.follow(&world.consent(&asked).await?).await?;
    world.shows(&asked, "green").await?;
    let declined = world.ask(1).await?;
    world.sim.click(&declined.message_id, "cancel", &declined.person).await?;
    let forgotten = world.ask(2).await?;
    world.shows(&forgotten, "grey").await?;

    for (kind, names) in METRICS {
        for name in names {
            larkauth_tests::eventually(larkauth_tests::TIMEOUT, async || {
                Ok((world.metric(kind, name, "").await? > 0.0).then_some(()))
            })
            .await
            .with_context(|| format!("{kind:?} does not show {name}"))?;
        }
    }
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
    for service in &mut world.services {
        let base = format!("http://{}", service.address().await?);
        let health = http.get(format!("{base}/healthz")).send().await?;
        assert_eq!((health.status().as_u16(), health.text().await?.trim()), (200, "ok"));
        let ready: Value = http.get(format!("{base}/readyz")).send().await?.json().await?;
        assert_eq!(ready["ready"], true, "{ready}");
        let health: Value = http.get(format!("{base}/health")).send().await?.json().await?;
        assert_eq!(health["status"], "ok", "{health}");
        let metrics = http.get(format!("{base}/metrics")).send().await?;
        let media_type = metrics.headers()["content-type"].to_str()?.to_owned();
        assert!(media_type.starts_with("text/plain; version=0.0.4"), "{media_type}");
        let metrics = metrics.text().await?;
        assert!(metrics.contains("# HELP lark_service_") && metrics.contains("# TYPE lark_service_"));
        assert!(metrics.contains("process_resident_memory_bytes"), "the process itself is measured");
        assert!(!metrics.contains(&asked.person) && !metrics.contains("ou_"), "no person is a label");
    }

    // A part that goes away shows, and comes back.
    world.database_proxy.down();
    let ready = async |world: &mut World, wanted: u16| {
        let base = world.services[1].address().await?;
        larkauth_tests::eventually(larkauth_tests::TIMEOUT, async || {
            let answer = http.get(format!("http://{base}/readyz")).send().await?;
            Ok((answer.status().as_u16() == wanted).then_some(answer.text().await?))
        })
        .await
    };
    let report = ready(&mut world, 503).await?;
    assert!(report.contains("database") && report.contains("DATABASE_URL"), "{report}");
    world.database_proxy.resume();
    ready(&mut world, 200).await?;

    world.quiet().await?;
    for service in world.services.drain(..) {
        let (kind, began) = (service.kind, Instant::now());
        let (status, output) = service.terminate().await?;
        assert_eq!(status.code(), Some(0), "{kind:?}: {output}");
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{kind:?} took {:?} to stop while idle",
            began.elapsed()
        );
        assert!(output.lines().last().is_some_and(|line| line.contains("stopped")), "{output}");
    }
    world.finish().await
}

/// Checks a problem document: status, code, and that it says what to do.
fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.json["code"]), (status, &json!(code)), "{answer:?}");
    assert_eq!(answer.content_type, "application/problem+json", "{answer:?}");
    assert_eq!(answer.json["status"], status);
    for field in ["type", "title", "detail", "request_id"] {
        assert!(answer.json[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_refused_is_answered_with_problem_document() -> anyhow::Result<()> {
    const SECRET: &str = "s3cret-in-the-request";
    let options = Options { env: vec![("AUTH_REQUEST_RATE_LIMIT", "1".to_owned())], ..Options::default() };
    let world = World::start(options).await?;
    let (app_id, person) = (world.app_id(), world.person(0));
    let sessions = "/v1/auth/sessions";
    let post = async |body: String, media_type: &str| {
        let key = world.env(Kind::Gateway)["API_KEY"].clone();
        world
            .api
            .raw(|http, base| {
                http.post(format!("{base}{sessions}"))
                    .bearer_auth(key)
                    .header("content-type", media_type)
                    .body(body)
            })
            .await
    };
    let json_type = "application/json";
    for (body, says) in [
        (format!("{{\"app_id\": \"{SECRET}"), "JSON"),
        (String::new(), "JSON"),
        ("[]".to_owned(), "object"),
        ("{}".to_owned(), "app_id"),
        (json!({"app_id": app_id}).to_string(), "open_id"),
        (json!({"app_id": SECRET, "open_id": person}).to_string(), "cli_"),
        (json!({"app_id": app_id, "open_id": "ou 1"}).to_string(), "open_id"),
        (json!({"app_id": app_id, "open_id": person, SECRET: 1}).to_string(), "no such field"),
        (json!({"app_id": app_id, "open_id": person, "scopes": ["a b"]}).to_string(), "scopes"),
        (json!({"app_id": app_id, "open_id": person, "auth_method": "fax"}).to_string(), "websocket_card"),
        (
            json!({"app_id": app_id, "open_id": person, "card": {"custom_message": "x".repeat(1001)}})
                .to_string(),
            "1000",
        ),
    ] {
        let answer = post(body, json_type).await?;
        is_problem(&answer, 400, "invalid_request");
        assert!(
            answer.text.contains(says) && !answer.text.contains(&format!("\"{SECRET}\"")),
            "{says}: {answer:?}"
        );
    }
    let large = json!({"app_id": app_id, "open_id": person, "card": {"custom_message": "x".repeat(100_000)}});
    is_problem(&post(large.to_string(), json_type).await?, 413, "payload_too_large");
    is_problem(
        &post("app_id=x".to_owned(), "application/x-www-form-urlencoded").await?,
        415,
        "unsupported_media_type",
    );
    let unknown = json!({"app_id": "cli_ffffffffffffffff", "open_id": person});
    is_problem(&world.api.send(Method::POST, sessions, Some(unknown)).await?, 404, "app_not_found");

    for (method, path, status, code) in [
        (Method::GET, "/v1/nothing".to_owned(), 404, "not_found"),
        (Method::DELETE, sessions.to_owned(), 405, "method_not_allowed"),
        (Method::GET, format!("{sessions}/not-a-uuid"), 400, "invalid_request"),
        (Method::GET, format!("{sessions}/00000000-0000-0000-0000-000000000001"), 404, "session_not_found"),
        (
            Method::GET,
            format!("{sessions}/00000000-0000-0000-0000-000000000001?wait=3600"),
            400,
            "invalid_request",
        ),
        (Method::GET, format!("{sessions}?limit=0"), 400, "invalid_request"),
        (Method::GET, format!("{sessions}?cursor=%21"), 400, "invalid_request"),
        (Method::GET, format!("{sessions}?state=done"), 400, "invalid_request"),
        (Method::GET, format!("{sessions}?unheard_of=1"), 400, "invalid_request"),
        (Method::GET, format!("/v1/apps/cli_x/users/{person}/token"), 400, "invalid_request"),
        (
            Method::GET,
            format!("/v1/apps/{app_id}/users/{person}/token?min_validity=-1"),
            400,
            "invalid_request",
        ),
        (Method::GET, format!("/v1/apps/cli_ffffffffffffffff/users/{person}/token"), 404, "app_not_found"),
        (Method::GET, format!("/v1/apps/{app_id}/users/{person}/token"), 404, "authentication_required"),
        (Method::GET, format!("{sessions}?cursor={}", "x".repeat(9000)), 400, "invalid_request"),
    ] {
        let answer = world.api.send(method, &path, None).await?;
        is_problem(&answer, status, code);
    }

    let path = format!("/v1/apps/{app_id}/users/{person}/token");
    let missing = world.api.raw(|http, base| http.get(format!("{base}{path}"))).await?;
    is_problem(&missing, 401, "unauthorized");
    let wrong = world.api.raw(|http, base| http.get(format!("{base}{path}")).bearer_auth(SECRET)).await?;
    is_problem(&wrong, 401, "unauthorized");
    let basic =
        world.api.raw(|http, base| http.get(format!("{base}{path}")).basic_auth("me", Some(SECRET))).await?;
    is_problem(&basic, 401, "unauthorized");
    for answer in [missing, wrong, basic] {
        assert!(!answer.text.contains(SECRET), "{answer:?}");
    }

    world.api.invite(app_id, &person).await?;
    let again = json!({"app_id": app_id, "open_id": person});
    let limited = world.api.send(Method::POST, sessions, Some(again)).await?;
    is_problem(&limited, 429, "rate_limited");
    assert!(limited.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)), "{limited:?}");
    world.card(&person, "authorize").await?;
    world.finish().await
}
