use crate::{OpenId, SecretString, UnionId, UserId, spelled_enum::spelled_enum};

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

spelled_enum! {
    /// Why the token of a person is suspended.
    SuspensionReason {
        /// An administrator has frozen the account.
        Frozen = "frozen",
        /// The person has left the company.
        Resigned = "resigned",
        /// The person has left the tenant voluntarily.
        Exited = "exited",
        /// Lark refused the person, without the state of the account being known.
        Refused = "refused",
    }
}

spelled_enum! {
    /// A change of whether a person is served.
    UserState {
        /// The person is not served any more.
        Suspended = "suspended",
        /// The person is served again, or can be asked to consent again.
        Restored = "restored",
    }
}
