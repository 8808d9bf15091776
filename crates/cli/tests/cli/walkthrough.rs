use larkauth_lark_sim::{Effect, Endpoint, Fault};

use crate::stage::{APP_ID, APP_SECRET, Stage, agree, card, person};

#[tokio::test]
async fn try_with_id_and_secret_stores_token() {
    let (stage, sim) = Stage::with_lark().await;
    let first = person(&sim, 0);
    let mut trying = stage.start(&["try"]).await;
    trying.write(&format!("{APP_ID}\n{APP_SECRET}\n{first}\n")).await;
    agree(&sim, &first).await;
    let ended = trying.end().await.with(0);
    for step in [
        "the id has the right form",
        "Lark accepts id and secret",
        "Lark offers a long connection",
        "the long connection is up",
        "the card is in the chat",
        "they authorized",
        "access token",
        "the login is kept alive",
        "hands this token out and refreshes it",
    ] {
        assert!(ended.out.contains(step), "{step}: {}\n{}", ended.out, ended.err);
    }
    assert!(sim.issued_secrets().iter().filter(|s| s.len() > 8).all(|s| !ended.out.contains(s.as_str())));
    assert!(sim.violations().is_empty(), "{:?}", sim.violations());
}

#[tokio::test]
async fn try_with_declining_person_exits_with_4() {
    let (mut stage, sim) = Stage::with_lark().await;
    stage.set("APP_SECRET", APP_SECRET);
    let (second, mail) = (person(&sim, 1), sim.users()[1].email.clone().unwrap());
    let trying = stage.start(&["try", "--app", APP_ID, "--email", &mail, "--yes"]).await;
    let asked = card(&sim, &second).await;
    sim.click(&asked.message_id, "cancel", &second).await.unwrap();
    let ended = trying.end().await.with(4);
    assert!(ended.out.contains("they declined"), "{}", ended.out);
    // The redirect URI was looked at, and leads to this very process.
    assert!(ended.out.contains("works, but only for browsers on this machine"), "{}", ended.out);
}

#[tokio::test]
async fn try_with_failing_step_names_help_page() {
    let (stage, sim) = Stage::with_lark().await;
    let input = format!("{APP_ID}\nanother-secret\n");
    let ended = stage.run_with(&["try"], &input).await.with(1);
    assert!(ended.err.contains("secret-or-brand.md"), "{}", ended.err);
    let ended = stage.run_with(&["try"], "cli_short\n").await.with(2);
    assert!(ended.err.contains("not a valid app id"), "{}", ended.err);
    let input = format!("{APP_ID}\n{APP_SECRET}\n");
    let look_up = async || {
        let ended = stage.run_with(&["try", "--email", "someone@example.com"], &input).await.with(1);
        assert!(!ended.err.contains("someone@example.com"), "{}", ended.err);
        ended.err
    };
    let said = look_up().await;
    assert!(said.contains("no person with this work mail address"), "{said}");
    for (code, blames_the_permission) in [(99_991_672, true), (99_991_400, false)] {
        // The client asks again where that may help.
        sim.faults()
            .push(Fault::at(Endpoint::ContactIds, Effect::Answer { status: 400, code }).until_cleared());
        let said = look_up().await;
        sim.faults().clear();
        assert!(said.contains("give --open-id instead"), "{said}");
        assert_eq!(said.contains("contact:user.id:readonly"), blames_the_permission, "{said}");
    }
    assert!(sim.violations().is_empty(), "{:?}", sim.violations());
}

#[tokio::test]
async fn try_with_secret_file_and_no_answer_exits_with_4() {
    let (mut stage, sim) = Stage::with_lark().await;
    stage.set("APP_ID", APP_ID);
    let file = stage.database.path().with_file_name("secret");
    std::fs::write(&file, APP_SECRET).unwrap();
    let first = person(&sim, 0);
    let secret = file.to_str().unwrap();
    let arguments = ["try", "--secret-file", secret, "--open-id", &first, "--yes", "--wait", "1"];
    let ended = stage.run_with(&arguments, "").await.with(4);
    assert!(ended.out.contains("no answer so far"), "{}", ended.out);
    assert!(ended.out.contains("start `larkauth standalone` on the same data"), "{}", ended.out);
}
