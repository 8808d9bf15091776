//! Codes and tokens.

use std::collections::{BTreeSet, HashMap};

use larkauth_models::Timestamp;

use super::ledger::Ledger;

/// Version of the token endpoint. A refresh token of one version is invalid in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    V1,
    V2,
}

/// Owner of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    User(String),
    Tenant,
    App,
}

/// An authorization code.
pub(crate) struct Code {
    pub(crate) app_id: String,
    pub(crate) union_id: String,
    /// `None` for a code that came inside a card callback.
    pub(crate) redirect_uri: Option<String>,
    pub(crate) challenge: Option<String>,
    pub(crate) granted_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) used: Option<Used>,
}

/// An access token.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) app_id: String,
    pub(crate) owner: Owner,
    pub(crate) expires_at: Timestamp,
}

pub(crate) struct Refresh {
    pub(crate) app_id: String,
    pub(crate) union_id: String,
    pub(crate) api: Api,
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) granted_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) access_token: String,
    pub(crate) used: Option<Used>,
    pub(crate) revoked: bool,
}

/// Whether the answer to the first use reached the client. Only then is a second use a violation.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    pub(crate) delivered: bool,
}

/// All codes and tokens.
pub(crate) struct Grants {
    pub(crate) codes: Ledger<Code>,
    pub(crate) access: Ledger<Access>,
    pub(crate) refresh: Ledger<Refresh>,
    /// Scopes by (application, person); they accumulate.
    pub(crate) scopes: HashMap<(String, String), BTreeSet<String>>,
    /// The current tenant and app tokens by application.
    pub(crate) shared: HashMap<(String, &'static str), String>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            codes: Ledger::new(50_000),
            access: Ledger::new(50_000),
            refresh: Ledger::new(50_000),
            scopes: HashMap::new(),
            shared: HashMap::new(),
        }
    }
}
