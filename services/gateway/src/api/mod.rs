//! The REST API.

mod audit;
mod cursor;
pub(crate) mod require_scope;
mod sessions;
pub(crate) mod tokens;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use sessions::MAX_WAIT;

use crate::state::AppState;

/// Routes whose requests wait for nothing.
pub(crate) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new()
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(tokens::get, tokens::forget))
        .routes(routes!(tokens::refresh))
        .routes(routes!(audit::list))
}

/// Routes whose requests may wait.
pub(crate) fn long_poll_routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new().routes(routes!(sessions::get))
}
