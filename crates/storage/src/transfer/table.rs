use std::fmt;

/// A table whose rows are transferred. Rows refer only to tables that are declared before their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Registered applications.
    Applications,
    /// Tokens.
    Tokens,
    /// Profiles of people.
    Profiles,
    /// Authorization sessions.
    Sessions,
    /// API keys.
    ApiKeys,
    /// Processed events, transferred so that a message delivered again after the transfer has no second effect.
    ProcessedEvents,
    /// Audit records.
    Audit,
}

impl Table {
    /// Every table, in the order of the transfer.
    pub const ALL: [Self; 7] = [
        Self::Applications,
        Self::Tokens,
        Self::Profiles,
        Self::Sessions,
        Self::ApiKeys,
        Self::ProcessedEvents,
        Self::Audit,
    ];

    /// Returns the name of the table in both databases.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applications => "applications",
            Self::Tokens => "access_tokens",
            Self::Profiles => "user_profiles",
            Self::Sessions => "user_auth_sessions",
            Self::ApiKeys => "api_keys",
            Self::ProcessedEvents => "processed_events",
            Self::Audit => "audit_log",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
