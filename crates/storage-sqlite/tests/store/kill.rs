//! Durability: a killed process loses no confirmed write.

use std::{path::PathBuf, process::Stdio, time::Duration};

use larkauth_models::{ExposeSecret, SessionState, TokenKind};
use larkauth_storage::{
    Sessions, Tokens,
    testing::{TestAuthorization, test_cipher},
};
use larkauth_storage_sqlite::{SqliteOptions, SqliteStore, testing::TestSqlite};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

const FILE: &str = "LARKAUTH_TEST_KILL_FILE";
const FIRST: &str = "LARKAUTH_TEST_KILL_FIRST";

/// Body of the child process. Does nothing when the test runner runs it as a test.
#[tokio::test]
async fn child_process_authorizes_until_killed() {
    let Ok(path) = std::env::var(FILE) else { return };
    let first: u32 = std::env::var(FIRST).unwrap().parse().unwrap();
    let options = SqliteOptions {
        path: PathBuf::from(path),
        create: false,
        max_readers: 1,
        statement_deadline: Duration::from_secs(10),
    };
    let store = SqliteStore::open(&options, test_cipher()).await.unwrap();
    for number in first.. {
        let authorization = TestAuthorization::new(number);
        authorization.invite(&store).await;
        println!("\ninvited {number}");
        authorization.complete(&store).await;
        println!("\ncompleted {number}");
    }
}

#[tokio::test]
async fn write_confirmed_before_kill_persists() {
    let database = TestSqlite::create().await;
    let store = database.store().await;
    TestAuthorization::new(0).register(&store).await;
    let (mut invited, mut completed) = (Vec::new(), Vec::new());
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child_process_authorizes_until_killed", "--nocapture"])
            .env(FILE, database.path())
            .env(FIRST, (round * 100_000).to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let goal = completed.len() + 30;
        let watch = async {
            // Reads to the end of the output: lines printed before the kill count even when they are read afterwards.
            while let Some(line) = lines.next_line().await.unwrap() {
                match line.split_once(' ') {
                    Some(("invited", number)) => invited.push(number.parse::<u32>().unwrap()),
                    Some(("completed", number)) => completed.push(number.parse::<u32>().unwrap()),
                    _ => {}
                }
                if completed.len() == goal {
                    child.start_kill().unwrap();
                }
            }
        };
        timeout(Duration::from_secs(60), watch).await.unwrap();
        assert!(!child.wait().await.unwrap().success());
        assert!(completed.len() >= goal);
    }
    // Both the store that stayed open and a store opened afterwards see the rows.
    for store in [store, database.store().await] {
        for number in &invited {
            assert!(store.session(TestAuthorization::new(*number).session_id).await.unwrap().is_some());
        }
        for number in &completed {
            let authorization = TestAuthorization::new(*number);
            let session = store.session(authorization.session_id).await.unwrap().unwrap();
            assert_eq!(session.state, SessionState::Completed);
            let token = store.token(&authorization.app_id, &authorization.open_id, TokenKind::User).await;
            let pair = token.unwrap().unwrap().pair;
            assert_eq!(pair.access_token.readable().unwrap().expose_secret(), authorization.access_token());
        }
    }
    let whole: String = sqlx::query_scalar("pragma integrity_check")
        .fetch_one(&mut database.connection().await)
        .await
        .unwrap();
    assert_eq!(whole, "ok");
}
