use crate::stage::{APP_ID, APP_SECRET, Stage, agree, card, person};

#[tokio::test]
async fn card_send_with_wait_follows_session_to_its_end() {
    let (mut stage, sim) = Stage::with_lark().await;
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    let standalone = stage.standalone().await;

    let first = person(&sim, 0);
    let sending = stage
        .start(&[
            "card",
            "send",
            "--app",
            APP_ID,
            "--open-id",
            &first,
            "--message",
            "For the report",
            "--wait",
        ])
        .await;
    assert!(card(&sim, &first).await.card().to_string().contains("For the report"));
    agree(&sim, &first).await;
    let ended = sending.end().await.with(0);
    assert!(
        ended.out.contains("the card is on its way") && ended.out.contains("they authorized"),
        "{}",
        ended.out
    );
    let shown = stage.run(&format!("token show --app {APP_ID} --open-id {first}")).await.with(0);
    assert!(shown.out.contains("status           active"), "{}", shown.out);

    let second = person(&sim, 1);
    let sending = stage
        .start(&["card", "send", "--app", APP_ID, "--open-id", &second, "--concise", "--wait", "--json"])
        .await;
    let asked = card(&sim, &second).await;
    sim.click(&asked.message_id, "cancel", &second).await.unwrap();
    assert_eq!(sending.end().await.with(4).json()["state"], "rejected");

    let third = person(&sim, 2);
    let unanswered = stage.run(&format!("card send --app {APP_ID} --open-id {third} --wait 1")).await.with(4);
    assert!(unanswered.out.contains("larkauth session watch"), "{}", unanswered.out);

    let healthy = stage.run("doctor").await.with(0);
    assert!(
        healthy.out.contains("larkauth is listening") && healthy.out.contains("feishu accepts them"),
        "{}",
        healthy.out
    );
    standalone.terminate().await.with(0);
    assert!(sim.violations().is_empty(), "{:?}", sim.violations());
}

#[tokio::test]
async fn card_send_by_device_code_needs_no_redirect() {
    let (mut stage, sim) = Stage::with_lark().await;
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    stage.set("OAUTH_REDIRECT_URI", "http://127.0.0.1:9/oauth/callback");
    let standalone = stage.standalone().await;
    let first = person(&sim, 0);
    let command = ["card", "send", "--open-id", &first, "--auth-method", "device_code", "--wait", "--json"];
    let sending = stage.start(&command).await;
    let asked = card(&sim, &first).await;
    let click = sim.click(&asked.message_id, "authorize", &first).await.unwrap();
    let url = click.url.unwrap();
    let (_, user_code) = url.split_once("user_code=").unwrap();
    assert!(sim.decide_device(user_code, Some(&first)).unwrap());
    let ended = sending.end().await.with(0);
    assert_eq!(
        (&ended.json()["state"], &ended.json()["auth_method"]),
        (&"completed".into(), &"device_code".into())
    );
    assert!(!ended.out.contains(user_code), "{}", ended.out);
    standalone.terminate().await.with(0);
    assert!(sim.violations().is_empty(), "{:?}", sim.violations());
    stage.run("card send --open-id ou_1 --auth-method oauth").await.with(2);
}

#[tokio::test]
async fn card_send_without_app_or_person_fails() {
    let stage = Stage::new().await;
    let ended = stage.run(&format!("card send --app {APP_ID} --open-id ou_1")).await.with(3);
    assert!(ended.err.contains("is not registered"), "{}", ended.err);
    stage.run(&format!("card send --app {APP_ID}")).await.with(2);
    let none = stage.run("card send --open-id ou_1").await.with(3);
    assert!(none.err.contains("larkauth apps add"), "{}", none.err);
    stage.run(&format!("card send --app {APP_ID} --open-id ou_1 --user-id u1")).await.with(2);
}

#[tokio::test]
async fn app_argument_defaults_to_settings_or_only_application() {
    let mut stage = Stage::new().await;
    let other = "cli_fedcba9876543210";
    stage.run_with(&["apps", "add", APP_ID], APP_SECRET).await.with(0);
    let of = async |stage: &Stage| stage.run("token show --open-id ou_1").await.with(3).err;
    assert!(of(&stage).await.contains(&format!("no token is stored for ou_1 in {APP_ID}")));
    stage.run("card send --open-id ou_1").await.with(0);
    stage.run_with(&["apps", "add", other], APP_SECRET).await.with(0);
    for command in ["card send", "token show", "token revoke"] {
        let ended = stage.run(&format!("{command} --open-id ou_1")).await.with(2);
        assert!(ended.err.contains("give --app or set APP_ID"), "{}", ended.err);
    }
    stage.set("APP_ID", other);
    assert!(of(&stage).await.contains(&format!("no token is stored for ou_1 in {other}")));
}
