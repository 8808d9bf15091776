use std::{pin::Pin, sync::Arc};

use axum::{Router, http::request::Parts, response::Response};

/// Answers frequent requests of a listener without its router, whose layers cost several times as much as such an answer. What it
/// answers is what the router would.
pub trait Shortcut: Send + Sync + 'static {
    /// Whether this may be such a request; decided by the head alone, and waiting for nothing.
    fn takes(&self, head: &Parts) -> bool;

    /// Returns the answer, or `None` when the router is to give it.
    fn answer<'a>(
        &'a self,
        head: &'a mut Parts,
    ) -> Pin<Box<dyn Future<Output = Option<Response>> + Send + 'a>>;
}

/// Routes of a service, by the listener that serves them.
pub struct Routes {
    pub(crate) private: Router,
    pub(crate) public: Option<Router>,
    pub(crate) shortcut: Option<Arc<dyn Shortcut>>,
}

impl Routes {
    /// Everything on `HTTP_ADDR`.
    #[must_use]
    pub const fn on_one_listener(routes: Router) -> Self {
        Self { private: routes, public: None, shortcut: None }
    }

    /// What browsers and Lark reach on `PUBLIC_HTTP_ADDR`, the rest on `HTTP_ADDR`.
    #[must_use]
    pub const fn on_two_listeners(public: Router, private: Router) -> Self {
        Self { private, public: Some(public), shortcut: None }
    }

    /// Puts a shortcut before the routes of `HTTP_ADDR`.
    #[must_use]
    pub fn with_shortcut(self, shortcut: Arc<dyn Shortcut>) -> Self {
        Self { shortcut: Some(shortcut), ..self }
    }
}
