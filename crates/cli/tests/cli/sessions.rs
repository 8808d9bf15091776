use larkauth_storage::{Store, testing::TestAuthorization};

use crate::stage::Stage;

async fn with_sessions(count: u32) -> Stage {
    let stage = Stage::new().await;
    let store = stage.database.store().await;
    TestAuthorization::new(1).register(&store).await;
    for number in 1..=count {
        TestAuthorization::new(number).invite(&store).await;
    }
    TestAuthorization::new(1).complete(&store).await;
    store.close().await;
    stage
}

#[tokio::test]
async fn session_list_with_more_pages_names_the_next() {
    let stage = with_sessions(3).await;
    let first = stage.run("session list --limit 2").await.with(0);
    assert_eq!(first.out.lines().count(), 2);
    let more = first.err.lines().find_map(|line| line.split_once("add --after ")).unwrap().1.to_owned();
    let second = stage.run(&format!("session list --limit 2 --after {more}")).await.with(0);
    assert!(second.out.contains("\tou_1\tcompleted\t") && second.err.is_empty(), "{second:?}");
    assert_eq!(second.out.lines().count(), 1);

    let pending = stage.run("session list --state pending --open-id ou_2 --json").await.with(0).json();
    assert_eq!(pending.as_array().unwrap().len(), 1);
    assert_eq!(pending[0]["open_id"], "ou_2");
    stage.run("session list --state open").await.with(2);
}

#[tokio::test]
async fn session_show_prints_one_session() {
    let stage = with_sessions(1).await;
    let id = TestAuthorization::new(1).session_id;
    let shown = stage.run(&format!("session show {id}")).await.with(0);
    assert!(shown.out.contains("state         completed"), "{}", shown.out);
    let unknown = TestAuthorization::new(77).session_id;
    let ended = stage.run(&format!("session show {unknown}")).await.with(3);
    assert!(ended.err.contains("there is no session"), "{}", ended.err);
    assert_eq!(stage.run(&format!("session watch {id} --json")).await.with(0).json()["state"], "completed");
}

#[tokio::test]
async fn session_watch_past_its_limit_exits_without_answer() {
    let stage = with_sessions(2).await;
    let pending = TestAuthorization::new(2).session_id;
    let ended = stage.run(&format!("session watch {pending} --for 1")).await.with(4);
    assert!(ended.out.contains("no answer so far"), "{}", ended.out);
    let all = stage.run("session watch --state pending --for 1").await.with(0);
    assert_eq!(all.out.lines().count(), 1);
}

#[tokio::test]
async fn token_show_without_reveal_masks_token() {
    let stage = with_sessions(1).await;
    let owner = TestAuthorization::new(1);
    let of_owner = format!("--app {} --open-id {}", owner.app_id, owner.open_id);
    let shown = stage.run(&format!("token show {of_owner}")).await.with(0);
    assert!(shown.out.contains("access_token     needle… (15 characters)"), "{}", shown.out);
    // Nothing that a program would take for the token.
    let masked = stage.run(&format!("token show {of_owner} --json")).await.with(0).json();
    assert_eq!(
        (masked.get("access_token"), &masked["access_token_hint"]),
        (None, &"needle… (15 characters)".into())
    );
    let revealed = stage.run(&format!("token show {of_owner} --reveal --json")).await;
    assert_eq!(revealed.json()["access_token"], owner.access_token());
    assert_eq!(revealed.json().get("access_token_hint"), None);
    assert!(!revealed.out.contains("needle-refresh"));

    stage.run(&format!("token revoke {of_owner}")).await.with(0);
    let gone = stage.run(&format!("token show {of_owner}")).await.with(3);
    assert!(gone.err.contains("larkauth card send"), "{}", gone.err);
    stage.run(&format!("token revoke {of_owner}")).await.with(3);
}

#[tokio::test]
async fn token_of_unregistered_application_names_the_application() {
    let stage = with_sessions(1).await;
    let of_none = format!("--app cli_00000000000000ff --open-id {}", TestAuthorization::new(1).open_id);
    for command in ["show", "status", "revoke"] {
        let ended = stage.run(&format!("token {command} {of_none}")).await.with(3);
        assert!(ended.err.contains("cli_00000000000000ff is not registered"), "{command}: {}", ended.err);
    }
}
