use larkauth_models::{Clock, SystemClock, Timestamp};
use larkauth_storage::{
    Applications, EncryptionKeys,
    testing::{TestAuthorization, test_cipher},
};
use larkauth_storage_sqlite::SqliteStore;
use serde_json::{Value, json};

use crate::stage::Stage;

/// A new key before the one of the stage.
const BOTH: &str =
    "new:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=,test:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const NEW: &str = "new:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

async fn store(stage: &Stage) -> SqliteStore {
    SqliteStore::open(&stage.database.options(), test_cipher()).await.unwrap()
}

/// Three people who have authorized, and one who has not answered.
async fn filled() -> Stage {
    let stage = Stage::new().await;
    let store = store(&stage).await;
    store.note_key_use("test").await.unwrap();
    let first = TestAuthorization::new(1);
    first.run(&store).await;
    for number in 2..=3 {
        let authorization = TestAuthorization::new(number);
        authorization.invite(&store).await;
        authorization.complete(&store).await;
    }
    TestAuthorization::new(4).invite(&store).await;
    stage
}

/// Two minutes pass without a service.
async fn no_key_in_use(stage: &Stage) {
    let mut db = stage.database.connection().await;
    sqlx::query("update encryption_key_uses set sealed_at = null").execute(&mut db).await.unwrap();
}

fn rows(listed: &Value) -> Vec<(&str, bool, bool, u64)> {
    let keys = listed.as_array().unwrap().iter();
    let row = keys.map(|key| {
        let id = key["id"].as_str().unwrap();
        (id, key["first"] == true, key["configured"] == true, key["rows"].as_u64().unwrap())
    });
    row.collect()
}

#[tokio::test]
async fn encryption_keys_rotate_then_retire_and_work_without_old_key() {
    let mut stage = filled().await;
    stage.set("ENCRYPTION_KEYS", BOTH);
    let listed = stage.run("encryption-keys list --json").await.with(0).json();
    // The application; three tokens, profiles and sessions; the pending session.
    assert_eq!(rows(&listed), [("new", true, true, 0), ("test", false, true, 11)]);
    let needed = stage.run("encryption-keys retire test").await.with(1);
    assert!(needed.err.contains("a process has encrypted with test"), "{}", needed.err);
    let first = stage.run("encryption-keys retire new").await.with(2);
    assert!(first.err.contains("which encrypts"), "{}", first.err);

    // A service that encrypts with the old key may lack the new one.
    let refused = stage.run("encryption-keys rotate").await.with(1);
    assert!(
        refused.err.contains("encrypted with test within the last two minutes")
            && refused.err.contains("may not have the key new"),
        "{}",
        refused.err
    );
    let listed = stage.run("encryption-keys list --json").await.with(0).json();
    assert_eq!(rows(&listed), [("new", true, true, 0), ("test", false, true, 11)], "nothing is changed");
    no_key_in_use(&stage).await;
    let rotated = stage.run("encryption-keys rotate --json").await.with(0);
    assert!(rotated.err.contains("A process without it cannot read them"), "{}", rotated.err);
    assert!(rotated.err.contains("encrypting again access_tokens: 3 rows"), "{}", rotated.err);
    assert_eq!(
        rotated.json(),
        json!({
            "first_key": "new", "rows": 11, "encrypted_again": 11, "verified": true, "stopped": false,
            "remaining": [],
        })
    );
    let again = stage.run("encryption-keys rotate").await.with(0);
    assert!(again.out.contains("0 of 11 rows") && again.out.contains("verified"), "{}", again.out);
    let list = stage.run("encryption-keys list").await.with(0);
    assert!(list.out.contains("new\tencrypts\t11\t"), "{}", list.out);

    // A service that lacks the key which is noted is not ready, and doctor says so.
    stage.set("ENCRYPTION_KEYS", NEW);
    let doctor = stage.run("doctor --json").await.with(1);
    assert!(doctor.out.contains("stored values may need the key test"), "{}", doctor.out);
    stage.set("ENCRYPTION_KEYS", BOTH);
    no_key_in_use(&stage).await;
    let retired = stage.run("encryption-keys retire test --json").await.with(0).json();
    assert_eq!(retired, json!({ "id": "test", "retired": true }));
    stage.run("encryption-keys retire test").await.with(3);
    stage.set("ENCRYPTION_KEYS", NEW);
    let TestAuthorization { open_id, .. } = TestAuthorization::new(2);
    let shown = stage.run(&format!("token show --open-id {open_id} --json")).await.with(0).json();
    assert!(shown["access_token_hint"].as_str().unwrap().starts_with("needle"), "{shown}");
    let audit = stage.run("audit --json").await.with(0);
    for action in ["encryption_key.rotate", "encryption_key.retire", "encryption_key.list"] {
        assert!(audit.out.contains(action), "{action}: {}", audit.out);
    }
}

#[tokio::test]
async fn commands_with_foreign_keys_note_none_of_them() {
    let mut stage = filled().await;
    stage.set("ENCRYPTION_KEYS", NEW);
    stage.run("horizon").await.with(0);
    let refused = stage.run("card send --open-id ou_1").await.with(1);
    assert!(refused.err.contains("stored values may need the encryption keys test"), "{}", refused.err);
    let refused = stage.run("encryption-keys rotate --force").await.with(1);
    assert!(refused.err.contains("open none of the stored applications"), "{}", refused.err);
    stage.set("ENCRYPTION_KEYS", BOTH);
    let listed = stage.run("encryption-keys list --json").await.with(0).json();
    assert_eq!(rows(&listed), [("new", true, true, 0), ("test", false, true, 11)]);
    assert!(listed[0]["last_sealed_at"].is_null(), "{listed}");
}

#[tokio::test]
async fn encryption_keys_rotate_with_unreadable_value_reports_it() {
    let mut stage = filled().await;
    let mut db = stage.database.connection().await;
    let damage =
        "update access_tokens set refresh_token_sealed = (select email_sealed from user_profiles limit 1)
                  where open_id = 'ou_3'";
    sqlx::query(damage).execute(&mut db).await.unwrap();
    stage.set("ENCRYPTION_KEYS", BOTH);
    let ended = stage.run("encryption-keys rotate --force --json").await.with(1);
    assert!(ended.err.contains("cannot read the values that are encrypted again"), "{}", ended.err);
    let result = ended.json();
    assert_eq!((&result["verified"], &result["remaining"][0]["unreadable"]), (&json!(false), &json!(1)));
    assert!(
        ended.err.contains("access_tokens.refresh_token_sealed of row") && ended.err.contains("ou_3/user")
    );
    stage.set("ENCRYPTION_KEYS", "other:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
    stage.run("encryption-keys retire new").await.with(1);
}

#[tokio::test]
async fn token_status_and_horizon_show_no_secret() {
    let mut stage = filled().await;
    let store = store(&stage).await;
    let now = SystemClock.now().timestamp_micros();
    let mut db = stage.database.connection().await;
    let later =
        "update access_tokens set access_expires_at = ?1 + 3600000000, granted_at = ?1, refresh_expires_at =
                 case open_id when 'ou_1' then ?1 + 86400000000 else ?1 + 5 * 86400000000 end,
                 next_attempt_at = case open_id when 'ou_1' then null else ?1 + 86400000000 end";
    sqlx::query(later).bind(now).execute(&mut db).await.unwrap();
    let suspend = "update access_tokens set status = 'suspended' where open_id = 'ou_2'";
    sqlx::query(suspend).execute(&mut db).await.unwrap();

    let TestAuthorization { app_id, open_id, .. } = TestAuthorization::new(1);
    let status = format!("token status --app-id {app_id} --open-id {open_id}");
    let shown = stage.run(&format!("{status} --json")).await.with(0).json();
    assert_eq!(
        (&shown["status"], &shown["served"], &shown["generation"]),
        (&json!("active"), &json!(true), &json!(1))
    );
    assert_eq!((&shown["access_token_key"], &shown["unreadable"]), (&json!("test"), &json!([])));
    let ends: Timestamp = shown["consent_ends_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(ends.timestamp_micros(), now + 365 * 86_400_000_000);
    let text = stage.run(&status).await.with(0);
    assert!(
        text.out.contains("next_attempt     -\n") && text.out.contains("lease            -\n"),
        "{}",
        text.out
    );
    stage.run("token status --open-id ou_unknown").await.with(3);

    let horizon = stage.run("horizon --json").await.with(0).json();
    let people: Vec<_> =
        horizon["people"].as_array().unwrap().iter().map(|p| (&p["open_id"], &p["reason"])).collect();
    assert_eq!(
        people,
        [(&json!("ou_2"), &json!("suspended")), (&json!("ou_1"), &json!("refresh_token_expires"))]
    );
    assert_eq!(horizon["counts"], json!({ "refresh_token_expires": 1, "suspended": 1 }));
    assert_eq!((&horizon["more"], &horizon["people"][0]["lost"]), (&json!(false), &json!(true)));
    let one = stage.run("horizon --limit 1").await.with(0);
    assert_eq!(one.out.lines().count(), 1, "{}", one.out);
    assert!(one.err.contains("There are more") && one.err.contains("suspended: 1"), "{}", one.err);
    assert_eq!(stage.run("horizon --within 2h").await.with(0).out.lines().count(), 1);
    let reason = Some("20002: wrong secret");
    assert!(store.set_application_frozen(&app_id, reason, SystemClock.now()).await.unwrap());
    let frozen = stage.run("horizon --within 2h --json").await.with(0).json();
    assert_eq!(frozen["counts"]["breaker_open"], 2, "{frozen}");
    let doctor = stage.run("doctor --json").await.with(1);
    assert!(doctor.out.contains("breaker") && doctor.out.contains("20002: wrong secret"), "{}", doctor.out);

    stage.set("ENCRYPTION_KEYS", NEW);
    let closed = stage.run("horizon --json").await.with(0).json();
    assert_eq!(closed["unreadable"], json!({ "test": 3 }));
    let people = closed["people"].as_array().unwrap().iter();
    let people: Vec<_> = people.filter(|p| p["reason"] == "encryption_key_missing").collect();
    assert_eq!(people.iter().map(|p| &p["open_id"]).collect::<Vec<_>>(), ["ou_1", "ou_2", "ou_3"]);
    assert!(people.iter().all(|p| p["lost"] == true), "{closed}");
    let listed = stage.run("horizon").await.with(0);
    assert_eq!(listed.out.matches("encryption_key_missing").count(), 3, "{}", listed.out);
    assert!(listed.err.contains("3 tokens cannot be read"), "{}", listed.err);
}
