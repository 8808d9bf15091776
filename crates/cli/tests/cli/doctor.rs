use serde_json::Value;

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
async fn an_unreachable_lark_is_told_with_its_step() {
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
async fn a_wrong_secret_is_the_applications_fault() {
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
async fn keys_that_open_nothing_and_settings_that_cannot_be_read() {
    let mut stage = Stage::new().await;
    stage.run_with(&["apps", "add", APP_ID], &format!("{APP_SECRET}\n")).await.with(0);
    stage.set("ENCRYPTION_KEYS", "other:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwA=");
    says(&stage.run("doctor --json").await.with(1), "encryption keys", "wrong");
    stage.set("HTTP_ADDR", "nowhere");
    let ended = stage.run("doctor --json").await.with(1);
    assert_eq!(verdicts(&ended), [("settings".to_owned(), "wrong".to_owned())]);
}

#[tokio::test]
async fn a_fresh_machine_is_told_what_to_do_first() {
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
