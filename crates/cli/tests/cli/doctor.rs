use larkauth_messaging::testing::{PATIENCE, TestBus};
use larkauth_models::ExposeSecret;
use larkauth_storage::Store;
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_storage_sqlite::testing::TestSqlite;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::stage::{APP_ID, APP_SECRET, Ended, Stage};

/// Verdicts by check.
fn verdicts(ended: &Ended) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let json = ended.json();
    json["checks"].as_array().unwrap().iter().map(|c| (text(&c["check"]), text(&c["verdict"]))).collect()
}

#[track_caller]
fn says(ended: &Ended, check: &str, verdict: &str) {
    let found = verdicts(ended);
    assert!(
        found.iter().any(|(c, v)| c.contains(check) && v == verdict),
        "{check} is not {verdict}: {}",
        ended.out
    );
}

#[tokio::test]
async fn doctor_with_unreachable_lark_names_failing_step() {
    let stage = Stage::new().await;
    let ended = stage.run("doctor --json").await.with(1);
    for check in ["settings", "database", "encryption keys", "broker", "HTTP_ADDR"] {
        says(&ended, check, "ok");
    }
    says(&ended, "Lark at 127.0.0.1", "wrong");
    assert!(ended.out.contains("no connection to port 1"), "{}", ended.out);
    says(&ended, "API keys", "doubtful");
    says(&ended, "applications", "doubtful");
    let text = stage.run("doctor").await.with(1);
    assert!(
        text.out.contains("✗ Lark at 127.0.0.1") && text.out.contains("see docs/troubleshooting/"),
        "{}",
        text.out
    );
}

#[tokio::test]
async fn doctor_without_certificate_files_and_with_proxy_reaches_this_machine() {
    let (mut stage, _sim) = Stage::with_lark().await;
    stage.set("SSL_CERT_FILE", "/dev/null");
    stage.set("SSL_CERT_DIR", "/nonexistent");
    stage.set("ALL_PROXY", "http://127.0.0.1:1");
    says(&stage.run("doctor --json").await, "Lark at 127.0.0.1", "ok");
}

#[tokio::test]
async fn doctor_with_wrong_secret_reports_credentials() {
    let (mut stage, sim) = Stage::with_lark().await;
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", "another-secret-0123456789");
    let ended = stage.run("doctor --json").await.with(1);
    says(&ended, "Lark at 127.0.0.1", "ok");
    says(&ended, "clock", "ok");
    says(&ended, "credentials", "wrong");
    says(&ended, "long connection", "wrong");
    says(&ended, "redirect URI", "doubtful");
    assert!(
        ended.out.contains("secret-or-brand.md") && !ended.out.contains("another-secret"),
        "{}",
        ended.out
    );

    stage.set("APP_SECRET", APP_SECRET);
    says(&stage.run("doctor --json").await.with(0), "credentials", "ok");
    sim.change_app(APP_ID, |app| app.enabled = false).unwrap();
    let ended = stage.run("doctor --json").await.with(1);
    assert!(ended.out.contains("long-connection.md"), "{}", ended.out);
}

#[tokio::test]
async fn doctor_with_wrong_keys_or_settings_reports_them() {
    let mut stage = Stage::new().await;
    stage.run_with(&["apps", "add", APP_ID], &format!("{APP_SECRET}\n")).await.with(0);
    stage.set("ENCRYPTION_KEYS", "other:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwA=");
    says(&stage.run("doctor --json").await.with(1), "encryption keys", "wrong");
    stage.set("HTTP_ADDR", "nowhere");
    let ended = stage.run("doctor --json").await.with(1);
    assert_eq!(verdicts(&ended), [("settings".to_owned(), "wrong".to_owned())]);
}

#[tokio::test]
async fn doctor_with_one_unreadable_application_checks_the_others() {
    const LOST: &str = "cli_fedcba9876543210";
    let mut stage = Stage::new().await;
    let keys = stage.env["ENCRYPTION_KEYS"].clone();
    stage.run_with(&["apps", "add", APP_ID], &format!("{APP_SECRET}\n")).await.with(0);
    stage.set("ENCRYPTION_KEYS", "other:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwA=");
    // While a process may run with the other key.
    let refused = stage.run_with(&["apps", "add", LOST], &format!("{APP_SECRET}\n")).await.with(1);
    assert!(refused.err.contains("stored values may need the encryption keys test"), "{}", refused.err);
    let mut db = stage.database.connection().await;
    // Two minutes without a process later.
    let forget_processes = "update encryption_key_uses set sealed_at = null";
    sqlx::query(forget_processes).execute(&mut db).await.unwrap();
    stage.run_with(&["apps", "add", LOST], &format!("{APP_SECRET}\n")).await.with(0);
    sqlx::query(forget_processes).execute(&mut db).await.unwrap();
    stage.set("ENCRYPTION_KEYS", keys);

    let ended = stage.run("doctor --json").await.with(1);
    says(&ended, "encryption keys", "wrong");
    assert!(ended.out.contains(LOST) && ended.out.contains("larkauth apps add"), "{}", ended.out);
    assert!(verdicts(&ended).iter().any(|(check, _)| check.contains(APP_ID)), "{}", ended.out);
    let list = stage.run("apps list").await.with(0);
    assert!(list.out.starts_with(APP_ID) && list.out.lines().count() == 1, "{}", list.out);
    assert!(list.err.contains(LOST) && list.err.contains("larkauth apps add"), "{}", list.err);

    let again = stage.run_with(&["apps", "add", LOST], &format!("{APP_SECRET}\n")).await.with(0);
    assert!(again.err.contains("registered again"), "{}", again.err);
    assert_eq!(stage.run("apps list").await.with(0).out.lines().count(), 2);
    says(&stage.run("doctor --json").await.with(1), "encryption keys", "ok");
}

#[tokio::test]
async fn doctor_on_fresh_machine_names_first_steps() {
    let mut stage = Stage::new().await;
    stage.env.remove("DATABASE_URL");
    stage.env.remove("ENCRYPTION_KEYS");
    stage.set("OAUTH_REDIRECT_URI", "http://auth.example.com/callback");
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    let ended = stage.run("doctor --json").await.with(1);
    says(&ended, "database", "doubtful");
    says(&ended, "broker", "doubtful");
    says(&ended, "redirect URI", "wrong");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stage.set("HTTP_ADDR", taken.local_addr().unwrap().to_string());
    says(&stage.run("doctor --json").await.with(1), "HTTP_ADDR", "wrong");
}

#[tokio::test]
async fn doctor_with_unreachable_servers_or_missing_schema_reports_them() {
    let mut stage = Stage::new().await;
    let (database, bus) = (TestDatabase::create_empty().await, TestBus::create().await);
    stage.set("DATABASE_URL", database.url().expose_secret());
    stage.set("AMQP_URL", "amqp://someone:broker-password@127.0.0.1:1/%2f");
    let ended = stage.run("doctor --json").await.with(1);
    says(&ended, "database", "wrong");
    says(&ended, "broker", "wrong");
    assert!(ended.out.contains("larkauth migrate"), "{}", ended.out);
    assert!(!ended.out.contains("broker-password"), "{}", ended.out);
    // What cannot be read is not said to be empty.
    assert!(verdicts(&ended).iter().all(|(check, _)| check != "applications"), "{}", ended.out);

    stage.run("migrate").await.with(0);
    stage.set("AMQP_URL", bus.url());
    stage.set("AMQP_PREFIX", bus.prefix());
    let ended = stage.run("doctor --json").await.with(1);
    for check in ["database", "encryption keys", "broker"] {
        says(&ended, check, "ok");
    }
    says(&ended, "applications", "doubtful");

    stage.set("DATABASE_URL", "postgres://someone:database-password@127.0.0.1:1/larkauth");
    let ended = stage.run("doctor --json").await.with(1);
    says(&ended, "database", "wrong");
    says(&ended, "broker", "ok");
    assert!(!ended.out.contains("database-password"), "{}", ended.out);
    bus.teardown().await;
}

#[tokio::test]
async fn doctor_on_file_without_schema_leaves_it_unchanged() {
    let mut stage = Stage::new().await;
    let database = TestSqlite::create_empty();
    database.store().await.close().await;
    stage.set("DATABASE_URL", format!("sqlite:{}", database.path().display()));
    for _ in 0..2 {
        let ended = stage.run("doctor --json").await.with(1);
        says(&ended, "database", "wrong");
        assert!(ended.out.contains("larkauth migrate"), "{}", ended.out);
    }
}

#[tokio::test]
async fn doctor_beside_running_standalone_succeeds() {
    let (mut stage, _sim) = Stage::with_lark().await;
    stage.env.remove("DATABASE_URL");
    stage.env.remove("ENCRYPTION_KEYS");
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    let standalone = stage.standalone().await;
    let ended = stage.run("doctor --json").await.with(0);
    for check in ["database", "encryption keys", "broker", "HTTP_ADDR", "credentials", "long connection"] {
        says(&ended, check, "ok");
    }
    assert!(ended.out.contains("larkauth is listening"), "{}", ended.out);
    assert!(ended.out.contains("works, but only for browsers on this machine"), "{}", ended.out);

    // The same address, on every network: asked for on this machine all the same.
    let port = stage.env["HTTP_ADDR"].rsplit(':').next().unwrap().to_owned();
    stage.set("HTTP_ADDR", format!("0.0.0.0:{port}"));
    let ended = stage.run("doctor --json").await.with(0);
    assert!(ended.out.contains("larkauth is listening"), "{}", ended.out);
    standalone.terminate().await.with(0);
}

#[tokio::test]
async fn doctor_beside_shared_application_explains_foreign_events() {
    let (mut stage, sim) = Stage::with_lark().await;
    stage.env.remove("DATABASE_URL");
    stage.env.remove("ENCRYPTION_KEYS");
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    let standalone = stage.standalone().await;
    sim.wait_until(PATIENCE, |sim| (sim.connections(APP_ID) == 1).then_some(())).await.unwrap();
    let click = json!({"operator": {"open_id": "ou_1"}, "token": "c-1", "action": {"tag": "button", "value":
        {"larkauth": 1, "session_id": "0190163d-8694-739b-aea5-966c26f8ad91", "action": "authorize"}}});
    sim.push_event(APP_ID, "im.message.receive_v1", &json!({"text": "hello"})).unwrap();
    sim.push_event(APP_ID, "card.action.trigger", &click).unwrap();
    sim.wait_until(PATIENCE, |sim| (sim.stats().answers == 2).then_some(())).await.unwrap();
    let ended = stage.run("doctor --json").await.with(0);
    says(&ended, &format!("{APP_ID} events"), "doubtful");
    says(&ended, &format!("{APP_ID} clicks"), "doubtful");
    assert!(ended.out.contains("another program is connected as this application"), "{}", ended.out);
    assert!(ended.out.contains("docs/operations/relay.md") && ended.out.contains("application of its own"));
    standalone.terminate().await.with(0);
}

#[tokio::test]
async fn doctor_checks_both_addresses() {
    let (mut stage, _sim) = Stage::with_lark().await;
    stage.env.remove("DATABASE_URL");
    stage.env.remove("ENCRYPTION_KEYS");
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    // The redirect URI leads to the public listener.
    let public = stage.env["HTTP_ADDR"].clone();
    let private = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    stage.set("PUBLIC_HTTP_ADDR", public.clone());
    stage.set("HTTP_ADDR", private.to_string());
    let standalone = stage.standalone().await;
    standalone.says(&public).await;
    let ended = stage.run("doctor --json").await.with(0);
    for check in [format!("HTTP_ADDR {private}"), format!("PUBLIC_HTTP_ADDR {public}")] {
        says(&ended, &check, "ok");
    }
    assert!(ended.out.contains("works, but only for browsers on this machine"), "{}", ended.out);
    standalone.terminate().await.with(0);
    // The redirect URI leads to the listener for operators.
    stage.set("PUBLIC_HTTP_ADDR", private.to_string());
    stage.set("HTTP_ADDR", public);
    let standalone = stage.standalone().await;
    let ended = stage.run("doctor --json").await.with(0);
    assert!(ended.out.contains("does not serve this path"), "{}", ended.out);
    standalone.terminate().await.with(0);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stage.set("PUBLIC_HTTP_ADDR", taken.local_addr().unwrap().to_string());
    says(&stage.run("doctor --json").await.with(1), "PUBLIC_HTTP_ADDR", "wrong");
}

#[tokio::test]
async fn doctor_beside_degraded_standalone_names_failing_part() {
    let (mut stage, _sim) = Stage::with_lark().await;
    stage.env.remove("DATABASE_URL");
    stage.env.remove("ENCRYPTION_KEYS");
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    stage.set("AMQP_URL", "amqp://someone:broker-password@127.0.0.1:1/%2f");
    let standalone = stage.standalone().await;
    let ended = stage.run("doctor --json").await.with(1);
    says(&ended, "HTTP_ADDR", "ok");
    says(&ended, "running larkauth, bus", "doubtful");
    says(&ended, "broker", "wrong");
    assert!(ended.out.contains("docs/operations/health.md"), "{}", ended.out);
    assert!(!ended.out.contains("broker-password"), "{}", ended.out);
    standalone.terminate().await.with(0);
}

#[tokio::test]
async fn doctor_with_clock_skew_reports_clock() {
    let lark = MockServer::start().await;
    let then = chrono::DateTime::UNIX_EPOCH.to_rfc2822();
    let answer = ResponseTemplate::new(404).insert_header("date", then.as_str());
    Mock::given(any()).respond_with(answer).mount(&lark).await;
    let mut stage = Stage::new().await;
    stage.set("LARK_BASE_URL", lark.uri());
    let ended = stage.run("doctor --json").await.with(1);
    says(&ended, "Lark at 127.0.0.1", "ok");
    says(&ended, "clock", "wrong");
    assert!(ended.out.contains("ahead of Lark's"), "{}", ended.out);
}

#[tokio::test]
async fn doctor_reports_the_escrow_spool() {
    let mut stage = Stage::new().await;
    let folder = stage.database.path().with_file_name("spool");
    stage.set("ESCROW_SPOOL_DIR", folder.display().to_string());
    let spool = async |verdict: &str, detail: &str| {
        let ended = stage.run("doctor --json").await;
        says(&ended, "escrow spool", verdict);
        assert!(ended.out.contains(detail) && ended.out.contains("/spool"), "{}", ended.out);
    };
    spool("ok", "is empty").await;
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("1.reserve"), " ").unwrap();
    spool("doubtful", "1 of 64 are reserved").await;
    for number in 2..=64 {
        std::fs::write(folder.join(format!("{number}.reserve")), " ").unwrap();
    }
    spool("ok", "64 of 64 are reserved").await;
    std::fs::write(folder.join("x.broken"), "").unwrap();
    spool("doubtful", "1 files are unreadable").await;
    std::fs::write(folder.join("x.escrow"), "{}").unwrap();
    spool("doubtful", "1 pairs of tokens wait").await;
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "a file").unwrap();
    spool("wrong", "cannot be read").await;
}
