//! The control API under `/_sim/`: the methods of [`Sim`] for other processes and for the demo in a browser. It has no
//! authentication, so the simulator listens on loopback.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    drive::ButtonRef,
    error::SimError,
    faults::Fault,
    sim::Sim,
    state::messages::Message,
    users::{SimUser, UserStatus},
};

pub(crate) fn router() -> Router<Sim> {
    Router::new()
        .route("/state", get(state))
        .route("/users", get(users).post(add_user))
        .route("/users/{open_id}", axum::routing::delete(remove_user))
        .route("/users/{open_id}/status", put(set_status))
        .route("/messages", get(messages))
        .route("/messages/{message_id}", get(message))
        .route("/messages/{message_id}/recall", post(recall))
        .route("/click", post(click))
        .route("/consent", post(consent))
        .route("/device", post(device))
        .route("/events", post(event))
        .route("/connections", post(connections))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/violations", get(violations).delete(clear_violations))
        .route("/stats", get(stats))
        .route("/secrets", get(secrets))
}

impl IntoResponse for SimError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoApp | Self::NoUser | Self::NoMessage | Self::NoButton => StatusCode::NOT_FOUND,
            Self::Page(_) | Self::Callback(_) | Self::Challenge => StatusCode::BAD_GATEWAY,
            Self::Deadline => StatusCode::REQUEST_TIMEOUT,
            Self::Listen(..) | Self::Start(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotLoopback(_) | Self::AppId(_) | Self::CardTooOld | Self::Consent(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

type Answer<T = Json<Value>> = Result<T, SimError>;

async fn state(State(sim): State<Sim>) -> Json<Value> {
    let apps: Vec<_> = sim
        .apps()
        .iter()
        .map(|app| {
            json!({
                "app_id": app.app_id, "app_name": app.app_name, "redirect_uris": app.redirect_uris,
                "callback_url": app.callback_url, "delivery": app.delivery, "enabled": app.enabled,
                "connections": sim.connections(&app.app_id),
            })
        })
        .collect();
    Json(json!({
        "base_url": sim.base_url(), "time": sim.now(), "apps": apps, "users": sim.users().len(),
        "messages": sim.messages().len(), "stats": sim.stats(), "violations": sim.violations().len(),
        "faults": sim.faults().list().len(),
    }))
}

async fn users(State(sim): State<Sim>) -> Json<Value> {
    let apps = sim.apps();
    let view = |user: &SimUser| {
        let ids: serde_json::Map<_, _> =
            apps.iter().map(|app| (app.app_id.clone(), json!(sim.open_id(&app.app_id, user)))).collect();
        json!({
            "open_id": user.open_id, "union_id": user.union_id, "name": user.name, "en_name": user.en_name,
            "status": user.status, "behaviour": user.behaviour, "open_ids": ids,
        })
    };
    Json(sim.users().iter().map(view).collect())
}

async fn add_user(State(sim): State<Sim>, Json(user): Json<SimUser>) -> StatusCode {
    sim.add_user(user);
    StatusCode::CREATED
}

async fn remove_user(State(sim): State<Sim>, Path(open_id): Path<String>) -> Answer<StatusCode> {
    sim.remove_user(&open_id).map(|()| StatusCode::NO_CONTENT)
}

async fn set_status(
    State(sim): State<Sim>,
    Path(open_id): Path<String>,
    Json(status): Json<UserStatus>,
) -> Answer<StatusCode> {
    sim.set_status(&open_id, status).map(|()| StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct MessageFilter {
    open_id: Option<String>,
}

fn message_view(message: &Message) -> Value {
    let mut view = json!(message);
    view["card"] = message.card().clone();
    view["buttons"] = json!(message.buttons());
    view
}

async fn messages(State(sim): State<Sim>, Query(filter): Query<MessageFilter>) -> Json<Value> {
    let messages = match filter.open_id {
        Some(open_id) => sim.messages_for(&open_id),
        None => sim.messages(),
    };
    Json(messages.iter().map(message_view).collect())
}

async fn message(State(sim): State<Sim>, Path(id): Path<String>) -> Answer {
    sim.message(&id).map(|message| Json(message_view(&message))).ok_or(SimError::NoMessage)
}

async fn recall(State(sim): State<Sim>, Path(id): Path<String>) -> Answer<StatusCode> {
    sim.recall(&id).map(|()| StatusCode::NO_CONTENT)
}

/// A button by its place or by its name.
#[derive(Deserialize)]
#[serde(untagged)]
enum ButtonBody {
    Index(usize),
    Name(String),
}

#[derive(Deserialize)]
struct Click {
    message_id: String,
    button: ButtonBody,
    /// The person who clicks. The receiver if absent.
    open_id: Option<String>,
    /// Old style: the value carries a code.
    #[serde(default)]
    with_code: bool,
}

async fn click(State(sim): State<Sim>, Json(body): Json<Click>) -> Answer {
    let receiver = sim.message(&body.message_id).map(|message| message.open_id).ok_or(SimError::NoMessage)?;
    let open_id = body.open_id.unwrap_or(receiver);
    let button = match &body.button {
        ButtonBody::Index(index) => ButtonRef::Index(*index),
        ButtonBody::Name(name) => ButtonRef::Name(name),
    };
    let outcome = if body.with_code {
        sim.click_with_code(&body.message_id, button, &open_id).await?
    } else {
        sim.click(&body.message_id, button, &open_id).await?
    };
    Ok(Json(json!(outcome)))
}

#[derive(Deserialize)]
struct ConsentBody {
    url: String,
    /// The person who agrees. The request is declined if absent.
    open_id: Option<String>,
    /// Follow the redirect, as a browser would.
    #[serde(default)]
    follow: bool,
}

async fn consent(State(sim): State<Sim>, Json(body): Json<ConsentBody>) -> Answer {
    let redirect = match &body.open_id {
        Some(open_id) => sim.consent(&body.url, open_id).await?,
        None => sim.decline(&body.url).await?,
    };
    let page = if body.follow { Some(sim.follow(&redirect).await?) } else { None };
    Ok(Json(json!({"redirect_url": redirect, "page": page})))
}

#[derive(Deserialize)]
struct DeviceBody {
    user_code: String,
    /// The person who agrees. The request is declined if absent.
    open_id: Option<String>,
}

async fn device(State(sim): State<Sim>, Json(body): Json<DeviceBody>) -> Answer {
    let decided = sim.decide_device(&body.user_code, body.open_id.as_deref())?;
    Ok(Json(json!({"decided": decided})))
}

#[derive(Deserialize)]
struct EventBody {
    app_id: String,
    event_type: String,
    event: Value,
}

async fn event(State(sim): State<Sim>, Json(body): Json<EventBody>) -> Answer {
    let event_id = sim.push_event(&body.app_id, &body.event_type, &body.event)?;
    Ok(Json(json!({"event_id": event_id})))
}

#[derive(Deserialize)]
struct ConnectionsBody {
    action: ConnectionsAction,
    app_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ConnectionsAction {
    Drop,
    HalfOpen,
}

async fn connections(State(sim): State<Sim>, Json(body): Json<ConnectionsBody>) -> Json<Value> {
    let hit = match body.action {
        ConnectionsAction::Drop => sim.drop_connections(body.app_id.as_deref()),
        ConnectionsAction::HalfOpen => sim.half_open_connections(body.app_id.as_deref()),
    };
    Json(json!({"connections": hit}))
}

async fn faults(State(sim): State<Sim>) -> Json<Vec<Fault>> {
    Json(sim.faults().list())
}

async fn add_fault(State(sim): State<Sim>, Json(fault): Json<Fault>) -> StatusCode {
    sim.faults().push(fault);
    StatusCode::CREATED
}

async fn clear_faults(State(sim): State<Sim>) -> StatusCode {
    sim.faults().clear();
    StatusCode::NO_CONTENT
}

async fn violations(State(sim): State<Sim>) -> Json<Value> {
    Json(json!(sim.violations()))
}

async fn clear_violations(State(sim): State<Sim>) -> StatusCode {
    sim.clear_violations();
    StatusCode::NO_CONTENT
}

async fn stats(State(sim): State<Sim>) -> Json<Value> {
    Json(json!(sim.stats()))
}

async fn secrets(State(sim): State<Sim>) -> Json<Vec<String>> {
    Json(sim.issued_secrets())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANUAL: &str = include_str!("../../../docs/simulator.md");

    #[test]
    fn manual_names_every_route_with_its_methods() {
        let source = include_str!("control.rs");
        let routes: Vec<_> =
            source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")).collect();
        assert_eq!(routes.len(), 16);
        for route in routes {
            let (path, methods) = route.split_once('"').unwrap();
            for method in
                ["get", "post", "put", "delete"].iter().filter(|m| methods.contains(&format!("{m}(")))
            {
                let documented = format!("`{} /_sim{path}`", method.to_uppercase());
                assert!(MANUAL.contains(&documented), "{documented}");
            }
        }
    }

    #[test]
    fn faults_of_manual_are_read() {
        let (_, examples) = MANUAL.split_once("```json\n").unwrap();
        let (examples, _) = examples.split_once("```").unwrap();
        assert!(examples.lines().count() >= 7);
        for example in examples.lines() {
            serde_json::from_str::<Fault>(example).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
}
