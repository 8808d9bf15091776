use std::sync::Arc;

use larkauth_auth::ConsoleSession;
use larkauth_models::{Actor, Origin, Principal};
use larkauth_storage::ApiKey;

use crate::{host::Reached, lang::Lang};

/// Who asks for a page, and how.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) lang: Lang,
    pub(crate) reached: Reached,
    /// What was asked for, relative to the folder of the console.
    pub(crate) here: String,
    pub(crate) login: Option<Login>,
}

/// A login whose key is active.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) session: ConsoleSession,
    pub(crate) key: Arc<ApiKey>,
    pub(crate) actor: Actor,
}

impl Login {
    pub(crate) fn new(session: ConsoleSession, key: Arc<ApiKey>, reached: &Reached) -> Self {
        let actor = actor(&key, reached);
        Self { session, key, actor }
    }
}

/// Returns the key as the actor of what it does in the console. The id of the request says that it came from there.
pub(crate) fn actor(key: &ApiKey, reached: &Reached) -> Actor {
    let request_id = reached.origin.request_id.as_ref().map(|id| format!("console:{id}"));
    let principal = Principal::ApiKey { id: key.id, name: key.name.clone(), access: key.access.clone() };
    Actor { principal, origin: Origin { address: reached.origin.address.clone(), request_id } }
}
