//! The codes and addresses of a device authorization as the one text that is sealed.

use larkauth_models::{DeviceGrant, ExposeSecret, SecretString, Timestamp};
use serde_json::{Map, Value};

/// Returns the text. The expiry is in a column of its own.
pub(super) fn encode(grant: &DeviceGrant) -> SecretString {
    let text = |secret: &SecretString| Value::from(secret.expose_secret());
    let mut fields = Map::new();
    fields.insert("device_code".to_owned(), text(&grant.device_code));
    fields.insert("user_code".to_owned(), text(&grant.user_code));
    fields.insert("verification_uri".to_owned(), grant.verification_uri.as_str().into());
    let complete = grant.verification_uri_complete.as_ref().map_or(Value::Null, text);
    fields.insert("verification_uri_complete".to_owned(), complete);
    SecretString::from(Value::Object(fields).to_string())
}

/// Reads the text; `None` when it is malformed. The parser's message is dropped: it could repeat the text.
pub(super) fn decode(text: &SecretString, expires_at: Timestamp, is_card_stale: bool) -> Option<DeviceGrant> {
    let mut fields: Map<String, Value> = serde_json::from_str(text.expose_secret()).ok()?;
    let mut take = |name: &str| match fields.remove(name)? {
        Value::String(text) => Some(SecretString::from(text)),
        _ => None,
    };
    Some(DeviceGrant {
        device_code: take("device_code")?,
        user_code: take("user_code")?,
        verification_uri: take("verification_uri")?.expose_secret().parse().ok()?,
        verification_uri_complete: take("verification_uri_complete"),
        expires_at,
        is_card_stale,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_of_encoded_grant_returns_grant() {
        for complete in [Some("https://a.example/device?user_code=BCDF"), None] {
            let given = DeviceGrant {
                device_code: SecretString::from("d-\"1"),
                user_code: SecretString::from("BCDF"),
                verification_uri: "https://a.example/device".parse().unwrap(),
                verification_uri_complete: complete.map(SecretString::from),
                expires_at: Timestamp::UNIX_EPOCH,
                is_card_stale: true,
            };
            let read = decode(&encode(&given), given.expires_at, true).unwrap();
            assert_eq!(read.device_code.expose_secret(), "d-\"1");
            assert_eq!(read.user_code.expose_secret(), "BCDF");
            assert_eq!(read.verification_uri, given.verification_uri);
            assert_eq!(read.verification_uri_complete.as_ref().map(ExposeSecret::expose_secret), complete);
            assert!(read.is_card_stale && read.expires_at == given.expires_at);
        }
    }

    #[test]
    fn decode_of_other_text_returns_nothing() {
        for text in ["", "{}", "[]", r#"{"device_code":"d","user_code":"u","verification_uri":"x"}"#] {
            assert!(decode(&SecretString::from(text), Timestamp::UNIX_EPOCH, false).is_none(), "{text}");
        }
    }
}
