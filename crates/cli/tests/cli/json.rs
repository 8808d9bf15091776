use crate::stage::{APP_ID, APP_SECRET, Stage, agree, person};

#[tokio::test]
async fn json_output_of_steps_is_one_document_each() {
    let (mut stage, sim) = Stage::with_lark().await;
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    let first = person(&sim, 0);
    let trying = stage.start(&["try", "--open-id", &first, "--yes", "--json"]).await;
    agree(&sim, &first).await;
    let steps = trying.end().await.with(0).json_lines();
    for (step, outcome) in [
        ("1. The application", "note"),
        ("the person is named", "done"),
        ("the card is in the chat", "done"),
        ("they authorized", "done"),
    ] {
        let reported: Vec<_> = steps.iter().filter(|line| line["step"] == step).collect();
        assert!(matches!(reported[..], [line] if line["outcome"] == outcome), "{step}: {steps:#?}");
    }

    let steps = stage.run("demo --auto --json").await.with(0).json_lines();
    assert!(steps.iter().any(|line| line["step"] == "the card turned green"), "{steps:#?}");
}

#[tokio::test]
async fn json_output_of_running_command_names_its_address() {
    let stage = Stage::new().await;
    for arguments in
        [&["standalone"][..], &["sim", "--addr", "127.0.0.1:0"], &["demo", "--port", "0", "--no-open"]]
    {
        let process = stage.start(&[arguments, &["--json"]].concat()).await;
        process.says("\"ready\":true").await;
        let ended = process.terminate().await.with(0);
        let lines = ended.json_lines();
        let ready = lines.iter().find(|line| line["ready"] == true).unwrap();
        let address = ready["address"].as_str().or(ready["lark_base_url"].as_str()).unwrap();
        assert!(address.starts_with("http://127.0.0.1:"), "{ready}");
    }
}

#[tokio::test]
async fn json_output_of_migrate_ends_with_its_counts() {
    let stage = Stage::new().await;
    let migrated = stage.run("migrate --json").await.with(0).json_lines();
    assert_eq!(migrated.last().unwrap()["migrations_applied"], 0, "{migrated:#?}");
    let from = stage.database.path().display().to_string();
    let moved = stage.run(&format!("migrate --from sqlite:{from} --to sqlite:other.db --json")).await.with(0);
    let lines = moved.json_lines();
    let summary = lines.last().unwrap();
    assert!(summary["migrations_applied"].as_u64().unwrap() > 0, "{summary:#}");
    let tokens = summary["tables"].as_array().unwrap().iter().find(|table| table["table"] == "access_tokens");
    let expected = serde_json::json!(
        { "table": "access_tokens", "rows": 0, "inserted": 0, "missing": 0, "differing": 0 }
    );
    assert_eq!(tokens, Some(&expected), "{summary:#}");
}
