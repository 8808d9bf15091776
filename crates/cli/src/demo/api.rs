//! Handlers of the page's buttons.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use larkauth_contracts::rest::CardRequest;
use larkauth_lark_sim::{ClickOutcome, SimError};
use larkauth_models::Clock;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{breakage::Breakage, state::DemoState};
use crate::report;

/// Error of a button, shown to the person on the page.
pub(crate) struct Refused(StatusCode, String);

impl From<SimError> for Refused {
    fn from(error: SimError) -> Self {
        let status = match error {
            SimError::NoUser | SimError::NoMessage | SimError::NoButton | SimError::NoApp => {
                StatusCode::NOT_FOUND
            }
            _ => StatusCode::BAD_GATEWAY,
        };
        Self(status, error.to_string())
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self(StatusCode::BAD_GATEWAY, format!("{error:#}"))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

#[derive(Deserialize)]
pub(crate) struct Invite {
    open_id: String,
    #[serde(default)]
    card: CardRequest,
}

/// Asks a person for consent, as a service.
pub(crate) async fn invite(
    State(demo): State<DemoState>,
    Json(asked): Json<Invite>,
) -> Result<Json<Value>, Refused> {
    demo.feed.action("invite", who(&demo, &asked.open_id)?);
    let (status, body) = demo.caller.invite(&demo.app_id, &asked.open_id, Some(asked.card)).await?;
    Ok(Json(json!({ "status": status.as_u16(), "body": body })))
}

#[derive(Deserialize)]
pub(crate) struct Click {
    open_id: String,
    message_id: String,
    /// Index of the card's button, in reading order.
    button: usize,
}

/// Clicks a button of a card, as the person. The callback goes over the long connection.
pub(crate) async fn click(
    State(demo): State<DemoState>,
    Json(click): Json<Click>,
) -> Result<Json<ClickOutcome>, Refused> {
    let message = demo.sim.message(&click.message_id).ok_or(SimError::NoMessage)?;
    let text = message.buttons().into_iter().nth(click.button).ok_or(SimError::NoButton)?.text;
    demo.feed.action("click", [("button", text)]);
    let outcome = demo.sim.click(&click.message_id, click.button, &click.open_id).await?;
    let took = ("answered_in_ms", outcome.elapsed.as_millis().to_string());
    match outcome.error {
        None => demo.feed.lark("lark.click.answered", [took]),
        Some(code) => demo.feed.lark("lark.click.failed", [took, ("code", code.to_string())]),
    }
    Ok(Json(outcome))
}

#[derive(Deserialize)]
pub(crate) struct WhoseToken {
    open_id: String,
}

/// Reads a person's token, as a service. The page receives the answer with the token masked, and the command to repeat
/// the call by hand. The key in it is valid for this demo only, while it runs.
pub(crate) async fn token(
    State(demo): State<DemoState>,
    Json(whose): Json<WhoseToken>,
) -> Result<Json<Value>, Refused> {
    demo.feed.action("token", who(&demo, &whose.open_id)?);
    let (status, mut body) = demo.caller.token(&demo.app_id, &whose.open_id).await?;
    if let Some(token) = body.get_mut("access_token") {
        *token = report::masked(token.as_str().unwrap_or_default()).into();
    }
    let curl = demo.caller.token_by_hand(&demo.app_id, &whose.open_id);
    Ok(Json(json!({ "status": status.as_u16(), "body": body, "curl": curl, "now": demo.clock.now() })))
}

/// Returns the person's names.
fn who(demo: &DemoState, open_id: &str) -> Result<[(&'static str, String); 2], SimError> {
    let person = demo.sim.person(open_id)?;
    Ok([("name", person.name), ("en_name", person.en_name)])
}

#[derive(Deserialize)]
pub(crate) struct Break {
    what: Breakage,
}

/// Applies a fault.
pub(crate) async fn break_it(
    State(demo): State<DemoState>,
    Json(broken): Json<Break>,
) -> Result<StatusCode, Refused> {
    demo.feed.action("break", [("what", broken.what.as_str().to_owned())]);
    broken.what.happen(&demo.sim, &demo.app_id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Clears all faults. Connections that were cut or silenced recover by themselves.
pub(crate) async fn repair(State(demo): State<DemoState>) -> StatusCode {
    demo.feed.action("repair", []);
    demo.sim.faults().clear();
    StatusCode::NO_CONTENT
}

/// Moves the clock of Lark and of larkauth by the life of an access token.
pub(crate) async fn two_hours(State(demo): State<DemoState>) -> Result<StatusCode, Refused> {
    if !demo.services_run_here {
        let reason = "the clock of services that run elsewhere cannot be moved";
        return Err(Refused(StatusCode::CONFLICT, reason.to_owned()));
    }
    demo.feed.action("two_hours", []);
    demo.clock.advance(TimeDelta::hours(2));
    Ok(StatusCode::NO_CONTENT)
}
