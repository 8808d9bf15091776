//! Callbacks over HTTP: is this really Lark, and what does it say?
//!
//! With an encrypt key every callback must be encrypted and signed. With a verification token alone the token inside
//! the body is all there is to compare. With neither, nothing is believed.

mod crypto;
mod replay;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use larkauth_models::{Clock, ExposeSecret, SecretString, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

pub use crypto::{decrypt, encrypt, sign};
use replay::ReplayMemory;

/// Header: when the request was made.
pub const TIMESTAMP_HEADER: &str = "x-lark-request-timestamp";
/// Header: a random text.
pub const NONCE_HEADER: &str = "x-lark-request-nonce";
/// Header: [`sign`]'s result.
pub const SIGNATURE_HEADER: &str = "x-lark-signature";

/// How far a request's time may be from ours, both ways.
pub const REPLAY_WINDOW: Duration = Duration::from_secs(300);
const MAX_CHALLENGE: usize = 1024;

/// What a genuine request asks for.
#[derive(Clone, PartialEq, Eq)]
pub enum Callback {
    /// Answer `{"challenge": …}` with this text, within a second.
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

/// Why a request is not believed. Names what is wrong, never what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// There is nothing to check a request by.
    #[error(
        "HTTP callbacks are not configured: set the application's verification token, and better its encrypt key \
         too, as shown in the developer console under Events & Callbacks"
    )]
    NotConfigured,
    /// Not JSON, or not an object.
    #[error("the callback's body is not a JSON object")]
    NotJson,
    /// Plain although an encrypt key is set.
    #[error("the callback is not encrypted: the encrypt key here is not set in the developer console")]
    NotEncrypted,
    /// Encrypted although no encrypt key is set.
    #[error("the callback is encrypted: set the application's encrypt key")]
    NoKey,
    /// A signature header is missing, or the unsigned body is not a URL check.
    #[error("the callback is not signed")]
    NotSigned,
    /// The signature is another one.
    #[error("the callback's signature is wrong: the encrypt key differs from the developer console's")]
    WrongSignature,
    /// The timestamp is not a number, or more than five minutes away.
    #[error("the callback is too old, or the clock here is wrong")]
    OutsideWindow,
    /// Seen before.
    #[error("the callback was received before")]
    Replayed,
    /// Signed rightly, but not decipherable.
    #[error("the callback cannot be decrypted")]
    Undecipherable,
    /// The verification token is missing or another one.
    #[error("the callback's verification token is missing or differs from the developer console's")]
    WrongToken,
    /// A URL check without a usable challenge.
    #[error("the URL check has no challenge of a sensible length")]
    NoChallenge,
}

/// Checks the callbacks of one application.
pub struct CallbackVerifier {
    verification_token: Option<SecretString>,
    encrypt_key: Option<SecretString>,
    clock: Arc<dyn Clock>,
    memory: ReplayMemory,
}

impl fmt::Debug for CallbackVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackVerifier")
            .field("verification_token", &self.verification_token.is_some())
            .field("encrypt_key", &self.encrypt_key.is_some())
            .finish_non_exhaustive()
    }
}

/// The parts of a body by which it is judged.
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
    encrypt: Option<String>,
}

impl Plain {
    fn parse(body: &[u8]) -> Option<Self> {
        // A derived struct would take an array of the right length as well.
        let object: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
        serde_json::from_value(Value::Object(object)).ok()
    }

    fn is_url_check(&self) -> bool {
        self.kind == "url_verification"
    }

    fn token(&self) -> Option<&str> {
        if self.is_url_check() { self.token.as_str() } else { self.header["token"].as_str() }
    }
}

impl CallbackVerifier {
    /// Empty texts count as not set.
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
            clock,
            memory: ReplayMemory::default(),
        }
    }

    /// Checks a request; `body` exactly as received. Until it is [`taken`](Self::taken) it may come again, as Lark
    /// pushes again what was refused.
    ///
    /// # Errors
    /// When the request is not believed. It is then to be refused with a 4xx and to have no effect.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<Callback, CallbackError> {
        match (&self.encrypt_key, &self.verification_token) {
            (Some(key), _) => self.verify_encrypted(key, headers, body),
            (None, Some(token)) => {
                let plain = Plain::parse(body).ok_or(CallbackError::NotJson)?;
                if plain.encrypt.is_some() {
                    return Err(CallbackError::NoKey);
                }
                same_token(token, plain.token())?;
                callback(&plain, body)
            }
            (None, None) => Err(CallbackError::NotConfigured),
        }
    }

    /// To be called when a verified request had its effect: from now on it is refused as a replay. Two copies at once may
    /// both be verified before; they carry the same event id.
    pub fn taken(&self, headers: &HeaderMap) {
        if let Ok(signed) = Signed::read(headers)
            && let Some(sent_at) = request_time(signed.timestamp)
        {
            self.memory.remember(signed.signature, self.clock.now(), sent_at + REPLAY_WINDOW);
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
            // The check that Lark makes while the address is being entered.
            let token = self.verification_token.as_ref().filter(|_| outer.is_url_check());
            same_token(token.ok_or(CallbackError::NotEncrypted)?, outer.token())?;
            return callback(&outer, body);
        };
        // Without a signature every failure looks the same: telling a wrong padding from a wrong content would let
        // a stranger decrypt a recorded body piece by piece.
        let hide = |error| if signed { error } else { CallbackError::NotSigned };
        let body = decrypt(key, text).ok_or(hide(CallbackError::Undecipherable))?;
        let plain = Plain::parse(&body).ok_or(hide(CallbackError::Undecipherable))?;
        if !signed && !plain.is_url_check() {
            return Err(CallbackError::NotSigned);
        }
        // A flat card body has no verification token; the signature stands for it.
        if let Some(token) = &self.verification_token
            && (!signed || plain.token().is_some())
        {
            same_token(token, plain.token()).map_err(hide)?;
        }
        callback(&plain, &body).map_err(hide)
    }

    fn check_signature(
        &self,
        key: &SecretString,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), CallbackError> {
        let Signed { timestamp, nonce, signature } = Signed::read(headers)?;
        let expected = crypto::signature(key, timestamp, nonce, body);
        if !bool::from(signature.ct_eq(&expected)) {
            return Err(CallbackError::WrongSignature);
        }
        let sent_at = request_time(timestamp).ok_or(CallbackError::OutsideWindow)?;
        if !(self.clock.now() - sent_at).abs().to_std().is_ok_and(|age| age <= REPLAY_WINDOW) {
            return Err(CallbackError::OutsideWindow);
        }
        if self.memory.knows(&signature) { Err(CallbackError::Replayed) } else { Ok(()) }
    }
}

/// What a signed request says about itself.
struct Signed<'a> {
    timestamp: &'a str,
    nonce: &'a str,
    signature: [u8; 32],
}

impl<'a> Signed<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, CallbackError> {
        let text =
            |name| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(CallbackError::NotSigned);
        let (timestamp, nonce) = (text(TIMESTAMP_HEADER)?, text(NONCE_HEADER)?);
        let mut signature = [0; 32];
        hex::decode_to_slice(text(SIGNATURE_HEADER)?, &mut signature)
            .map_err(|_| CallbackError::WrongSignature)?;
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

/// Seconds since 1970 as documented; milliseconds and microseconds are taken too.
fn request_time(text: &str) -> Option<Timestamp> {
    let number: i64 = text.trim().parse().ok()?;
    match number {
        ..100_000_000_000 => Timestamp::from_timestamp(number, 0),
        100_000_000_000..100_000_000_000_000 => Timestamp::from_timestamp_millis(number),
        _ => Timestamp::from_timestamp_micros(number),
    }
}
