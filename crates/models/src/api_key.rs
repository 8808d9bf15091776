use crate::spelled_enum::spelled_enum;

spelled_enum! {
    /// A permission of an API key.
    KeyScope {
        /// Reads sessions.
        SessionsRead = "sessions:read",
        /// Creates sessions.
        SessionsWrite = "sessions:write",
        /// Reads tokens, and creates a session for a person without a token.
        TokensRead = "tokens:read",
        /// Makes calls to Lark as a person.
        Proxy = "proxy",
        /// Registers and changes applications.
        AppsAdmin = "apps:admin",
        /// Reads the audit record.
        AuditRead = "audit:read",
        /// Every operation, including those that later versions add.
        Everything = "*",
    }
}

impl KeyScope {
    /// Returns true when a key with these scopes has this permission. Unknown scopes have no effect.
    #[must_use]
    pub fn is_among(self, scopes: &[String]) -> bool {
        scopes.iter().any(|scope| scope == self.as_str() || scope == Self::Everything.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_among_with_everything_includes_each_scope() {
        let scopes = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert!(KeyScope::TokensRead.is_among(&scopes(&["sessions:read", "tokens:read"])));
        assert!(KeyScope::TokensRead.is_among(&scopes(&["*"])));
        assert!(!KeyScope::TokensRead.is_among(&scopes(&["tokens", "tokens:read:all", ""])));
        assert!(!KeyScope::Everything.is_among(&scopes(&["tokens:read"])));
    }
}
