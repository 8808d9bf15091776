use serde_json::json;

use crate::stage::{APP_ID, APP_SECRET, Stage};

#[tokio::test]
async fn apps_add_show_disable_enable_round_trip() {
    let stage = Stage::new().await;
    let added = stage.run_with(&["apps", "add", APP_ID], &format!("{APP_SECRET}\n")).await.with(0);
    insta::assert_snapshot!(added.out, @r"
    ✓ cli_0123456789abcdef is registered  brand feishu
      In the developer console, under Security Settings, this must be a redirect URL:
        http://127.0.0.1:8080/oauth/callback
      `larkauth doctor` checks the rest.
    ");
    let changed = stage
        .run(&format!("apps add {APP_ID} --brand lark --scopes offline_access --scopes a:b --json"))
        .await;
    let changed = changed.with(0).json();
    assert_eq!(
        (&changed["brand"], &changed["default_scopes"]),
        (&json!("lark"), &json!(["offline_access", "a:b"]))
    );

    let disabled = stage.run(&format!("apps disable {APP_ID}")).await.with(0);
    assert!(disabled.out.contains("is disabled"), "{}", disabled.out);
    assert!(disabled.out.contains("served for 1 s more at most"), "{}", disabled.out);
    insta::assert_snapshot!(stage.run(&format!("apps show {APP_ID}")).await.with(0).out, @r"
    app_id              cli_0123456789abcdef
    state               disabled
    brand               lark
    token_api           v2
    redirect_uri        http://127.0.0.1:8080/oauth/callback
    default_scopes      offline_access a:b
    app_secret          stored, not shown
    verification_token  -
    encrypt_key         -
    ");
    let enabled = stage.run(&format!("apps enable {APP_ID} --json")).await.with(0).json();
    assert_eq!(enabled["enabled"], true);
    let list = stage.run("apps list").await.with(0);
    assert_eq!(
        list.out,
        format!("{APP_ID}\tlark\tenabled\toffline_access a:b\thttp://127.0.0.1:8080/oauth/callback\n")
    );
}

#[tokio::test]
async fn apps_add_reads_secret_from_file_or_environment() {
    let mut stage = Stage::new().await;
    let file = stage.database.path().with_file_name("secret");
    // As an editor of another system writes it.
    std::fs::write(&file, format!("\u{feff}{APP_SECRET}\r\n")).unwrap();
    let other = "cli_fedcba9876543210";
    let arguments = ["apps", "add", other, "--secret-file", file.to_str().unwrap()];
    stage.run_with(&arguments, "").await.with(0);
    stage.set("APP_SECRET", APP_SECRET);
    stage.run(&format!("apps add {APP_ID}")).await.with(0);
    stage.env.remove("APP_SECRET");
    assert_eq!(stage.run("apps list").await.with(0).out.lines().count(), 2);

    // A secret that belongs to another application is not taken.
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    let ended = stage.run("apps add cli_aaaaaaaaaaaaaaaa").await.with(2);
    assert!(ended.err.contains("nothing was given"), "{}", ended.err);
}

#[tokio::test]
async fn apps_with_unknown_app_or_invalid_values_fails() {
    let stage = Stage::new().await;
    for command in [
        "apps show",
        "apps disable",
        "apps enable",
        "audit --app",
        "horizon --app-id",
        "session list --app",
        "session watch --app",
    ] {
        let ended = stage.run(&format!("{command} {APP_ID}")).await.with(3);
        assert!(ended.err.contains("is not registered"), "{}", ended.err);
    }
    let arguments = ["apps", "add", APP_ID, "--redirect-uri", "ftp://host/"];
    let ended = stage.run_with(&arguments, &format!("{APP_SECRET}\n")).await.with(2);
    assert!(ended.err.contains("must be an http or https address"), "{}", ended.err);
    let arguments = ["apps", "add", APP_ID, "--redirect-uri", "http://example.com/oauth/callback", "--json"];
    let ended = stage.run_with(&arguments, &format!("{APP_SECRET}\n")).await.with(0);
    assert!(
        ended.err.contains("is not https: codes would travel unencrypted; put a TLS proxy"),
        "{}",
        ended.err
    );
    assert_eq!(ended.json()["redirect_uri"], "http://example.com/oauth/callback");
    let other = "cli_fedcba9876543210";
    stage.run_with(&["apps", "add", other], "two words\n").await.with(2);
    assert_eq!(stage.run("apps list").await.with(0).out.lines().count(), 1);
}
