use larkauth_lark::api::LarkClient;
use larkauth_models::Application;

/// An application and the client that speaks for it.
#[derive(Clone)]
pub struct App {
    /// As registered.
    pub application: Application,
    /// Holds the tenant token, so it outlives reloads of the registration.
    pub client: LarkClient,
}
