use crate::spelled_enum::spelled_enum;

spelled_enum! {
    /// What a key of the REST API may do.
    KeyScope {
        /// Look at sessions.
        SessionsRead = "sessions:read",
        /// Invite people.
        SessionsWrite = "sessions:write",
        /// Take tokens, and invite the person whose token is missing.
        TokensRead = "tokens:read",
        /// Everything, also what later versions add.
        Everything = "*",
    }
}

impl KeyScope {
    /// Whether a key with these scopes may do it. Scopes that another version knows stay without effect.
    #[must_use]
    pub fn is_among(self, scopes: &[String]) -> bool {
        scopes.iter().any(|scope| scope == self.as_str() || scope == Self::Everything.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_stands_for_each() {
        let scopes = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert!(KeyScope::TokensRead.is_among(&scopes(&["sessions:read", "tokens:read"])));
        assert!(KeyScope::TokensRead.is_among(&scopes(&["*"])));
        assert!(!KeyScope::TokensRead.is_among(&scopes(&["tokens", "tokens:read:all", ""])));
        assert!(!KeyScope::Everything.is_among(&scopes(&["tokens:read"])));
    }
}
