//! Verification of callbacks over HTTP.
//!
//! With an encrypt key, every callback must be encrypted and signed. With a verification token alone, events are refused
//! unless [`CallbackVerifier::accept_unsigned`] allows them: the token in a body is all that proves its origin, and it is
//! the same in every body. With neither, every callback is refused.
//!
//! A historical card callback (`card.action.trigger_v1`) is never encrypted. Its signature is made with the verification
//! token, so that it is accepted in both cases if that token is set.

pub(crate) mod crypto;
mod replay;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use larkauth_models::{Clock, ExposeSecret, SecretString, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

use crypto::OLD_SIGNATURE_BYTES;
pub use crypto::{decrypt, encrypt, sign};
use replay::ReplayCache;

/// Header with the time of the request.
pub const TIMESTAMP_HEADER: &str = "x-lark-request-timestamp";
/// Header with a random text.
pub const NONCE_HEADER: &str = "x-lark-request-nonce";
/// Header with the result of [`sign`].
pub const SIGNATURE_HEADER: &str = "x-lark-signature";

/// Largest difference between a request's time and the clock, in both directions.
pub const REPLAY_WINDOW: Duration = Duration::from_secs(300);
/// Longest challenge that is answered, in bytes.
const MAX_CHALLENGE: usize = 1024;

/// The content of a verified request.
#[derive(Clone, PartialEq, Eq)]
pub enum Callback {
    /// A URL check. The answer is `{"challenge": …}` with this text, within a second.
    Challenge(String),
    /// An event in plain JSON, for [`Event::parse`](crate::Event::parse).
    Event(Vec<u8>),
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Challenge(_) => "Challenge(..)",
            Self::Event(_) => "Event(..)",
        })
    }
}

/// Why a request is refused. The text of an error holds no part of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// The application has neither a verification token nor an encrypt key.
    #[error(
        "HTTP callbacks are not configured: set the application's verification token and preferably its encrypt key, \
         as shown in the developer console under Events & Callbacks"
    )]
    NotConfigured,
    /// The body is not signed, because the application has no encrypt key.
    #[error(
        "an HTTP callback without an encrypt key can be forged by everyone who has seen one: set an encrypt key in the \
         developer console under Events & Callbacks and in the application's registration, or accept the verification \
         token alone with HTTP_CALLBACK_ALLOW_UNSIGNED=true"
    )]
    KeyRequired,
    /// The body is not a JSON object.
    #[error("the callback's body is not a JSON object")]
    NotJson,
    /// The body is not encrypted although an encrypt key is set.
    #[error("the callback is not encrypted: set the application's encrypt key in the developer console")]
    NotEncrypted,
    /// The body is encrypted although no encrypt key is set.
    #[error("the callback is encrypted: set the application's encrypt key")]
    NoKey,
    /// A signature header is missing, and the body is not a valid URL check.
    #[error("the callback is not signed")]
    NotSigned,
    /// The signature does not match.
    #[error("the callback's signature is wrong: the encrypt key differs from the developer console's")]
    WrongSignature,
    /// The timestamp is not a number, or differs from the clock by more than five minutes.
    #[error("the callback's time differs by more than five minutes: check this server's clock")]
    OutsideWindow,
    /// The request was processed before.
    #[error("the callback was received before")]
    Replayed,
    /// The signature matches, but the body cannot be decrypted.
    #[error("the callback cannot be decrypted")]
    Undecipherable,
    /// The verification token is missing or does not match.
    #[error("the callback's verification token is missing or differs from the developer console's")]
    WrongToken,
    /// The body is a historical card callback, and there is no verification token to check its signature with.
    #[error(
        "the callback is a historical card callback, which only the verification token proves: set the application's \
         verification token, or in the developer console, under Events & Callbacks, Callback Configuration, replace \
         card.action.trigger_v1 by card.action.trigger"
    )]
    OldCard,
    /// The URL check has no usable challenge.
    #[error("the URL check has no challenge of 1 to 1024 bytes")]
    NoChallenge,
}

/// Verifies the callbacks of one application.
pub struct CallbackVerifier {
    verification_token: Option<SecretString>,
    encrypt_key: Option<SecretString>,
    accept_unsigned: bool,
    clock: Arc<dyn Clock>,
    replays: ReplayCache,
}

impl fmt::Debug for CallbackVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackVerifier")
            .field("verification_token", &self.verification_token.is_some())
            .field("encrypt_key", &self.encrypt_key.is_some())
            .finish_non_exhaustive()
    }
}

/// The fields of a body that verification depends on.
#[derive(Deserialize)]
struct Plain {
    #[serde(default, rename = "type")]
    kind: Value,
    #[serde(default)]
    challenge: Value,
    #[serde(default)]
    token: Value,
    #[serde(default)]
    header: Value,
    #[serde(default)]
    event: Value,
    #[serde(default)]
    action: Value,
    encrypt: Option<String>,
}

impl Plain {
    fn parse(body: &[u8]) -> Option<Self> {
        // A derived struct would accept an array of the right length, too.
        let object: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
        serde_json::from_value(Value::Object(object)).ok()
    }

    fn is_url_check(&self) -> bool {
        self.kind == "url_verification"
    }

    /// Returns true for a historical card callback. The token in it is for updates of the card.
    fn is_old_card(&self) -> bool {
        !self.is_url_check() && self.header.is_null() && self.event.is_null() && self.action.is_object()
    }

    /// Returns the verification token. An event of version 1 has it outside, as it has no header.
    fn token(&self) -> Option<&str> {
        match &self.header {
            _ if self.is_url_check() => self.token.as_str(),
            Value::Object(header) => header.get("token")?.as_str(),
            _ if self.event.is_object() => self.token.as_str(),
            _ => None,
        }
    }
}

impl CallbackVerifier {
    /// Creates a verifier. An empty text counts as not set.
    #[must_use]
    pub fn new(
        verification_token: Option<SecretString>,
        encrypt_key: Option<SecretString>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let filled = |secret: &SecretString| !secret.expose_secret().is_empty();
        Self {
            verification_token: verification_token.filter(filled),
            encrypt_key: encrypt_key.filter(filled),
            accept_unsigned: false,
            clock,
            replays: ReplayCache::default(),
        }
    }

    /// Whether the verification token alone proves an event while there is no encrypt key.
    #[must_use]
    pub const fn accept_unsigned(mut self, accept: bool) -> Self {
        self.accept_unsigned = accept;
        self
    }

    /// Verifies a request. `body` is the body as received. The same request is accepted again until
    /// [`mark_processed`](Self::mark_processed), as Lark repeats a request whose processing failed.
    ///
    /// # Errors
    /// When the request is not genuine. The caller refuses it with a 4xx status and ignores its content.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<Callback, CallbackError> {
        if self.encrypt_key.is_some() || self.verification_token.is_some() {
            let plain = Plain::parse(body).ok_or(CallbackError::NotJson)?;
            if plain.is_old_card() {
                return self.verify_old_card(headers, body);
            }
        }
        match (&self.encrypt_key, &self.verification_token) {
            (Some(key), _) => self.verify_encrypted(key, headers, body),
            (None, Some(token)) => {
                let plain = Plain::parse(body).ok_or(CallbackError::NotJson)?;
                if plain.encrypt.is_some() {
                    return Err(CallbackError::NoKey);
                }
                same_token(token, plain.token())?;
                if !self.accept_unsigned && !plain.is_url_check() {
                    return Err(CallbackError::KeyRequired);
                }
                callback(&plain, body)
            }
            (None, None) => Err(CallbackError::NotConfigured),
        }
    }

    /// Records that a verified request was processed: it is refused as a replay from now on. Two concurrent copies may
    /// both be verified before; they have the same event id.
    pub fn mark_processed(&self, headers: &HeaderMap) {
        if let Ok(signed) = Signed::read(headers)
            && let Some(sent_at) = request_time(signed.timestamp)
        {
            self.replays.insert(signed.signature.key(), self.clock.now(), sent_at + REPLAY_WINDOW);
        }
    }

    fn verify_encrypted(
        &self,
        key: &SecretString,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Callback, CallbackError> {
        let outer = Plain::parse(body).ok_or(CallbackError::NotJson)?;
        let signed = headers.contains_key(SIGNATURE_HEADER);
        if signed {
            self.check_signature(key, headers, body)?;
        }
        let Some(text) = &outer.encrypt else {
            // Lark sends a plain URL check while the address is entered in the developer console.
            let token = self.verification_token.as_ref().filter(|_| outer.is_url_check());
            same_token(token.ok_or(CallbackError::NotEncrypted)?, outer.token())?;
            return callback(&outer, body);
        };
        // Without a signature every failure returns the same error: an attacker who can tell a wrong padding from a wrong
        // content can decrypt a recorded body (padding oracle).
        let hide = |error| if signed { error } else { CallbackError::NotSigned };
        let body = decrypt(key, text).ok_or(hide(CallbackError::Undecipherable))?;
        let plain = Plain::parse(&body).ok_or(hide(CallbackError::Undecipherable))?;
        if !signed && !plain.is_url_check() {
            return Err(CallbackError::NotSigned);
        }
        // A flat card body has no verification token. The signature proves its origin.
        if let Some(token) = &self.verification_token
            && (!signed || plain.token().is_some())
        {
            same_token(token, plain.token()).map_err(hide)?;
        }
        callback(&plain, &body).map_err(hide)
    }

    fn verify_old_card(&self, headers: &HeaderMap, body: &[u8]) -> Result<Callback, CallbackError> {
        let token = self.verification_token.as_ref().ok_or(CallbackError::OldCard)?;
        self.check(&Signed::read(headers)?, |timestamp, nonce| {
            Signature::Old(crypto::old_card_signature(token, timestamp, nonce, body))
        })?;
        Ok(Callback::Event(body.to_vec()))
    }

    fn check_signature(
        &self,
        key: &SecretString,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), CallbackError> {
        self.check(&Signed::read(headers)?, |timestamp, nonce| {
            Signature::Current(crypto::signature(key, timestamp, nonce, body))
        })
    }

    /// Checks the signature, the time and that the request is new.
    fn check(
        &self,
        signed: &Signed<'_>,
        expected: impl Fn(&str, &str) -> Signature,
    ) -> Result<(), CallbackError> {
        let Signed { timestamp, nonce, signature } = signed;
        if !signature.is(&expected(timestamp, nonce)) {
            return Err(CallbackError::WrongSignature);
        }
        let sent_at = request_time(timestamp).ok_or(CallbackError::OutsideWindow)?;
        if !(self.clock.now() - sent_at).abs().to_std().is_ok_and(|age| age <= REPLAY_WINDOW) {
            return Err(CallbackError::OutsideWindow);
        }
        if self.replays.contains(&signature.key()) { Err(CallbackError::Replayed) } else { Ok(()) }
    }
}

/// The headers of a signed request.
struct Signed<'a> {
    timestamp: &'a str,
    nonce: &'a str,
    signature: Signature,
}

/// The value of [`SIGNATURE_HEADER`]. Its length tells which one it is.
enum Signature {
    /// SHA-256 with the encrypt key.
    Current([u8; 32]),
    /// SHA-1 with the verification token, of a historical card callback.
    Old([u8; OLD_SIGNATURE_BYTES]),
}

impl Signature {
    fn parse(text: &str) -> Option<Self> {
        let bytes = hex::decode(text).ok()?;
        Some(match bytes.len() {
            OLD_SIGNATURE_BYTES => Self::Old(bytes.try_into().ok()?),
            _ => Self::Current(bytes.try_into().ok()?),
        })
    }

    /// Compares in constant time.
    fn is(&self, expected: &Self) -> bool {
        match (self, expected) {
            (Self::Current(given), Self::Current(expected)) => given.ct_eq(expected).into(),
            (Self::Old(given), Self::Old(expected)) => given.ct_eq(expected).into(),
            _ => false,
        }
    }

    /// Returns the bytes, padded with zeros.
    fn key(&self) -> [u8; 32] {
        match self {
            Self::Current(bytes) => *bytes,
            Self::Old(bytes) => {
                let mut key = [0; 32];
                key[..OLD_SIGNATURE_BYTES].copy_from_slice(bytes);
                key
            }
        }
    }
}

impl<'a> Signed<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, CallbackError> {
        let text =
            |name| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(CallbackError::NotSigned);
        let (timestamp, nonce) = (text(TIMESTAMP_HEADER)?, text(NONCE_HEADER)?);
        let signature = Signature::parse(text(SIGNATURE_HEADER)?).ok_or(CallbackError::WrongSignature)?;
        Ok(Self { timestamp, nonce, signature })
    }
}

fn callback(plain: &Plain, body: &[u8]) -> Result<Callback, CallbackError> {
    if !plain.is_url_check() {
        return Ok(Callback::Event(body.to_vec()));
    }
    let challenge = plain.challenge.as_str().filter(|text| (1..=MAX_CHALLENGE).contains(&text.len()));
    Ok(Callback::Challenge(challenge.ok_or(CallbackError::NoChallenge)?.to_owned()))
}

fn same_token(expected: &SecretString, got: Option<&str>) -> Result<(), CallbackError> {
    let same = got.is_some_and(|got| got.as_bytes().ct_eq(expected.expose_secret().as_bytes()).into());
    if same { Ok(()) } else { Err(CallbackError::WrongToken) }
}

/// Reads a time in seconds since 1970 as documented, or in milliseconds or microseconds.
fn request_time(text: &str) -> Option<Timestamp> {
    let number: i64 = text.trim().parse().ok()?;
    match number {
        ..100_000_000_000 => Timestamp::from_timestamp(number, 0),
        100_000_000_000..100_000_000_000_000 => Timestamp::from_timestamp_millis(number),
        _ => Timestamp::from_timestamp_micros(number),
    }
}
