use crate::stage::Stage;

#[tokio::test]
async fn completions_for_each_shell_print_its_script() {
    let stage = Stage::new().await;
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef larkauth"), ("fish", "complete -c larkauth")]
    {
        let ended = stage.run(&format!("completions {shell}")).await.with(0);
        assert!(ended.out.contains(mark) && ended.out.contains("dead-letters"), "{shell}");
    }
}

#[tokio::test]
async fn man_writes_a_page_for_each_command() {
    let stage = Stage::new().await;
    stage.run("man pages/man1").await.with(0);
    let folder = stage.database.path().with_file_name("pages").join("man1");
    for page in ["larkauth.1", "larkauth-backup.1", "larkauth-dead-letters-requeue.1"] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.contains(".TH ") && text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    assert!(!folder.join("larkauth-contract.1").exists(), "hidden");
}

#[tokio::test]
async fn wrong_arguments_or_settings_exit_with_2() {
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
async fn sim_on_taken_address_fails_and_uses_given_secret() {
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
