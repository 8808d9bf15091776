use axum::Router;

/// Routes of a service, by the listener that serves them.
pub struct Routes {
    pub(crate) private: Router,
    pub(crate) public: Option<Router>,
}

impl Routes {
    /// Everything on `HTTP_ADDR`.
    #[must_use]
    pub const fn on_one_listener(routes: Router) -> Self {
        Self { private: routes, public: None }
    }

    /// What browsers and Lark reach on `PUBLIC_HTTP_ADDR`, the rest on `HTTP_ADDR`.
    #[must_use]
    pub const fn on_two_listeners(public: Router, private: Router) -> Self {
        Self { private, public: Some(public) }
    }
}
