use crate::{OpenId, SecretString, UnionId, UserId};

/// A person as Lark describes them. Everything but the open id may be missing: it depends on permissions.
#[derive(Clone, Debug)]
pub struct UserProfile {
    /// As this application sees them.
    pub open_id: OpenId,
    /// Across one developer's applications.
    pub union_id: Option<UnionId>,
    /// As their company sees them.
    pub user_id: Option<UserId>,
    /// Display name.
    pub name: Option<String>,
    /// English display name.
    pub en_name: Option<String>,
    /// Picture.
    pub avatar_url: Option<String>,
    /// Work or private mail address; never logged.
    pub email: Option<SecretString>,
    /// Mobile number; never logged, stored encrypted.
    pub mobile: Option<SecretString>,
    /// The company.
    pub tenant_key: Option<String>,
}
