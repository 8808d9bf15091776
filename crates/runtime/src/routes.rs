use std::net::SocketAddr;

use axum::Router;

/// Routes of a service, by the listener that serves them.
pub struct Routes {
    pub(crate) private: Router,
    pub(crate) public: Option<(SocketAddr, Router)>,
}

impl Routes {
    /// Everything on `HTTP_ADDR`.
    #[must_use]
    pub const fn on_one_listener(routes: Router) -> Self {
        Self { private: routes, public: None }
    }

    /// What browsers and Lark reach on an address of its own, the rest on `HTTP_ADDR`.
    #[must_use]
    pub const fn on_two_listeners(public_addr: SocketAddr, public: Router, private: Router) -> Self {
        Self { private, public: Some((public_addr, public)) }
    }
}
