//! The operator console: web pages over the operations of `larkauth-auth`, for an operator with an API key.
//!
//! What may live here: routes, pages, the login of a browser. What may not: a decision about authorization, SQL, AMQP, a
//! script, anything that is loaded from elsewhere. The gateway serves these routes on its private listener only, and tells
//! through [`Host`] who calls.
//!
//! By module: `login` reads the cookie before each request and renders what failed, `visitor` is what it found, `visit` holds the extractors that prove
//! login, scope and form token before a handler runs, `same_origin` refuses requests of other sites, `attempts` bounds wrong
//! keys. `pages` has one file and one template per page; `shell` is the frame around them, `words` and `lang` what they say
//! in two languages, `format` how they show times and texts of others.
//!
//! Every page lies directly below `/console/`, so links are single names, and the cookie, which names no path, belongs to
//! `/console` also behind a proxy that serves the gateway under a path of its own.
//!
//! To add a page: a file in `pages` with its `Template`, whose handler takes `visit::Visit` with the scope that the
//! REST API asks for the same; a line in [`router`] and one in `shell::NAV`. To add an action: a
//! handler with `visit::Posted`, and a page that asks first (`pages::confirm`).

mod attempts;
mod cookie;
mod failure;
mod failure_page;
mod format;
mod host;
mod lang;
mod login;
mod pages;
mod same_origin;
mod shell;
mod state;
mod target;
mod visit;
mod visitor;
mod words;

use std::sync::Arc;

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{get, post},
};

pub use host::{Host, Reached};
pub use state::Console;

/// The routes of the console, for the private listener.
pub fn router<S: Clone + Send + Sync + 'static>(console: Console) -> Router<S> {
    let console = Arc::new(console);
    let pages = Router::new()
        .route("/console/", get(pages::overview::show))
        .route("/console/login", get(pages::login::show).post(pages::login::log_in))
        .route("/console/logout", post(pages::login::log_out))
        .route("/console/language", get(pages::language::switch))
        .route("/console/sessions", get(pages::sessions::show))
        .route("/console/session", get(pages::session::show))
        .route("/console/people", get(pages::people::show))
        .route("/console/person", get(pages::person::show))
        .route("/console/refresh", get(pages::token::ask_refresh).post(pages::token::refresh))
        .route("/console/revoke", get(pages::token::ask_revoke).post(pages::token::revoke))
        .route("/console/horizon", get(pages::horizon::show))
        .route("/console/dead-letters", get(pages::dead_letters::show))
        .route("/console/requeue", get(pages::dead_letter::ask_requeue).post(pages::dead_letter::requeue))
        .route("/console/drop", get(pages::dead_letter::ask_drop).post(pages::dead_letter::discard))
        .route("/console/audit", get(pages::audit::show))
        .route("/console/apps", get(pages::apps::show))
        .route("/console/enable", get(pages::app::ask_enable).post(pages::app::enable))
        .route("/console/disable", get(pages::app::ask_disable).post(pages::app::disable))
        .layer(from_fn_with_state(console.clone(), login::with_login));
    // Without the layer: a cookie of this address would belong to every path.
    Router::new().route("/console", get(target::to_overview)).merge(pages).with_state(console)
}
