use std::fmt;

use uuid::Uuid;

use crate::{AppId, OpenId};

/// Who asks for an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A caller of the REST API.
    ApiKey {
        /// The key's public id; nil for the bootstrap key of the settings.
        id: Uuid,
        /// The key's name.
        name: String,
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

impl Actor {
    /// Returns the kind of the actor, as logs and records spell it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ApiKey { .. } => "api_key",
            Self::Operator { .. } => "operator",
            Self::Service(_) => "service",
            Self::Person { .. } => "person",
        }
    }
}

/// Writes the kind and what identifies the actor. The id of a person is left out, because logs hold none.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::ApiKey { id, .. } => write!(f, ":{id}"),
            Self::Operator { name } => write!(f, ":{name}"),
            Self::Service(name) => write!(f, ":{name}"),
            Self::Person { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_the_actor_but_no_person() {
        let id = Uuid::nil();
        let key = Actor::ApiKey { id, name: "crm".to_owned() };
        assert_eq!(key.to_string(), format!("api_key:{id}"));
        assert_eq!(Actor::Operator { name: "root".to_owned() }.to_string(), "operator:root");
        assert_eq!(Actor::Service("gateway").to_string(), "service:gateway");
        let person = Actor::Person {
            app_id: AppId::new("cli_0123456789abcdef").unwrap(),
            open_id: OpenId::new("ou_1").unwrap(),
        };
        assert_eq!(person.to_string(), "person");
    }
}
