use larkauth_storage::{ApiKeys, testing::test_cipher};
use larkauth_storage_sqlite::SqliteStore;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::stage::{APP_ID, APP_SECRET, Stage};

#[tokio::test]
async fn keys_create_shows_key_once_and_stores_its_hash() {
    let stage = Stage::new().await;
    let ended = stage.run("keys create --name crm --scope tokens:read --scope sessions:read").await.with(0);
    let key = ended.out.trim();
    assert!(key.starts_with("lak_") && key.len() == 53 && ended.out.lines().count() == 1, "{}", ended.out);
    assert!(ended.err.contains("only time") && !ended.err.contains(key), "{}", ended.err);

    let store = SqliteStore::open(&stage.database.options(), test_cipher()).await.unwrap();
    let stored = store.api_key(&Sha256::digest(key.as_bytes()).into()).await.unwrap().unwrap();
    assert_eq!(stored.scopes, ["sessions:read", "tokens:read"]);

    let list = stage.run("keys list --json").await.with(0);
    assert!(!list.out.contains(key));
    let id = list.json()[0]["id"].as_str().unwrap().to_owned();
    let revoked = stage.run(&format!("keys revoke {id}")).await.with(0);
    assert!(revoked.out.contains("is revoked") && revoked.out.contains("within 1 s"), "{}", revoked.out);
    assert!(stage.run("keys list").await.with(0).out.contains("\tcrm\tsessions:read tokens:read\tall\t"));
    stage.run(&format!("keys revoke {id}")).await.with(3);
    let name = stage.run("keys revoke crm").await.with(2);
    assert!(name.err.contains("not the id of a key; `larkauth keys list` shows the ids"), "{}", name.err);
}

#[tokio::test]
async fn keys_create_prints_json_and_refuses_missing_scope() {
    let stage = Stage::new().await;
    let key = stage.run("keys create --name all --scope * --json").await.with(0).json();
    assert_eq!(key["scopes"], json!(["*"]));
    assert!(key["key"].as_str().unwrap().starts_with("lak_"));
    stage.run("keys create --name none").await.with(2);
    stage.run("keys create --name none --scope everything").await.with(2);
}

#[tokio::test]
async fn keys_create_takes_lists_with_commas_and_refuses_what_is_not_there() {
    let stage = Stage::new().await;
    stage.run_with(&["apps", "add", APP_ID], &format!("{APP_SECRET}\n")).await.with(0);
    let create = "keys create --name crm --scope tokens:read,sessions:read";
    let lists = format!("{create} --lark-scope contact:read,im:message --for-app {APP_ID},{APP_ID} --json");
    stage.run(&lists).await.with(0);
    let listed = stage.run("keys list --json").await.with(0).json();
    assert_eq!(listed[0]["scopes"], json!(["sessions:read", "tokens:read"]));
    assert_eq!(listed[0]["lark_scopes"], json!(["contact:read", "im:message"]));
    assert_eq!(listed[0]["app_ids"][0], json!(APP_ID));
    for scope in ["a;b", "a\"b", "a b", ""] {
        let arguments = ["keys", "create", "--name", "crm", "--scope", "*", "--lark-scope", scope];
        stage.run_with(&arguments, "").await.with(2);
    }
    let unknown = stage.run(&format!("{create} --for-app {APP_ID},cli_unknown000000000")).await.with(3);
    assert!(unknown.err.contains("cli_unknown000000000 is not registered"), "{}", unknown.err);
    assert_eq!(stage.run("keys list --json").await.with(0).json().as_array().unwrap().len(), 1);
}
