use larkauth_models::Actor;

/// The service that handles messages, as the actor of what no person decides.
pub(crate) const WORKER: Actor = Actor::service("auth-worker");
