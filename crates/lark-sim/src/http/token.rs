//! Both versions of the token endpoint.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    answer::{bearer_app, success},
    call::{Call, Fields},
};
use crate::{
    faults::Endpoint,
    rules::{
        devices::PollRefusal,
        grants::{CodeRequest, Issued, RefreshRequest},
    },
    sim::Sim,
    state::{
        State,
        codes::Refusal,
        grants::{Access, Api, Owner},
        limits::TOKEN_ENDPOINT,
    },
};

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Answers the current version.
pub(crate) async fn v2(call: Call) -> Response {
    let fields = call.fields();
    let basic = call.basic();
    let app_id =
        fields.get("client_id").or_else(|| basic.as_ref().map(|(id, _)| id.as_str())).unwrap_or_default();
    let grant = fields.get("grant_type").unwrap_or_default();
    let endpoint = match grant {
        "refresh_token" => Endpoint::TokenRefresh,
        DEVICE_GRANT => Endpoint::TokenDevice,
        _ => Endpoint::TokenCode,
    };
    let _running = RunningRefresh::begin(&call.sim, endpoint, &fields);
    call.run(endpoint, Some(app_id), |state, now, delivered| {
        let checked = credentials(&fields, basic.as_ref())
            .and_then(|(app_id, secret)| state.authenticate(app_id, secret).map(drop))
            .and_then(|()| state.limit(TOKEN_ENDPOINT, app_id, now));
        if let Err(refusal) = checked {
            return refusal.oauth_response();
        }
        let outcome = match grant {
            "authorization_code" => fields.required("code").and_then(|code| {
                let request = CodeRequest {
                    app_id,
                    code,
                    redirect_uri: fields.get("redirect_uri"),
                    verifier: fields.get("code_verifier"),
                    scope: fields.get("scope"),
                    api: Api::V2,
                    delivered,
                };
                state.exchange_code(now, &request)
            }),
            "refresh_token" => refresh(state, now, &fields, app_id, Api::V2, delivered),
            DEVICE_GRANT => {
                match fields.required("device_code").map(|code| state.poll_device(now, app_id, code)) {
                    Ok(Err(PollRefusal::Rfc8628(error))) => return rfc8628(error),
                    Ok(Err(PollRefusal::Refused(refusal))) | Err(refusal) => Err(refusal),
                    Ok(Ok(issued)) => Ok(issued),
                }
            }
            "" => Err(Refusal::oauth(20001)),
            _ => Err(Refusal::oauth(20036)),
        };
        match outcome {
            Ok(issued) => flat(issued),
            Err(refusal) => refusal.oauth_response(),
        }
    })
    .await
}

/// Returns the client credentials from the body or from HTTP Basic. Fails when both are given.
fn credentials<'a>(
    fields: &'a Fields,
    basic: Option<&'a (String, String)>,
) -> Result<(&'a str, &'a str), Refusal> {
    match (fields.get("client_secret"), basic) {
        (Some(_), Some(_)) => Err(Refusal::oauth(20070)),
        (None, Some((app_id, secret))) => Ok((app_id, secret)),
        (secret, None) => Ok((fields.required("client_id")?, secret.ok_or(Refusal::oauth(20001))?)),
    }
}

fn refresh(
    state: &mut State,
    now: larkauth_models::Timestamp,
    fields: &Fields,
    app_id: &str,
    api: Api,
    delivered: bool,
) -> Result<Issued, Refusal> {
    let refresh_token = fields.required("refresh_token")?;
    let scope = fields.get("scope");
    state.refresh(now, &RefreshRequest { app_id, refresh_token, scope, api, delivered })
}

fn flat(issued: Issued) -> Response {
    let mut body = json!({
        "code": 0, "access_token": issued.access_token, "expires_in": issued.expires_in,
        "scope": issued.scope, "token_type": "Bearer",
    });
    if let Some((token, expires_in)) = issued.refresh {
        body["refresh_token"] = json!(token);
        body["refresh_token_expires_in"] = json!(expires_in);
    }
    Json(body).into_response()
}

fn rfc8628(error: &'static str) -> Response {
    let body = json!({"error": error, "error_description": error.replace('_', " ")});
    (axum::http::StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// Answers the historical version, authorization code.
pub(crate) async fn v1_code(call: Call) -> Response {
    v1(call, Endpoint::OidcCode, "authorization_code").await
}

/// Answers the historical version, refresh token.
pub(crate) async fn v1_refresh(call: Call) -> Response {
    v1(call, Endpoint::OidcRefresh, "refresh_token").await
}

async fn v1(call: Call, endpoint: Endpoint, grant: &'static str) -> Response {
    let fields = call.fields();
    let bearer = call.bearer();
    let app_id = bearer_app(&call.sim, bearer);
    let _running = RunningRefresh::begin(&call.sim, endpoint, &fields);
    call.run(endpoint, app_id.as_deref(), |state, now, delivered| {
        let app_id = match state.access(bearer) {
            Some(Access { app_id, owner: Owner::App, expires_at }) if now < *expires_at => app_id.clone(),
            _ => return Refusal::new(200, 20_014, "The app access token passed is invalid").oidc_response(),
        };
        if let Err(refusal) = state.limit(TOKEN_ENDPOINT, &app_id, now) {
            return refusal.oidc_response();
        }
        let outcome = match fields.get("grant_type") {
            Some(given) if given == grant => {
                if grant == "refresh_token" {
                    refresh(state, now, &fields, &app_id, Api::V1, delivered)
                } else {
                    fields.required("code").and_then(|code| {
                        let request = CodeRequest {
                            app_id: &app_id,
                            code,
                            redirect_uri: None,
                            verifier: None,
                            scope: None,
                            api: Api::V1,
                            delivered,
                        };
                        state.exchange_code(now, &request)
                    })
                }
            }
            Some(_) => Err(Refusal::oauth(20036)),
            None => Err(Refusal::oauth(20001)),
        };
        match outcome {
            Ok(issued) => nested(issued),
            Err(refusal) => refusal.oidc_response(),
        }
    })
    .await
}

fn nested(issued: Issued) -> Response {
    let (refresh_token, refresh_expires_in) = issued.refresh.unwrap_or_default();
    success(&json!({
        "access_token": issued.access_token, "expires_in": issued.expires_in, "token_type": "Bearer",
        "refresh_token": refresh_token, "refresh_expires_in": refresh_expires_in, "scope": issued.scope,
    }))
}

/// Marks a refresh as running until its request ends.
struct RunningRefresh<'a> {
    sim: &'a Sim,
    app_id: String,
    union_id: String,
}

impl<'a> RunningRefresh<'a> {
    fn begin(sim: &'a Sim, endpoint: Endpoint, fields: &Fields) -> Option<Self> {
        if !matches!(endpoint, Endpoint::TokenRefresh | Endpoint::OidcRefresh) {
            return None;
        }
        let now = sim.now();
        let mut state = sim.state();
        let (app_id, union_id) = state.refresh_owner(fields.get("refresh_token")?)?;
        state.begin_refresh(now, &app_id, &union_id);
        drop(state);
        Some(Self { sim, app_id, union_id })
    }
}

impl Drop for RunningRefresh<'_> {
    fn drop(&mut self) {
        self.sim.state().end_refresh(&self.app_id, &self.union_id);
    }
}
