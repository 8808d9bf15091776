use crate::{OpenId, SecretString, UnionId, UserId};

/// Profile of a person in Lark. Every field except the open id depends on the permissions of the application.
#[derive(Clone, Debug)]
pub struct UserProfile {
    /// Identifier within the application.
    pub open_id: OpenId,
    /// Identifier across the applications of one developer.
    pub union_id: Option<UnionId>,
    /// Identifier within the company.
    pub user_id: Option<UserId>,
    /// Display name.
    pub name: Option<String>,
    /// English display name.
    pub en_name: Option<String>,
    /// Address of the picture.
    pub avatar_url: Option<String>,
    /// Work or private mail address; never logged.
    pub email: Option<SecretString>,
    /// Mobile number; never logged, stored encrypted.
    pub mobile: Option<SecretString>,
    /// Company of the person.
    pub tenant_key: Option<String>,
}
