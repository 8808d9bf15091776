use crate::stage::Stage;

#[tokio::test]
async fn completions_are_scripts_of_the_shell() {
    let stage = Stage::new().await;
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef larkauth"), ("fish", "complete -c larkauth")]
    {
        let ended = stage.run(&format!("completions {shell}")).await.with(0);
        assert!(ended.out.contains(mark) && ended.out.contains("dead-letters"), "{shell}");
    }
}

#[tokio::test]
async fn wrong_arguments_and_settings_end_with_2() {
    let mut stage = Stage::new().await;
    stage.run("apps show nonsense").await.with(2);
    stage.run("no-such-command").await.with(2);
    stage.run("sim --app-id foo").await.with(2);
    stage.set("HTTP_ADDR", "nowhere");
    let ended = stage.run("apps list").await.with(2);
    assert!(ended.err.contains("HTTP_ADDR"), "{}", ended.err);
    assert_eq!(ended.out, "");
    stage.env.clear();
    for (arguments, named) in [
        ("apps list", "larkauth standalone"),
        ("session list --state open", "`failed`\n"),
        ("card send", "--open-id <OPEN_ID>|--user-id <USER_ID>"),
        ("dead-letters drop", "ID|--all"),
        ("sim --addr 0.0.0.0:1", "127.0.0.1"),
        ("try --app cli_0123456789abcdef --secret-file none", "none: "),
    ] {
        let ended = stage.run(arguments).await.with(2);
        assert!(ended.err.contains(named), "{arguments}: {}", ended.err);
    }
}

#[tokio::test]
async fn a_simulator_needs_a_free_address_and_takes_what_is_given() {
    let mut stage = Stage::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let ended = stage.run(&format!("sim --addr {addr}")).await.with(1);
    assert!(ended.err.contains(&format!("{addr} cannot be listened on; stop what")), "{}", ended.err);
    assert_eq!(ended.err.matches("in use").count(), 1, "{}", ended.err);

    // Without an id, the secret is that of a random one.
    stage.set("SIM_APP_SECRET", "of-the-environment");
    let sim = stage.start(&["sim", "--addr", "127.0.0.1:0"]).await;
    sim.says("APP_SECRET=of-the-environment\n").await;
    sim.terminate().await.with(0);
}
