//! Requests in the format of Lark's webhook, for a program that expects Lark to post to it.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use larkauth_models::{Entropy, ExposeSecret, SecretString, Timestamp};
use serde_json::{Map, Value, json};

use crate::{
    callback::{NONCE_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, crypto::old_card_signature, encrypt, sign},
    event::{Event, PushForm},
};

/// The secrets that an application and the receiver of its webhook share.
#[derive(Clone, Copy, Debug)]
pub struct WebhookSecrets<'a> {
    /// Goes into the body.
    pub verification_token: Option<&'a SecretString>,
    /// Encrypts the body and signs the request, except for a historical card callback.
    pub encrypt_key: Option<&'a SecretString>,
}

/// One request to a webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookRequest {
    /// Content type and, with an encrypt key, the signature.
    pub headers: HeaderMap,
    /// The body as it is signed.
    pub body: Vec<u8>,
}

impl fmt::Debug for WebhookRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookRequest").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Returns the request that Lark would post for a push: with the application's verification token in the body, and with an
/// encrypt key encrypted and signed. An empty secret counts as not set.
#[must_use]
pub fn webhook_request(
    push: &[u8],
    secrets: WebhookSecrets<'_>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> WebhookRequest {
    let filled = |secret: &&SecretString| !secret.expose_secret().is_empty();
    let (token, key) = (secrets.verification_token.filter(filled), secrets.encrypt_key.filter(filled));
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    let (mut iv, mut nonce) = ([0; 16], [0; 16]);
    entropy.fill(&mut iv);
    entropy.fill(&mut nonce);
    let (timestamp, nonce) = (now.timestamp().to_string(), hex::encode(nonce));
    let is_old_card = Event::parse(push).is_ok_and(|event| event.form == PushForm::OldCard);
    let (body, signature) = if is_old_card {
        // Never encrypted, and signed with the token.
        let body = push.to_vec();
        let signature = token.map(|token| hex::encode(old_card_signature(token, &timestamp, &nonce, &body)));
        (body, signature)
    } else {
        let plain = token.and_then(|token| with_token(push, token.expose_secret()));
        let plain = plain.unwrap_or_else(|| push.to_vec());
        match key {
            Some(key) => {
                let body = json!({ "encrypt": encrypt(key, iv, &plain) }).to_string().into_bytes();
                let signature = sign(key, &timestamp, &nonce, &body);
                (body, Some(signature))
            }
            None => (plain, None),
        }
    };
    if let Some(signature) = signature {
        for (name, value) in
            [(TIMESTAMP_HEADER, timestamp), (NONCE_HEADER, nonce), (SIGNATURE_HEADER, signature)]
        {
            // Digits and hexadecimal text always make a header value.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
    WebhookRequest { headers, body }
}

/// Puts the token where the schema of the push has it: in the header, or for version 1 at the top. Returns `None` when it
/// is there already or has no place. The long connection may leave it out, and receivers compare it.
fn with_token(push: &[u8], token: &str) -> Option<Vec<u8>> {
    let mut root: Map<String, Value> = serde_json::from_slice(push).ok()?;
    let place = if root.contains_key("header") {
        root.get_mut("header")?.as_object_mut()?
    } else if root.contains_key("event") {
        &mut root
    } else {
        return None;
    };
    if place.get("token").is_some_and(|known| known == token) {
        return None;
    }
    place.insert("token".to_owned(), token.into());
    serde_json::to_vec(&root).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larkauth_models::{ManualClock, SeededEntropy};

    use super::*;
    use crate::callback::{Callback, CallbackVerifier, decrypt};

    const PUSH: &str =
        r#"{"schema":"2.0","header":{"event_id":"e","token":"","event_type":"t"},"event":{"b":1,"a":2}}"#;

    fn request(push: &str, token: Option<&str>, key: Option<&str>) -> WebhookRequest {
        let (token, key) = (token.map(SecretString::from), key.map(SecretString::from));
        let secrets = WebhookSecrets { verification_token: token.as_ref(), encrypt_key: key.as_ref() };
        webhook_request(push.as_bytes(), secrets, now(), &SeededEntropy::new(1))
    }

    fn now() -> Timestamp {
        Timestamp::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn verified(request: &WebhookRequest, token: Option<&str>, key: Option<&str>) -> Value {
        let clock = Arc::new(ManualClock::at(now()));
        let verifier =
            CallbackVerifier::new(token.map(Into::into), key.map(Into::into), clock).accept_unsigned(true);
        let Ok(Callback::Event(plain)) = verifier.verify(&request.headers, &request.body) else {
            panic!("refused")
        };
        serde_json::from_slice(&plain).unwrap()
    }

    #[test]
    fn request_with_key_is_accepted_by_verifier() {
        for token in [None, Some("verification")] {
            let request = request(PUSH, token, Some("key"));
            let event = verified(&request, token, Some("key"));
            assert_eq!(
                (&event["event"], &event["header"]["token"]),
                (&json!({"a": 2, "b": 1}), &json!(token.unwrap_or("")))
            );
            let text = String::from_utf8(request.body).unwrap();
            assert!(!text.contains("event") && text.starts_with(r#"{"encrypt":"#), "{text}");
        }
    }

    #[test]
    fn request_without_key_is_plain_with_token() {
        let request = request(PUSH, Some("verification"), Some(""));
        assert_eq!(verified(&request, Some("verification"), None)["header"]["token"], "verification");
        assert!(!request.headers.contains_key(SIGNATURE_HEADER));
        assert!(!format!("{request:?}").contains("verification"));
    }

    #[test]
    fn request_with_nothing_to_add_keeps_every_byte() {
        let with_token = PUSH.replace(r#""token":"""#, r#""token":"verification""#);
        for (push, token) in
            [(PUSH, None), (with_token.as_str(), Some("verification")), ("no JSON", Some("t"))]
        {
            assert_eq!(request(push, token, None).body, push.as_bytes());
            let sealed: Value = serde_json::from_slice(&request(push, token, Some("k")).body).unwrap();
            let opened = decrypt(&"k".into(), sealed["encrypt"].as_str().unwrap()).unwrap();
            assert_eq!(opened, push.as_bytes());
        }
    }

    #[test]
    fn request_of_version_1_has_token_at_the_top() {
        let old = r#"{"uuid":"u","token":"","type":"event_callback","event":{"type":"message"}}"#;
        let body: Value = serde_json::from_slice(&request(old, Some("verification"), None).body).unwrap();
        assert_eq!(body["token"], "verification");
    }

    #[test]
    fn request_of_historical_card_is_plain_with_old_signature() {
        let old = r#"{"open_id":"ou_1","token":"c-1","action":{"value":{"k":"v"}}}"#;
        let request = request(old, Some("verification"), Some("key"));
        assert_eq!(request.body, old.as_bytes());
        assert_eq!(verified(&request, Some("verification"), Some("key"))["token"], "c-1");
    }
}
