//! One request to the platform, and the planned fault in place of its handling.

use std::collections::BTreeMap;

use axum::{
    extract::{ConnectInfo, FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use larkauth_models::Timestamp;
use serde_json::Value;

use crate::{
    faults::{Effect, Endpoint},
    net::ConnectionControl,
    sim::Sim,
    state::{State, codes::Refusal},
};

/// Longest response that is changed, in bytes.
const MAX_RESHAPED: usize = 1 << 20;

/// One request, read completely.
pub(crate) struct Call {
    pub(crate) sim: Sim,
    pub(crate) query: Vec<(String, String)>,
    headers: HeaderMap,
    control: ConnectionControl,
    body: Bytes,
}

impl FromRequest<Sim> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, sim: &Sim) -> Result<Self, Response> {
        let control = request
            .extensions()
            .get::<ConnectInfo<ConnectionControl>>()
            .map(|info| info.0.clone())
            .unwrap_or_default();
        let query = request.uri().query().unwrap_or_default();
        let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let headers = request.headers().clone();
        let body = Bytes::from_request(request, sim).await.map_err(IntoResponse::into_response)?;
        Ok(Self { sim: sim.clone(), query, headers, control, body })
    }
}

impl Call {
    /// Returns the first query parameter of this name.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the bearer token of `Authorization`.
    pub(crate) fn bearer(&self) -> &str {
        self.header(header::AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default()
    }

    /// Returns user name and password of HTTP Basic authentication.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let encoded = self.header(header::AUTHORIZATION).strip_prefix("Basic ")?;
        let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
        text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
    }

    /// Returns the body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the text fields of the body, form or JSON by its content type.
    pub(crate) fn fields(&self) -> Fields {
        if self.header(header::CONTENT_TYPE).starts_with("application/x-www-form-urlencoded") {
            return Fields(url::form_urlencoded::parse(&self.body).into_owned().collect());
        }
        let json = self.json();
        let texts = json.as_object().into_iter().flatten();
        Fields(texts.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
    }

    /// Returns whether the browser prefers Chinese.
    pub(crate) fn chinese(&self) -> bool {
        self.param("lang").unwrap_or_else(|| self.header(header::ACCEPT_LANGUAGE)).starts_with("zh")
    }

    /// Handles the call, or applies the planned fault instead. `process` receives whether its answer will reach the
    /// client.
    pub(crate) async fn run(
        &self,
        endpoint: Endpoint,
        app_id: Option<&str>,
        process: impl FnOnce(&mut State, Timestamp, bool) -> Response,
    ) -> Response {
        self.sim.count_call(endpoint);
        let handle = |delivered| {
            let response = process(&mut self.sim.state(), self.sim.now(), delivered);
            self.sim.changed();
            response
        };
        match self.sim.faults().take(endpoint, app_id) {
            None | Some(Effect::Refuse { .. } | Effect::Frames(_)) => handle(true),
            Some(Effect::Latency(millis)) => {
                self.sim.wait(Effect::millis(millis)).await;
                handle(true)
            }
            Some(Effect::LateAnswer(millis)) => {
                let response = handle(false);
                self.sim.wait(Effect::millis(millis)).await;
                response
            }
            Some(Effect::Answer { status, code }) => planned(endpoint, status, code),
            Some(Effect::TooManyRequests(seconds)) => Refusal::too_many_requests(seconds).into_response(),
            Some(Effect::Reshaped { status, merge }) => reshaped(handle(true), status, &merge).await,
            Some(Effect::LostAnswer) => {
                let response = handle(false);
                self.control.cut();
                response
            }
            Some(Effect::Cut) => {
                self.control.cut();
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
            Some(Effect::Hang) => {
                self.sim.hang().await;
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
            Some(Effect::MalformedBody) => {
                drop(handle(false));
                ([(header::CONTENT_TYPE, "application/json")], "{\"code\":0,\"data\":{\"acc").into_response()
            }
        }
    }
}

/// Returns a response with another status and with changes to its JSON (RFC 7396).
async fn reshaped(response: Response, status: u16, merge: &Value) -> Response {
    let body = axum::body::to_bytes(response.into_body(), MAX_RESHAPED).await.unwrap_or_default();
    let mut json = serde_json::from_slice(&body).unwrap_or_default();
    apply(&mut json, merge);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], json.to_string()).into_response()
}

fn apply(target: &mut Value, merge: &Value) {
    let Value::Object(changes) = merge else {
        *target = merge.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (name, change) in changes {
        if change.is_null() {
            target.as_object_mut().map(|fields| fields.remove(name));
        } else {
            apply(&mut target[name.as_str()], change);
        }
    }
}

/// Returns a planned answer, in the shape of its endpoint.
fn planned(endpoint: Endpoint, status: u16, code: i64) -> Response {
    match endpoint {
        Endpoint::TokenCode | Endpoint::TokenRefresh | Endpoint::TokenDevice => {
            Refusal { status, ..Refusal::oauth(code) }.oauth_response()
        }
        _ => Refusal::new(status, code, "refused").into_response(),
    }
}

/// Text fields by name.
pub(crate) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Returns the text of a field. An empty text counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Returns the text of a field. Fails with 20001 when it is absent.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or(Refusal::oauth(20001))
    }
}

/// Returns the person who agreed on a page, or `None` when the page was declined.
pub(crate) fn chosen(fields: &Fields) -> Option<&str> {
    (fields.get("decision") == Some("agree")).then(|| fields.get("user").unwrap_or_default())
}
