//! Backups that are made while standalone runs, and what a restored one means for the people in it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use larkauth_lark_sim::{SimHandle, ViolationKind};
use larkauth_models::ExposeSecret;
use larkauth_storage_postgres::testing::TestDatabase;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stage::{APP_ID, APP_SECRET, Process, Stage, TIMEOUT, agree, person};

const API_KEY: &str = "test-api-key-0123456789abcdef";
/// The job that asks people again runs once a minute.
const ASKED_WITHIN: Duration = Duration::from_secs(120);

/// A standalone on a folder of its own, with the file's own keys.
async fn on_a_folder() -> (Stage, SimHandle) {
    let (mut stage, sim) = Stage::with_lark().await;
    stage.env.remove("DATABASE_URL");
    stage.env.remove("ENCRYPTION_KEYS");
    with_settings(&mut stage);
    (stage, sim)
}

fn with_settings(stage: &mut Stage) {
    for (name, value) in [("APP_ID", APP_ID), ("APP_SECRET", APP_SECRET), ("API_KEY", API_KEY)] {
        stage.set(name, value);
    }
}

fn home(stage: &Stage) -> std::path::PathBuf {
    stage.database.path().parent().unwrap().to_owned()
}

/// Calls the REST API.
async fn api(stage: &Stage, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().unwrap();
    let url = format!("http://{}{path}", stage.env["HTTP_ADDR"]);
    let request = http.request(method, url).bearer_auth(API_KEY);
    let request = match &body {
        Some(body) => request.json(body),
        None => request,
    };
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn token(stage: &Stage, person: &str, query: &str) -> (StatusCode, Value) {
    api(stage, Method::GET, &format!("/v1/apps/{APP_ID}/users/{person}/token{query}"), None).await
}

async fn refresh(stage: &Stage, person: &str) -> (StatusCode, Value) {
    let path = format!("/v1/apps/{APP_ID}/users/{person}/token/refresh");
    api(stage, Method::POST, &path, Some(json!({}))).await
}

/// People who consented before the backup: one is refreshed after it, one is not. A third consents after it.
struct People {
    rotated: String,
    unchanged: String,
    late: String,
}

impl People {
    fn of(sim: &SimHandle) -> Self {
        Self { rotated: person(sim, 0), unchanged: person(sim, 1), late: person(sim, 2) }
    }
}

async fn authorize(stage: &Stage, sim: &SimHandle, person: &str) {
    let invitation = json!({ "app_id": APP_ID, "open_id": person });
    let (status, session) = api(stage, Method::POST, "/v1/auth/sessions", Some(invitation)).await;
    assert_eq!(status, StatusCode::CREATED, "{session}");
    agree(sim, person).await;
    let path = format!("/v1/auth/sessions/{}?wait=30", session["session_id"].as_str().unwrap());
    let (_, session) = api(stage, Method::GET, &path, None).await;
    assert_eq!(session["state"], "completed", "{session}");
}

/// Runs a command on the database of the stage. On PostgreSQL it wants a broker, and reads without one.
async fn command(stage: &mut Stage, arguments: &str) -> Value {
    let is_postgres = stage.env.get("DATABASE_URL").is_some_and(|url| url.starts_with("postgres"));
    if is_postgres {
        stage.set("AMQP_URL", "amqp://127.0.0.1:1/%2f");
    }
    let ended = stage.run(&format!("{arguments} --json")).await.with(0);
    stage.env.remove("AMQP_URL");
    ended.json()
}

/// What happens after the backup was made: one pair rotates at Lark, one person is new.
async fn go_on(stage: &Stage, sim: &SimHandle, people: &People, running: Process) {
    let (status, answer) = refresh(stage, &people.rotated).await;
    assert_eq!((status, &answer["generation"]), (StatusCode::OK, &2.into()), "{answer}");
    authorize(stage, sim, &people.late).await;
    running.terminate().await.with(0);
    assert!(sim.violations().is_empty(), "{:?}", sim.violations());
}

/// Checks the restored installation as docs/operations/backup.md describes it. `ask` has the person with the dead refresh token
/// asked.
async fn ends_as_documented(
    stage: &mut Stage,
    sim: &SimHandle,
    people: &People,
    ask: impl AsyncFnOnce(&Stage, &str),
) {
    // Before anything runs on it: reading changes nothing.
    let status = format!("token status --open-id {}", people.rotated);
    assert_eq!(command(stage, &status).await["generation"], 1);
    let running = stage.standalone().await;

    // The person whose pair has rotated since: the access token of the backup is served while it is valid by its time; the
    // refresh token is used up, which ends this login and nothing else.
    let (served, first) = token(stage, &people.rotated, "").await;
    assert_eq!((served, &first["generation"]), (StatusCode::OK, &1.into()), "{first}");
    let (refused, problem) = refresh(stage, &people.rotated).await;
    assert_eq!(
        (refused, &problem["code"]),
        (StatusCode::NOT_FOUND, &"authentication_required".into()),
        "{problem}"
    );
    assert_eq!(command(stage, &status).await["status"], "reauthorization_required");
    let horizon = command(stage, "horizon").await;
    assert_eq!(horizon["counts"]["reauthorization_required"], 1, "{horizon}");
    let replayed = sim.violations();
    assert!(
        replayed.len() == 1 && replayed[0].kind == ViolationKind::RefreshReplayed,
        "one attempt, with one token: {replayed:?}"
    );

    // Another person's login, and the application, are as before.
    let (status_of_other, other) = refresh(stage, &people.unchanged).await;
    assert_eq!((status_of_other, &other["generation"]), (StatusCode::OK, &2.into()), "{other}");
    let app = command(stage, &format!("apps show {APP_ID}")).await;
    assert_eq!((&app["frozen_since"], &app["enabled"]), (&Value::Null, &true.into()), "{app}");

    // Who consented after the backup is unknown, and has to be asked by a caller.
    let (unknown, problem) = token(stage, &people.late, "").await;
    assert_eq!((unknown, &problem["code"]), (StatusCode::NOT_FOUND, &"authentication_required".into()));

    // The first person is asked again, says yes, and is served.
    ask(stage, &people.rotated).await;
    // Orange when larkauth asks by itself, blue when a caller does.
    let is_open = |card: &Value| ["orange", "blue"].contains(&card["header"]["template"].as_str().unwrap());
    let card = sim.wait_for_card(&people.rotated, ASKED_WITHIN, is_open).await.unwrap();
    let click = sim.click(&card.message_id, "authorize", &people.rotated).await.unwrap();
    let redirect = sim.consent(&click.url.unwrap(), &people.rotated).await.unwrap();
    sim.follow(&redirect).await.unwrap();
    let is_done = |sim: &larkauth_lark_sim::Sim| {
        sim.card(&card.message_id).filter(|card| card["header"]["template"] == "green")
    };
    sim.wait_until(TIMEOUT, is_done).await.unwrap();
    let (served, new) = token(stage, &people.rotated, "").await;
    assert_eq!(served, StatusCode::OK, "{new}");
    assert_ne!(new["access_token"], first["access_token"]);
    assert_eq!(command(stage, &status).await["status"], "active");
    running.terminate().await.with(0);
}

#[tokio::test]
async fn restored_backup_ends_only_refreshed_logins_and_asks_their_people() {
    let (mut stage, sim) = on_a_folder().await;
    let (people, home) = (People::of(&sim), home(&stage));
    let running = stage.standalone().await;
    authorize(&stage, &sim, &people.rotated).await;
    authorize(&stage, &sim, &people.unchanged).await;

    let made = stage.run("backup yesterday.db --json").await.with(0);
    let result = made.json_lines().pop().unwrap();
    let file = home.join("yesterday.db");
    assert_eq!(result["bytes"], fs::metadata(&file).unwrap().len());
    assert_eq!(result["encryption_keys"], json!(["main"]));
    assert!(result["encryption_keys_file"].as_str().unwrap().ends_with("data/encryption-keys"), "{result}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let audit = stage.run("audit --action database.backup --json").await.with(0).json();
    assert_eq!((audit.as_array().unwrap().len(), &audit[0]["outcome"]), (1, &"ok".into()), "{audit}");
    go_on(&stage, &sim, &people, running).await;

    // Restored into an empty folder, with the keys.
    let restored = home.join("restored");
    fs::create_dir(&restored).unwrap();
    fs::copy(&file, restored.join("larkauth.db")).unwrap();
    stage.set("DATA_DIR", restored.display().to_string());
    let ended = stage.run("standalone").await.with(1);
    assert!(ended.err.contains("put the key file back"), "worthless without its keys: {}", ended.err);
    fs::copy(home.join("data/encryption-keys"), restored.join("encryption-keys")).unwrap();
    let in_copy = stage.run("audit --action database.backup --json").await.with(0).json();
    assert_eq!(in_copy.as_array().unwrap().len(), 1, "the copy holds its own record");
    // larkauth asks by itself.
    ends_as_documented(&mut stage, &sim, &people, async |_, _| {}).await;
}

#[tokio::test]
async fn restored_pg_dump_ends_only_refreshed_logins_and_asks_their_people() {
    if Command::new("pg_dump").arg("--version").output().is_err() {
        eprintln!("pg_dump is not installed: backups of PostgreSQL are NOT tested");
        return;
    }
    let (mut stage, sim) = Stage::with_lark().await;
    with_settings(&mut stage);
    let (people, home) = (People::of(&sim), home(&stage));
    let (database, empty) = (TestDatabase::create().await, TestDatabase::create_empty().await);
    stage.set("DATABASE_URL", database.url().expose_secret());
    let running = stage.standalone().await;
    authorize(&stage, &sim, &people.rotated).await;
    authorize(&stage, &sim, &people.unchanged).await;

    // The command says what to run, and that is what runs here.
    let ended = stage.run("backup yesterday.dump").await.with(2);
    let dump = ended.err.split('`').nth(1).unwrap_or_else(|| panic!("{}", ended.err));
    shell(&home, dump);
    let mode = fs::metadata(home.join("yesterday.dump")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    go_on(&stage, &sim, &people, running).await;

    let into = empty.url();
    shell(
        &home,
        &format!(
            "pg_restore --exit-on-error --single-transaction --no-owner --dbname='{}' yesterday.dump",
            into.expose_secret()
        ),
    );
    stage.set("DATABASE_URL", into.expose_secret());
    stage.set("DATA_DIR", home.join("restored").display().to_string());
    // The drill: commands that read need no broker, and send nothing to Lark.
    let calls = sim.stats();
    let keys = command(&mut stage, "encryption-keys list").await;
    assert_eq!((&keys[0]["configured"], &keys[0]["unreadable"]), (&true.into(), &0.into()), "{keys}");
    command(&mut stage, "horizon --within 1d").await;
    assert_eq!(command(&mut stage, "session list --limit 3").await.as_array().unwrap().len(), 2);
    assert_eq!(sim.stats(), calls);
    // The access token of a backup ends. A caller then need not wait for larkauth to ask.
    let by_caller = async |stage: &Stage, person: &str| {
        let expire = "update access_tokens set access_expires_at = now() where open_id = $1";
        sqlx::query(expire).bind(person).execute(&mut empty.connection().await).await.unwrap();
        let problem = tokio::time::timeout(TIMEOUT, async {
            loop {
                match token(stage, person, "?on_missing=card").await {
                    // Read from memory, for up to a second.
                    (StatusCode::OK, _) => tokio::time::sleep(Duration::from_millis(50)).await,
                    (StatusCode::NOT_FOUND, problem) => return problem,
                    (status, problem) => panic!("{status}: {problem}"),
                }
            }
        });
        assert!(problem.await.unwrap()["session_id"].is_string());
    };
    ends_as_documented(&mut stage, &sim, &people, by_caller).await;
}

fn shell(folder: &Path, command: &str) {
    let ended = Command::new("sh").args(["-c", command]).current_dir(folder).output().unwrap();
    assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test]
async fn backup_never_replaces_a_file_and_leaves_none_behind() {
    let stage = Stage::new().await;
    let home = home(&stage);
    stage.run("backup one.db").await.with(0);
    let before = fs::read(home.join("one.db")).unwrap();
    fs::write(home.join("two.db-wal"), "of another database").unwrap();
    std::os::unix::fs::symlink("nowhere", home.join("three.db")).unwrap();
    for (file, named) in [
        ("one.db", "one.db exists"),
        ("two.db", "two.db-wal exists"),
        ("three.db", "three.db exists"),
        ("larkauth.db", "larkauth.db exists"),
        // SQLite deletes these at the next start.
        ("larkauth.db-journal", "larkauth.db-journal ends with -journal"),
        ("four.db-wal", "four.db-wal ends with -wal"),
        ("four.db-shm", "four.db-shm ends with -shm"),
    ] {
        let ended = stage.run(&format!("backup {file}")).await.with(2);
        assert!(ended.err.contains(named), "{file}: {}", ended.err);
    }
    let ended = stage.run("backup no-such-folder/one.db").await.with(1);
    assert!(ended.err.contains("no-such-folder"), "{}", ended.err);
    assert_eq!(fs::read(home.join("one.db")).unwrap(), before);
    let names = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = names.filter(|name| name.starts_with(".larkauth-backup-")).collect();
    assert!(left.is_empty(), "{left:?}");
}
