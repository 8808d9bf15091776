use larkauth_storage::testing::TestAuthorization;
use larkauth_storage_sqlite::SqliteStore;

use crate::stage::Stage;

/// A person who has authorized.
async fn authorized(stage: &Stage) -> TestAuthorization {
    let store =
        SqliteStore::open(&stage.database.options(), larkauth_storage::testing::test_cipher()).await.unwrap();
    let authorization = TestAuthorization::new(1);
    authorization.run(&store).await;
    authorization
}

#[tokio::test]
async fn audit_lists_what_operator_did_and_read() {
    let stage = Stage::new().await;
    let TestAuthorization { app_id, open_id, .. } = authorized(&stage).await;
    stage.run(&format!("token show --open-id {open_id}")).await.with(0);
    stage.run(&format!("token revoke --open-id {open_id}")).await.with(0);
    stage.run(&format!("token revoke --open-id {open_id}")).await.with(3);
    stage.run("keys create --name crm --scope tokens:read").await.with(0);

    let all = stage.run("audit --json --since 1h").await.with(0).json();
    let seen: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["action"].as_str().unwrap(), record["outcome"].as_str().unwrap()))
        .filter(|(action, _)| *action != "app.list")
        .collect();
    assert_eq!(
        seen,
        [("api_key.create", "ok"), ("token.revoke", "refused"), ("token.revoke", "ok"), ("token.show", "ok")]
    );
    for record in all.as_array().unwrap() {
        assert_eq!(record["actor_kind"], "operator", "{record}");
        assert!(
            !record["actor_id"].as_str().unwrap().is_empty() && record["address"].is_string(),
            "{record}"
        );
    }

    let about =
        stage.run(&format!("audit --app {app_id} --person {open_id} --action token.revoke")).await.with(0);
    assert_eq!(about.out.lines().count(), 2, "{}", about.out);
    assert!(about.out.contains("\ttoken.revoke\trefused (not_found)\t"), "{}", about.out);
    let one = stage.run("audit --limit 1").await.with(0);
    assert_eq!(one.out.lines().count(), 1);
    assert!(one.err.contains("There are more"), "{}", one.err);
    assert_eq!(stage.run("audit --until 2000-01-01T00:00:00Z").await.with(0).out, "");
    let wrong = stage.run("audit --since yesterday").await.with(2);
    assert!(wrong.err.contains("24h"), "{}", wrong.err);
    stage.run("audit --action token.steal").await.with(2);
}

#[tokio::test]
async fn people_erase_asks_then_leaves_nothing_but_pseudonym() {
    let stage = Stage::new().await;
    let TestAuthorization { app_id, open_id, .. } = authorized(&stage).await;
    let erase = format!("people erase {app_id} {open_id}");
    let asked = stage.run(&erase).await.with(2);
    assert!(asked.err.contains("--yes") && asked.err.contains("cannot be undone"), "{}", asked.err);
    stage.run(&format!("token show --open-id {open_id}")).await.with(0);

    let erased = stage.run(&format!("{erase} --yes --json")).await.with(0).json();
    assert_eq!(
        (&erased["sessions"], &erased["tokens"], &erased["profiles"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(erased["audit_records"], 1, "the token that was shown: {erased}");
    let pseudonym = erased["pseudonym"].as_str().unwrap();
    stage.run(&format!("token show --open-id {open_id}")).await.with(3);
    let records = stage.run(&format!("audit --person {pseudonym} --json")).await.with(0).json();
    let actions: Vec<_> =
        records.as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["person.erase", "token.show"]);
    let again = stage.run(&format!("people erase {app_id} ou_unknown --yes")).await.with(3);
    assert!(again.err.contains("nothing is stored"), "{}", again.err);
}
