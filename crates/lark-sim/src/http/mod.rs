//! The platform's HTTP side: one file per group of endpoints.

mod answer;
mod call;
mod consent;
mod credentials;
mod device;
mod discovery;
mod messages;
mod people;
mod token;

use axum::{
    Router,
    http::StatusCode,
    routing::{get, patch, post},
};

use crate::{
    control,
    rules::{consent::AUTHORIZE_PATH, devices::PAGE_PATH},
    sim::Sim,
    ws,
};

/// Returns the routes of the platform and of the control API.
pub(crate) fn router(sim: Sim) -> Router {
    Router::new()
        .route("/callback/ws/endpoint", post(discovery::endpoint))
        .route(ws::PATH, get(ws::connect))
        .route("/open-apis/auth/v3/tenant_access_token/internal", post(credentials::tenant))
        .route("/open-apis/auth/v3/app_access_token/internal", post(credentials::app))
        .route(AUTHORIZE_PATH, get(consent::page).post(consent::decide))
        .route("/open-apis/authen/v2/oauth/token", post(token::v2))
        .route("/open-apis/authen/v1/oidc/access_token", post(token::v1_code))
        .route("/open-apis/authen/v1/oidc/refresh_access_token", post(token::v1_refresh))
        .route("/oauth/v1/device_authorization", post(device::start))
        .route(PAGE_PATH, get(device::page).post(device::decide))
        .route("/open-apis/authen/v1/user_info", get(people::user_info))
        .route("/open-apis/bot/v3/info", get(people::bot))
        .route("/open-apis/contact/v3/users/batch", get(people::batch))
        .route("/open-apis/contact/v3/users/batch_get_id", post(people::ids))
        .route("/open-apis/contact/v3/users/{user_id}", get(people::one))
        .route("/open-apis/im/v1/messages", post(messages::send))
        .route("/open-apis/im/v1/messages/{message_id}", patch(messages::update))
        .route("/open-apis/interactive/v1/card/update", post(messages::delayed_update))
        .nest("/_sim", control::router())
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found") })
        .with_state(sim)
}
