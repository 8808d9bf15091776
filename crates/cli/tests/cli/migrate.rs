use larkauth_messaging::{Bus, testing::eventually};
use larkauth_messaging_sqlite::{EmbeddedBus, EmbeddedOptions};
use larkauth_models::{ExposeSecret, TokenKind};
use larkauth_storage::{
    Store, Tokens,
    testing::{TestAuthorization, act},
    transfer::{Table, Transfer},
};
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_telemetry::Metrics;
use sqlx::Connection;

use crate::{
    dead_letters::{invitation, unrecognized},
    stage::{APP_ID, APP_SECRET, Stage},
};

/// A source with three authorized people and an empty target, and the arguments that move one to the other.
async fn to_move() -> (Stage, TestDatabase, String) {
    let (stage, target) = (Stage::new().await, TestDatabase::create_empty().await);
    let source = stage.database.store().await;
    TestAuthorization::new(1).register(&source).await;
    for number in 1..=3 {
        let authorization = TestAuthorization::new(number);
        authorization.invite(&source).await;
        authorization.complete(&source).await;
    }
    source.close().await;
    let (from, to) = (stage.database.path(), target.url());
    let moving = format!("migrate --from sqlite:{} --to {}", from.display(), to.expose_secret());
    (stage, target, moving)
}

async fn is_untouched(target: &TestDatabase) -> bool {
    let mut db = target.connection().await;
    let tables: i64 = sqlx::query_scalar("select count(*) from pg_tables where schemaname = 'public'")
        .fetch_one(&mut db)
        .await
        .unwrap();
    tables == 0
}

#[tokio::test]
async fn migrate_of_missing_file_creates_it() {
    let mut stage = Stage::new().await;
    stage.set("DATABASE_URL", "sqlite:new.db");
    for _ in 0..2 {
        stage.run("migrate").await.with(0);
    }
    stage.run("apps list").await.with(0);
    // A data folder comes with its keys.
    stage.env.remove("DATABASE_URL");
    let ended = stage.run("migrate").await.with(2);
    assert!(ended.err.contains("larkauth standalone") && ended.err.contains("DATABASE_URL"), "{}", ended.err);
    assert!(!stage.database.path().with_file_name("data").exists());
    for wrong in [
        "--from sqlite:new.db",
        "--from sqlite:none.db --to sqlite:other.db",
        "--from new.db --to sqlite:other.db",
    ] {
        let ended = stage.run(&format!("migrate {wrong}")).await.with(2);
        assert!(ended.err.contains("--from") || ended.err.contains("--to"), "{wrong}: {}", ended.err);
    }
    assert!(!stage.database.path().with_file_name("other.db").exists());
}

#[tokio::test]
async fn migrate_with_running_standalone_or_missing_keys_changes_nothing() {
    let (mut stage, _sim) = Stage::with_lark().await;
    let target = TestDatabase::create_empty().await;
    let url = target.url().expose_secret().to_owned();
    let moving = format!("migrate --from sqlite:data/larkauth.db --to {url}");
    stage.env.remove("DATABASE_URL");
    stage.env.remove("ENCRYPTION_KEYS");
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    let standalone = stage.standalone().await;
    let ended = stage.run(&moving).await.with(1);
    assert!(ended.err.contains("another larkauth") && ended.err.contains("stop it"), "{}", ended.err);
    // Also when it keeps only its lock in the data folder, and everything else on a server.
    let ended = stage.run(&format!("migrate --from {url} --to sqlite:back.db")).await.with(1);
    assert!(ended.err.contains("another larkauth"), "{}", ended.err);
    standalone.terminate().await.with(0);

    let ended = stage.run(&moving).await.with(2);
    assert!(ended.err.contains("ENCRYPTION_KEYS_FILE=data/encryption-keys"), "{}", ended.err);
    assert!(is_untouched(&target).await);
    stage.set("ENCRYPTION_KEYS_FILE", "data/encryption-keys");
    stage.run(&moving).await.with(0);
}

#[tokio::test]
async fn migrate_with_waiting_messages_is_refused() {
    let (stage, target, moving) = to_move().await;
    let options = EmbeddedOptions::new(stage.database.path(), Metrics::new().unwrap());
    let bus = EmbeddedBus::open(options).await.unwrap();
    bus.publish(unrecognized(1)).await.unwrap();
    bus.publish(invitation()).await.unwrap();
    let ended = stage.run(&moving).await.with(1);
    assert!(ended.err.contains("still to be handled: 1"), "{}", ended.err);
    assert!(ended.err.contains("larkauth standalone"), "{}", ended.err);
    assert!(is_untouched(&target).await);

    // Handled messages allow the move. Dead letters stay behind and are reported.
    sqlx::query("delete from bus_messages where place = 'invitations'")
        .execute(&mut stage.database.connection().await)
        .await
        .unwrap();
    let ended = stage.run(&moving).await.with(0);
    assert!(ended.err.contains("dead letters that stay behind: 1"), "{}", ended.err);
    bus.close().await;
}

#[tokio::test]
async fn migrate_with_tokens_in_the_spool_is_refused() {
    let (stage, target, moving) = to_move().await;
    let spool = stage.database.path().parent().unwrap().join("escrow");
    std::fs::create_dir_all(&spool).unwrap();
    let file = spool.join("0123456789abcdef.escrow");
    std::fs::write(&file, "{}").unwrap();
    let ended = stage.run(&moving).await.with(1);
    assert!(ended.err.contains("has not taken yet: 1 in the spool"), "{}", ended.err);
    assert!(is_untouched(&target).await);
    std::fs::remove_file(&file).unwrap();
    stage.run(&moving).await.with(0);
}

#[tokio::test]
async fn migrate_with_wrong_keys_is_refused_before_copying() {
    let (mut stage, target, moving) = to_move().await;
    stage.set("ENCRYPTION_KEYS", "other:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    let ended = stage.run(&moving).await.with(1);
    assert!(ended.err.contains("nothing was copied") && ended.err.contains("key `test`"), "{}", ended.err);
    assert!(is_untouched(&target).await);
}

#[tokio::test]
async fn migrate_into_differing_target_is_reported() {
    let (stage, target, moving) = to_move().await;
    let ended = stage.run(&moving).await.with(0);
    assert!(ended.out.contains("access_tokens  3 rows, 3 of them new"), "{}", ended.out);
    assert!(stage.run(&moving).await.with(0).out.contains("3 rows, 0 of them new"));

    let store = target.store().await;
    let second = TestAuthorization::new(2);
    let TestAuthorization { app_id, open_id, .. } = &second;
    assert!(store.revoke_token(app_id, open_id, TokenKind::User, &act(second.started_at())).await.unwrap());
    let ended = stage.run(&moving).await.with(1);
    let line = format!("✗ access_tokens  0 rows are missing, 1 differ: {app_id}/{open_id}/user\n");
    assert!(ended.out.contains(&line), "{}", ended.out);
    assert!(!ended.out.contains("everything is there"), "{}", ended.out);
    assert!(store.token(app_id, open_id, TokenKind::User).await.unwrap().is_none(), "it stays");
    store.close().await;
}

#[tokio::test]
async fn migrate_after_kill_continues() {
    let (stage, target, moving) = to_move().await;
    let store = target.store().await;
    store.migrate().await.unwrap();
    // It comes as far as the tokens, and waits for the profiles.
    let mut holding = target.connection().await;
    let mut lock = holding.begin().await.unwrap();
    sqlx::query("lock table user_profiles in access exclusive mode").execute(&mut *lock).await.unwrap();
    let process = stage.start(&moving.split(' ').collect::<Vec<_>>()).await;
    eventually("the tokens are there", || async { store.count(Table::Tokens).await.unwrap() == 3 }).await;
    process.kill().await;
    lock.rollback().await.unwrap();
    assert_eq!(store.count(Table::Profiles).await.unwrap(), 0);

    let ended = stage.run(&moving).await.with(0);
    for line in ["access_tokens  3 rows, 0 of them new", "user_profiles  3 rows, 3 of them new", "the same"] {
        assert!(ended.out.contains(line), "{line}: {}", ended.out);
    }
    store.close().await;
}

#[tokio::test]
async fn migrate_to_its_own_source_is_refused_under_any_address() {
    let (stage, target, moving) = to_move().await;
    stage.run(&moving).await.with(0);
    let path = stage.database.path();
    let folder = path.parent().unwrap();
    std::os::unix::fs::symlink(&path, folder.join("symbolic.db")).unwrap();
    std::fs::hard_link(&path, folder.join("hard.db")).unwrap();
    let sqlite = path.display().to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    for alias in [sqlite.clone(), format!("./{name}"), "symbolic.db".to_owned(), "hard.db".to_owned()] {
        let ended = stage.run(&format!("migrate --from sqlite:{alias} --to sqlite:{sqlite}")).await.with(2);
        assert!(ended.err.contains("--from is the database") && ended.err.contains("--to"), "{}", ended.err);
    }

    let postgres = url::Url::parse(target.url().expose_secret()).unwrap();
    let mut by_name = postgres.clone();
    by_name.set_host(Some("localhost")).unwrap();
    let mut by_parameters = postgres.clone();
    by_parameters.set_path("/");
    by_parameters.query_pairs_mut().append_pair("host", postgres.host_str().unwrap());
    by_parameters.query_pairs_mut().append_pair("dbname", postgres.path().trim_start_matches('/'));
    for alias in [&postgres, &by_name, &by_parameters] {
        let ended = stage.run(&format!("migrate --from {postgres} --to {alias}")).await.with(2);
        assert!(ended.err.contains("--from is the database"), "{}", ended.err);
    }
    let other = TestDatabase::create_empty().await;
    stage.run(&format!("migrate --from {postgres} --to {}", other.url().expose_secret())).await.with(0);
}
