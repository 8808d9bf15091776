use larkauth_models::Actor;

/// The gateway, as the actor of what it does on its own.
pub(crate) const ACTOR: Actor = Actor::service("gateway");
