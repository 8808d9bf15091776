use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue};
use larkauth_models::{Clock, ManualClock, SecretString, Timestamp};
use proptest::prelude::*;

use super::*;

const KEY: &str = "encrypt-key";
const TOKEN: &str = "verification-token";
const EVENT: &str =
    r#"{"schema":"2.0","header":{"event_id":"e","event_type":"t","token":"verification-token"},"event":{}}"#;
const CHECK: &str = r#"{"type":"url_verification","challenge":"c123","token":"verification-token"}"#;

struct Fixture {
    clock: Arc<ManualClock>,
    verifier: CallbackVerifier,
}

fn fixture(token: Option<&str>, key: Option<&str>) -> Fixture {
    let clock = Arc::new(ManualClock::at(Timestamp::from_timestamp_millis(1_700_000_000_000).unwrap()));
    let verifier =
        CallbackVerifier::new(token.map(SecretString::from), key.map(SecretString::from), clock.clone())
            .accept_unsigned(true);
    Fixture { clock, verifier }
}

impl Fixture {
    fn signed(&self, nonce: &str, body: &[u8]) -> HeaderMap {
        signed_at(&self.clock.now().timestamp().to_string(), nonce, body)
    }
}

fn signed_at(timestamp: &str, nonce: &str, body: &[u8]) -> HeaderMap {
    let signature = sign(&SecretString::from(KEY), timestamp, nonce, body);
    let mut headers = HeaderMap::new();
    for (name, value) in
        [(TIMESTAMP_HEADER, timestamp), (NONCE_HEADER, nonce), (SIGNATURE_HEADER, &signature)]
    {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn sealed(plain: &str) -> Vec<u8> {
    let text = encrypt(&SecretString::from(KEY), [3; 16], plain.as_bytes());
    serde_json::json!({ "encrypt": text }).to_string().into_bytes()
}

fn event() -> Result<Callback, CallbackError> {
    Ok(Callback::Event(EVENT.as_bytes().to_vec()))
}

fn challenge() -> Result<Callback, CallbackError> {
    Ok(Callback::Challenge("c123".to_owned()))
}

#[test]
fn verify_signed_event_is_accepted_until_processed() {
    let f = fixture(Some(TOKEN), Some(KEY));
    let body = sealed(EVENT);
    let headers = f.signed("n1", &body);
    for _ in 0..2 {
        assert_eq!(f.verifier.verify(&headers, &body), event(), "refused, it is pushed again");
    }
    f.verifier.mark_processed(&headers);
    assert_eq!(f.verifier.verify(&headers, &body), Err(CallbackError::Replayed));
    assert_eq!(f.verifier.verify(&f.signed("n2", &body), &body), event());
}

#[test]
fn verify_outside_replay_window_is_refused() {
    let f = fixture(None, Some(KEY));
    let body = sealed(EVENT);
    let old = f.signed("n1", &body);
    f.clock.advance(Duration::from_secs(301));
    assert_eq!(f.verifier.verify(&old, &body), Err(CallbackError::OutsideWindow));
    let at = |offset: i64| signed_at(&(f.clock.now().timestamp() + offset).to_string(), "n2", &body);
    assert_eq!(f.verifier.verify(&at(301), &body), Err(CallbackError::OutsideWindow));
    assert_eq!(f.verifier.verify(&at(299), &body), event());
    assert_eq!(f.verifier.verify(&at(-299), &body), event());
    f.verifier.mark_processed(&at(299));
    f.clock.advance(Duration::from_secs(590));
    assert_eq!(f.verifier.verify(&at(-291), &body), Err(CallbackError::Replayed), "still remembered");
    assert_eq!(
        f.verifier.verify(&signed_at("yesterday", "n", &body), &body),
        Err(CallbackError::OutsideWindow)
    );
    let millis = f.clock.now().timestamp_millis().to_string();
    assert_eq!(f.verifier.verify(&signed_at(&millis, "n3", &body), &body), event());
}

#[test]
fn verify_with_key_plain_unsigned_or_forged_is_refused() {
    let f = fixture(Some(TOKEN), Some(KEY));
    let none = HeaderMap::new();
    assert_eq!(f.verifier.verify(&none, EVENT.as_bytes()), Err(CallbackError::NotEncrypted));
    assert_eq!(f.verifier.verify(&none, &sealed(EVENT)), Err(CallbackError::NotSigned));
    let plain = EVENT.as_bytes();
    assert_eq!(f.verifier.verify(&f.signed("n", plain), plain), Err(CallbackError::NotEncrypted));
    let mut body = sealed(EVENT);
    let headers = f.signed("n", &body);
    body.push(b' ');
    assert_eq!(f.verifier.verify(&headers, &body), Err(CallbackError::WrongSignature));
    let mut headers = f.signed("n", &sealed(EVENT));
    headers.insert(SIGNATURE_HEADER, HeaderValue::from_static("zz"));
    assert_eq!(f.verifier.verify(&headers, &sealed(EVENT)), Err(CallbackError::WrongSignature));
    headers.remove(NONCE_HEADER);
    assert_eq!(f.verifier.verify(&headers, &sealed(EVENT)), Err(CallbackError::NotSigned));
}

#[test]
fn verify_unsigned_every_failure_returns_not_signed() {
    let f = fixture(Some(TOKEN), Some(KEY));
    let wrong_token = CHECK.replace(TOKEN, "other");
    let no_challenge = CHECK.replace("c123", "");
    let bad_padding = br#"{"encrypt":"P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk="}"#.to_vec();
    for body in [sealed("not json"), sealed(&wrong_token), sealed(&no_challenge), bad_padding, sealed(EVENT)]
    {
        assert_eq!(f.verifier.verify(&HeaderMap::new(), &body), Err(CallbackError::NotSigned));
    }
}

#[test]
fn verify_url_check_signed_or_not_returns_challenge() {
    let f = fixture(Some(TOKEN), Some(KEY));
    let none = HeaderMap::new();
    assert_eq!(f.verifier.verify(&none, CHECK.as_bytes()), challenge());
    assert_eq!(f.verifier.verify(&none, &sealed(CHECK)), challenge());
    assert_eq!(f.verifier.verify(&f.signed("n", &sealed(CHECK)), &sealed(CHECK)), challenge());
    let forged = CHECK.replace(TOKEN, "other");
    assert_eq!(f.verifier.verify(&none, forged.as_bytes()), Err(CallbackError::WrongToken));
    let no_token = fixture(None, Some(KEY));
    assert_eq!(no_token.verifier.verify(&none, CHECK.as_bytes()), Err(CallbackError::NotEncrypted));
    assert_eq!(no_token.verifier.verify(&none, &sealed(CHECK)), challenge());
}

#[test]
fn verify_signed_event_with_wrong_token_is_refused() {
    let f = fixture(Some("another-token"), Some(KEY));
    let body = sealed(EVENT);
    assert_eq!(f.verifier.verify(&f.signed("n", &body), &body), Err(CallbackError::WrongToken));
}

#[test]
fn verify_signed_flat_card_without_token_is_accepted() {
    let f = fixture(Some(TOKEN), Some(KEY));
    let flat = r#"{"open_id":"ou_1","token":"c-1","action":{"value":{}}}"#;
    let body = sealed(flat);
    let expected = Ok(Callback::Event(flat.as_bytes().to_vec()));
    assert_eq!(f.verifier.verify(&f.signed("n", &body), &body), expected);
}

const OLD_CARD: &str = r#"{"open_id":"ou_1","user_id":"u1","open_message_id":"om_1","tenant_key":"t","token":"c-1","action":{"value":{},"tag":"button"}}"#;

fn old_card_headers(f: &Fixture, token: &str, nonce: &str, body: &str) -> HeaderMap {
    let timestamp = f.clock.now().timestamp().to_string();
    let signature =
        crypto::old_card_signature(&SecretString::from(token), &timestamp, nonce, body.as_bytes());
    let mut headers = HeaderMap::new();
    for (name, value) in
        [(TIMESTAMP_HEADER, &*timestamp), (NONCE_HEADER, nonce), (SIGNATURE_HEADER, &hex::encode(signature))]
    {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn verify_old_card_checks_signature_of_verification_token() {
    for f in [fixture(Some(TOKEN), None), fixture(Some(TOKEN), Some(KEY))] {
        let body = OLD_CARD.as_bytes();
        let headers = old_card_headers(&f, TOKEN, "n1", OLD_CARD);
        assert_eq!(f.verifier.verify(&headers, body), Ok(Callback::Event(body.to_vec())));
        f.verifier.mark_processed(&headers);
        assert_eq!(f.verifier.verify(&headers, body), Err(CallbackError::Replayed));

        assert_eq!(f.verifier.verify(&HeaderMap::new(), body), Err(CallbackError::NotSigned));
        let forged = old_card_headers(&f, "other", "n2", OLD_CARD);
        assert_eq!(f.verifier.verify(&forged, body), Err(CallbackError::WrongSignature));
        let other_body = old_card_headers(&f, TOKEN, "n3", "{}");
        assert_eq!(f.verifier.verify(&other_body, body), Err(CallbackError::WrongSignature));
        assert_eq!(f.verifier.verify(&f.signed("n4", body), body), Err(CallbackError::WrongSignature));
        // The signature of the old form proves nothing but an old card.
        let event = old_card_headers(&f, TOKEN, "n5", &EVENT.replace(TOKEN, "x"));
        assert!(f.verifier.verify(&event, EVENT.replace(TOKEN, "x").as_bytes()).is_err());
        f.clock.advance(Duration::from_secs(301));
        let old = old_card_headers(&fixture(None, None), TOKEN, "n6", OLD_CARD);
        assert_eq!(f.verifier.verify(&old, body), Err(CallbackError::OutsideWindow));
    }
}

#[test]
fn verify_old_card_without_verification_token_names_switch() {
    let f = fixture(None, Some(KEY));
    let error =
        f.verifier.verify(&old_card_headers(&f, TOKEN, "n", OLD_CARD), OLD_CARD.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("card.action.trigger"), "{error}");
}

#[test]
fn verify_version_1_event_compares_outer_token() {
    let event = r#"{"uuid":"e","type":"event_callback","token":"verification-token","event":{"type":"t"}}"#;
    let taken = Ok(Callback::Event(event.as_bytes().to_vec()));
    let forged = event.replace(TOKEN, "other");
    let f = fixture(Some(TOKEN), None);
    assert_eq!(f.verifier.verify(&HeaderMap::new(), event.as_bytes()), taken);
    assert_eq!(f.verifier.verify(&HeaderMap::new(), forged.as_bytes()), Err(CallbackError::WrongToken));
    let f = fixture(Some(TOKEN), Some(KEY));
    let (body, forged) = (sealed(event), sealed(&forged));
    assert_eq!(f.verifier.verify(&f.signed("n1", &body), &body), taken);
    assert_eq!(f.verifier.verify(&f.signed("n2", &forged), &forged), Err(CallbackError::WrongToken));
}

#[test]
fn verify_with_token_only_compares_token() {
    let f = fixture(Some(TOKEN), None);
    let none = HeaderMap::new();
    assert_eq!(f.verifier.verify(&none, EVENT.as_bytes()), event());
    assert_eq!(f.verifier.verify(&none, CHECK.as_bytes()), challenge());
    assert_eq!(f.verifier.verify(&none, b"{}"), Err(CallbackError::WrongToken));
    assert_eq!(f.verifier.verify(&none, b"[]"), Err(CallbackError::NotJson));
    assert_eq!(
        f.verifier.verify(&none, EVENT.replace(TOKEN, "x").as_bytes()),
        Err(CallbackError::WrongToken)
    );
    assert_eq!(f.verifier.verify(&none, &sealed(EVENT)), Err(CallbackError::NoKey));
}

#[test]
fn verify_with_token_only_needs_permission_for_events() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_timestamp_millis(1_700_000_000_000).unwrap()));
    let verifier = CallbackVerifier::new(Some(TOKEN.into()), None, clock);
    let none = HeaderMap::new();
    assert_eq!(verifier.verify(&none, EVENT.as_bytes()), Err(CallbackError::KeyRequired));
    assert_eq!(verifier.verify(&none, EVENT.replace(TOKEN, "x").as_bytes()), Err(CallbackError::WrongToken));
    assert_eq!(
        verifier.verify(&none, CHECK.as_bytes()),
        challenge(),
        "the address can be entered beforehand"
    );
}

#[test]
fn verify_without_token_and_key_returns_not_configured() {
    for f in [fixture(None, None), fixture(Some(""), Some(""))] {
        assert_eq!(f.verifier.verify(&HeaderMap::new(), EVENT.as_bytes()), Err(CallbackError::NotConfigured));
    }
}

#[test]
fn debug_output_holds_no_secret() {
    let f = fixture(Some(TOKEN), Some(KEY));
    let shown = format!("{:?} {:?} {:?}", f.verifier, event(), challenge());
    assert!(!shown.contains(TOKEN) && !shown.contains(KEY) && !shown.contains("c123"), "{shown}");
}

proptest! {
    #[test]
    fn verify_arbitrary_input_is_refused_without_panic(body: Vec<u8>, text: String, timestamp: i64, signature in "[0-9a-f]{64}") {
        let f = fixture(Some(TOKEN), Some(KEY));
        let mut headers = signed_at(&timestamp.to_string(), "n", &body);
        prop_assert!(f.verifier.verify(&headers, &body).is_err());
        headers.insert(SIGNATURE_HEADER, HeaderValue::from_str(&signature).unwrap());
        let sealed = serde_json::json!({ "encrypt": text, "type": text, "header": text }).to_string();
        for headers in [&headers, &HeaderMap::new()] {
            for body in [&body[..], sealed.as_bytes()] {
                prop_assert!(f.verifier.verify(headers, body).is_err());
                prop_assert!(fixture(Some(TOKEN), None).verifier.verify(headers, body).is_err());
            }
        }
    }
}
