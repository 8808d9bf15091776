//! The REST API.

mod auth;
mod input;
mod sessions;
mod tokens;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use auth::{ACTOR, ApiKeys};
pub(crate) use input::{PathOf, whole};

use crate::gateway::Gateway;

/// The one route whose requests may wait.
pub(crate) const LONG_POLL_ROUTE: &str = "/v1/auth/sessions/{session_id}";

pub(crate) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new()
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::get))
        .routes(routes!(tokens::get))
}
