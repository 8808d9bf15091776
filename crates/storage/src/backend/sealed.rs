//! Secrets sealed before they are written, each for its table, column and row.

use larkauth_models::{AppId, ExposeSecret, TokenKind, UserProfile};
use sha2::{Digest, Sha256};

use crate::{
    Cipher, Completion, NewSession, RefreshedToken, Result, StorageError,
    backend::rows::{PROFILES, RowSeal, SESSIONS, TOKENS},
};

pub use crate::escrow::open_escrow;

/// Columns of a [`NewSession`] that are stored sealed, hashed or as JSON.
pub struct SealedSession {
    pub state_sha256: [u8; 32],
    pub state: Vec<u8>,
    pub pkce_verifier: Vec<u8>,
    pub card: serde_json::Value,
}

impl SealedSession {
    pub fn new(cipher: &Cipher, new: &NewSession) -> Result<Self> {
        let row = RowSeal::session(cipher, new.id);
        Ok(Self {
            state_sha256: Sha256::digest(new.consent.state.expose_secret()).into(),
            state: row.seal("oauth_state_sealed", &new.consent.state)?,
            pkce_verifier: row.seal("pkce_verifier_sealed", &new.consent.pkce_verifier)?,
            card: serde_json::to_value(&new.card).map_err(|error| StorageError::Corrupt {
                table: SESSIONS,
                row: new.id.to_string(),
                message: error.to_string(),
            })?,
        })
    }
}

/// Sealed secrets of a [`Completion`].
pub struct SealedCompletion {
    pub access_token: Vec<u8>,
    pub refresh_token: Option<Vec<u8>>,
    pub profile_email: Option<Vec<u8>>,
    pub profile_mobile: Option<Vec<u8>>,
    pub session_email: Option<Vec<u8>>,
    pub session_mobile: Option<Vec<u8>>,
}

impl SealedCompletion {
    pub fn new(cipher: &Cipher, app_id: &str, completion: &Completion) -> Result<Self> {
        let Completion { session_id, pair, profile, .. } = completion;
        let open_id = profile.open_id.as_str();
        let token_row = RowSeal::composite(cipher, TOKENS, &[app_id, open_id, TokenKind::User.as_str()]);
        let profile_row = RowSeal::composite(cipher, PROFILES, &[app_id, open_id]);
        let session_row = RowSeal::session(cipher, *session_id);
        Ok(Self {
            access_token: token_row.seal("access_token_sealed", &pair.access_token)?,
            refresh_token: token_row.seal_option("refresh_token_sealed", pair.refresh_token.as_ref())?,
            profile_email: profile_row.seal_option("email_sealed", profile.email.as_ref())?,
            profile_mobile: profile_row.seal_option("mobile_sealed", profile.mobile.as_ref())?,
            session_email: session_row.seal_option("email_sealed", profile.email.as_ref())?,
            session_mobile: session_row.seal_option("mobile_sealed", profile.mobile.as_ref())?,
        })
    }
}

/// Sealed secrets of a refreshed pair.
pub struct SealedPair {
    pub access_token: Vec<u8>,
    pub refresh_token: Option<Vec<u8>>,
}

impl SealedPair {
    pub fn new(cipher: &Cipher, refreshed: &RefreshedToken) -> Result<Self> {
        let key = [refreshed.app_id.as_str(), refreshed.open_id.as_str(), TokenKind::User.as_str()];
        let row = RowSeal::composite(cipher, TOKENS, &key);
        Ok(Self {
            access_token: row.seal("access_token_sealed", &refreshed.pair.access_token)?,
            refresh_token: row.seal_option("refresh_token_sealed", refreshed.pair.refresh_token.as_ref())?,
        })
    }
}

/// Sealed secrets of a profile.
pub struct SealedProfile {
    pub email: Option<Vec<u8>>,
    pub mobile: Option<Vec<u8>>,
}

impl SealedProfile {
    pub fn new(cipher: &Cipher, app_id: &AppId, profile: &UserProfile) -> Result<Self> {
        let row = RowSeal::composite(cipher, PROFILES, &[app_id.as_str(), profile.open_id.as_str()]);
        Ok(Self {
            email: row.seal_option("email_sealed", profile.email.as_ref())?,
            mobile: row.seal_option("mobile_sealed", profile.mobile.as_ref())?,
        })
    }
}

/// Outcome of writing a [`Completion`].
#[derive(Clone, Copy)]
pub enum Outcome {
    Written,
    NotClaimed,
    OtherPerson,
}

impl Outcome {
    /// Refuses the profile of another person. Callers compare the person too; this check protects the database if a
    /// caller does not.
    pub fn into_result(self, during: &'static str, completion: &Completion) -> Result<bool> {
        match self {
            Self::Written => Ok(true),
            Self::NotClaimed => Ok(false),
            Self::OtherPerson => Err(StorageError::Refused {
                during,
                message: format!("session {} belongs to another person", completion.session_id),
            }),
        }
    }
}
