//! How the invitation looks: the concise card, and a template of the company's own.

use std::collections::BTreeMap;

use anyhow::Context;
use larkauth_lark_sim::SimConfig;
use larkauth_models::{SessionId, SessionState};
use larkauth_tests::{Options, World};
use serde_json::{Value, json};

const TEMPLATE: &str = "AAq0123";
const CONCISE: &str = "Choose “Authorize” to continue.";

/// A template as a company would draw it, with the two buttons that it needs.
fn drawn() -> Value {
    let button = |action: &str, url: Option<&str>| {
        let value = json!({ "session_id": "${session_id}", "action": action });
        let mut behaviors = vec![json!({ "type": "callback", "value": value })];
        behaviors.extend(url.map(|url| json!({ "type": "open_url", "default_url": url })));
        let text = json!({ "tag": "plain_text", "content": action });
        json!({ "tag": "button", "text": text, "behaviors": behaviors })
    };
    json!({
        "schema": "2.0",
        "config": { "update_multi": true },
        "header": { "title": { "tag": "plain_text", "content": "Drawn here" }, "template": "purple" },
        "body": { "elements": [
            { "tag": "div", "text": { "tag": "plain_text", "content": "${custom_message}" } },
            button("authorize", Some("${authorize_url}")),
            button("cancel", None),
        ] },
    })
}

async fn world(env: &[(&'static str, &str)]) -> anyhow::Result<World> {
    let templates = BTreeMap::from([(TEMPLATE.to_owned(), drawn())]);
    let sim = SimConfig { templates, ..SimConfig::default().with_users(3) };
    let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    World::start(Options { sim, env, ..Options::default() }).await
}

/// Invites a person with a card of the caller's choice.
async fn invite(world: &World, person: &str, card: Value) -> anyhow::Result<SessionId> {
    let body = json!({ "app_id": world.app_id(), "open_id": person, "card": card });
    let answer = world.api.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body)).await?;
    anyhow::ensure!(answer.status == 201, "{answer:?}");
    Ok(answer.json["session_id"].as_str().context("a session")?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn card_options_of_caller_override_settings() -> anyhow::Result<()> {
    let world = world(&[("AUTH_CARD_INCLUDE_DESCRIPTION", "false")]).await?;
    let [concise, detailed, drawn] = [0, 1, 2].map(|n| world.person(n));
    world.api.invite(world.app_id(), &concise).await?;
    world.card(&concise, CONCISE).await?;
    invite(&world, &detailed, json!({ "include_description": true })).await?;
    let card = world.card(&detailed, "authorize").await?;
    assert!(!card.card().to_string().contains(CONCISE), "{:?}", card.card());

    let card = json!({ "template_id": TEMPLATE, "custom_message": "For your expenses" });
    let session = invite(&world, &drawn, card).await?;
    let card = world.card(&drawn, "For your expenses").await?;
    assert_eq!(card.card()["header"]["template"], "purple");
    let click = world.sim.click(&card.message_id, "authorize", &drawn).await?;
    let redirect = world.sim.consent(&click.url.context("a link")?, &drawn).await?;
    assert_eq!(world.sim.follow(&redirect).await?.status, 200);
    assert_eq!(world.api.session(session, 30).await?.state, SessionState::Completed);
    world.card(&drawn, "\"green\"").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn card_template_of_settings_is_sent() -> anyhow::Result<()> {
    let world = world(&[("AUTH_CARD_TEMPLATE_ID", TEMPLATE)]).await?;
    let person = world.person(0);
    let session = world.api.invite(world.app_id(), &person).await?;
    let card = world.card(&person, "Drawn here").await?;
    let click = world.sim.click(&card.message_id, "cancel", &person).await?;
    assert!(click.answered && click.card_changed, "{click:?}");
    assert_eq!(world.api.session(session.session_id, 30).await?.state, SessionState::Rejected);
    world.card(&person, "\"grey\"").await?;
    world.finish().await
}
