use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Error for a value that violates the format of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not a valid {kind}: expected {expected}")]
pub struct IdError {
    kind: String,
    expected: &'static str,
    got: String,
}

impl IdError {
    /// Creates an error. `type_name` is shown as plain text: `AppId` as "app id".
    pub(crate) fn new(type_name: &str, expected: &'static str, got: &str) -> Self {
        let mut kind = String::new();
        for c in type_name.chars() {
            if c.is_ascii_uppercase() && !kind.is_empty() {
                kind.push(' ');
            }
            kind.push(c.to_ascii_lowercase());
        }
        // Bounded and on one line: hostile input must not flood or forge a log.
        let got = got.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect();
        Self { kind, expected, got }
    }
}

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Validates the text: ", $expected, ".")]
            ///
            /// # Errors
            /// Fails when the text is of another form.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(IdError::new(stringify!($name), $expected, &text)) }
            }
            /// Returns the text in Lark's spelling.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> { Self::new(text) }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self { id.0 }
        }
        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> { Self::new(text) }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    };
}

fn plain(text: &str, max: usize) -> bool {
    !text.is_empty()
        && text.len() <= max
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b':'))
}

text_id!(
    /// Identifier of an application of the Lark developer console, also the OAuth `client_id`.
    AppId,
    "`cli_` and 16 to 32 letters or digits",
    |t| t
        .strip_prefix("cli_")
        .is_some_and(|rest| (16..=32).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
);
text_id!(
    /// Identifier of a person within one application (`ou_…`).
    OpenId,
    "1 to 64 letters, digits or `_-.@:`, usually starting with `ou_`",
    |t| plain(t, 64)
);
text_id!(
    /// Identifier of a person within the company; Lark returns it only with an extra permission.
    UserId,
    "1 to 64 letters, digits or `_-.@:`",
    |t| plain(t, 64)
);
text_id!(
    /// Identifier of a person across the applications of one developer (`on_…`).
    UnionId,
    "1 to 64 letters, digits or `_-.@:`, usually starting with `on_`",
    |t| plain(t, 64)
);
text_id!(
    /// Identifier of a chat message (`om_…`); here, of the card.
    MessageId,
    "1 to 64 letters, digits or `_-.@:`, usually starting with `om_`",
    |t| plain(t, 64)
);
text_id!(
    /// Identifier that detects a repeated delivery.
    EventId,
    "1 to 128 letters, digits or `_-.@:`",
    |t| plain(t, 128)
);

const EXPECTED_UUID: &str = "a UUID, like 0198c5a0-0000-7000-8000-000000000000";

/// Identifier of an authorization session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl std::str::FromStr for SessionId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self).map_err(|_| IdError::new("SessionId", EXPECTED_UUID, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_id_new_accepts_console_format_only() {
        assert!(AppId::new("cli_0123456789abcdef").is_ok());
        assert!(AppId::new("cli_0123456789abcdefABCDEF0123456789").is_ok());
        for bad in [
            "",
            "cli_",
            "cli_short",
            "app_0123456789abcdef",
            "cli_0123456789abcde!",
            "cli_0123456789abcdefABCDEF01234567890",
        ] {
            assert!(AppId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn id_error_display_names_kind_and_expected_format() {
        let error = AppId::new("foo").unwrap_err().to_string();
        assert_eq!(error, "`foo` is not a valid app id: expected `cli_` and 16 to 32 letters or digits");
        let error = "foo".parse::<SessionId>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`foo` is not a valid session id: expected a UUID, like 0198c5a0-0000-7000-8000-000000000000"
        );
    }

    #[test]
    fn id_error_display_of_long_input_is_one_bounded_line() {
        let error = AppId::new("x\n".repeat(500)).unwrap_err().to_string();
        assert!(error.len() < 200 && !error.contains('\n'), "{error}");
    }
}
