use std::fmt;

use uuid::Uuid;

use crate::{AppId, EventId, OpenId};

/// Who asks for an operation, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Who asks.
    pub principal: Principal,
    /// From where, and with which request.
    pub origin: Origin,
}

/// Where a request came from, for the audit record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address, or the host of an operator.
    pub address: Option<String>,
    /// The id of the HTTP request or of the event.
    pub request_id: Option<String>,
}

/// Who asks for an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A caller of the REST API.
    ApiKey {
        /// The key's public id; nil for the bootstrap key of the settings.
        id: Uuid,
        /// The key's name.
        name: String,
        /// What the key may reach beside its scopes.
        access: KeyAccess,
    },
    /// A person at the command line.
    Operator {
        /// The account of the operating system.
        name: String,
    },
    /// A service of this project, acting on its own.
    Service(&'static str),
    /// A person in the chat.
    Person {
        /// The application that the person talks to.
        app_id: AppId,
        /// The person, as this application sees them.
        open_id: OpenId,
    },
}

/// What an API key may reach beside its scopes. An empty list restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyAccess {
    /// The applications that the key sees.
    pub app_ids: Vec<String>,
    /// The scopes of Lark that a session of the key may ask for. `offline_access` is always among them.
    pub lark_scopes: Vec<String>,
}

impl KeyAccess {
    /// Returns whether the key sees this application.
    #[must_use]
    pub fn may_use_app(&self, app_id: &AppId) -> bool {
        self.app_ids.is_empty() || self.app_ids.iter().any(|known| known == app_id.as_str())
    }

    /// Returns whether a session of the key may ask for this scope of Lark.
    #[must_use]
    pub fn may_ask_for(&self, scope: &str) -> bool {
        self.lark_scopes.is_empty()
            || scope == OFFLINE_ACCESS
            || self.lark_scopes.iter().any(|known| known == scope)
    }
}

/// The scope that only permits a refresh token, and reads nothing.
const OFFLINE_ACCESS: &str = "offline_access";

impl Actor {
    /// Returns the name under which people may know the actor: that of a created API key.
    #[must_use]
    pub fn public_name(&self) -> Option<&str> {
        match &self.principal {
            Principal::ApiKey { id, name, .. } if !id.is_nil() => Some(name),
            _ => None,
        }
    }

    /// Returns the id of the actor's API key; `None` for the bootstrap key, which is not stored.
    #[must_use]
    pub fn stored_key(&self) -> Option<Uuid> {
        match &self.principal {
            Principal::ApiKey { id, .. } if !id.is_nil() => Some(*id),
            _ => None,
        }
    }

    /// Returns a service that acts on its own.
    #[must_use]
    pub const fn service(name: &'static str) -> Self {
        Self { principal: Principal::Service(name), origin: Origin { address: None, request_id: None } }
    }

    /// Returns an operator at a host.
    #[must_use]
    pub const fn operator(name: String, host: Option<String>) -> Self {
        Self { principal: Principal::Operator { name }, origin: Origin { address: host, request_id: None } }
    }

    /// Returns a person whose click or redirect arrived as this event.
    #[must_use]
    pub fn person(app_id: AppId, open_id: OpenId, event: &EventId) -> Self {
        let origin = Origin { address: None, request_id: Some(event.to_string()) };
        Self { principal: Principal::Person { app_id, open_id }, origin }
    }

    /// Returns what restricts the actor. `None` for an actor that is not restricted.
    #[must_use]
    pub const fn access(&self) -> Option<&KeyAccess> {
        match &self.principal {
            Principal::ApiKey { access, .. } => Some(access),
            _ => None,
        }
    }

    /// Returns whether the actor sees this application.
    #[must_use]
    pub fn may_use_app(&self, app_id: &AppId) -> bool {
        self.access().is_none_or(|access| access.may_use_app(app_id))
    }

    /// Returns whether the actor is a service that acts on its own.
    #[must_use]
    pub const fn is_service(&self) -> bool {
        matches!(self.principal, Principal::Service(_))
    }
}

impl Principal {
    /// Returns the kind of the principal, as logs and records spell it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ApiKey { .. } => "api_key",
            Self::Operator { .. } => "operator",
            Self::Service(_) => "service",
            Self::Person { .. } => "person",
        }
    }

    /// Returns what identifies the principal among those of its kind.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::ApiKey { id, .. } => id.to_string(),
            Self::Operator { name } => name.clone(),
            Self::Service(name) => (*name).to_owned(),
            Self::Person { open_id, .. } => open_id.to_string(),
        }
    }
}

/// Writes the kind and what identifies the actor. The id of a person is left out: only audit records hold it.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.principal.kind())?;
        match &self.principal {
            Principal::ApiKey { id, .. } => write!(f, ":{id}"),
            Principal::Operator { name } => write!(f, ":{name}"),
            Principal::Service(name) => write!(f, ":{name}"),
            Principal::Person { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_empty_list_restricts_nothing() {
        let app = |text: &str| AppId::new(text).unwrap();
        let (a, b) = (app("cli_0123456789abcdef"), app("cli_fedcba9876543210"));
        let everything = KeyAccess::default();
        assert!(everything.may_use_app(&a) && everything.may_ask_for("contact:contact"));
        let restricted =
            KeyAccess { app_ids: vec![a.to_string()], lark_scopes: vec!["docs:read".to_owned()] };
        assert!(restricted.may_use_app(&a) && !restricted.may_use_app(&b));
        assert!(restricted.may_ask_for("docs:read") && restricted.may_ask_for("offline_access"));
        assert!(!restricted.may_ask_for("docs") && !restricted.may_ask_for("docs:read:all"));
        assert!(Actor::service("gateway").may_use_app(&b));
    }

    #[test]
    fn display_names_the_actor_but_no_person() {
        let id = Uuid::nil();
        let principal = Principal::ApiKey { id, name: "crm".to_owned(), access: KeyAccess::default() };
        let key = Actor { principal, origin: Origin::default() };
        assert_eq!(key.to_string(), format!("api_key:{id}"));
        assert_eq!(Actor::operator("root".to_owned(), None).to_string(), "operator:root");
        assert_eq!(Actor::service("gateway").to_string(), "service:gateway");
        let person = Actor::person(
            AppId::new("cli_0123456789abcdef").unwrap(),
            OpenId::new("ou_1").unwrap(),
            &EventId::new("e-1").unwrap(),
        );
        assert_eq!(person.to_string(), "person");
    }
}
