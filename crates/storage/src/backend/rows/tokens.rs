use larkauth_models::{AppId, OpenId, StoredPair, StoredToken, Timestamp};

use super::{RowSeal, TOKENS};
use crate::{Cipher, LeasedToken, Result};

#[derive(Clone)]
pub struct TokenRow {
    pub app_id: String,
    pub open_id: String,
    pub kind: String,
    pub access_token_sealed: Option<Vec<u8>>,
    pub access_expires_at: Timestamp,
    pub refresh_token_sealed: Option<Vec<u8>>,
    pub refresh_expires_at: Option<Timestamp>,
    pub scopes: Vec<String>,
    pub issued_at: Timestamp,
    pub granted_at: Timestamp,
    pub generation: i64,
    pub status: String,
    pub failures: i32,
    pub next_attempt_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

impl TokenRow {
    pub fn into_model(self, cipher: &Cipher) -> Result<StoredToken> {
        let row = RowSeal::composite(cipher, TOKENS, &[&self.app_id, &self.open_id, &self.kind]);
        let access_token =
            self.access_token_sealed.ok_or_else(|| row.corrupt("the row has no access token".to_owned()))?;
        Ok(StoredToken {
            pair: StoredPair {
                access_token: row.stored("access_token_sealed", &access_token),
                access_expires_at: self.access_expires_at,
                refresh_token: self
                    .refresh_token_sealed
                    .map(|sealed| row.stored("refresh_token_sealed", &sealed)),
                refresh_expires_at: self.refresh_expires_at,
                scopes: self.scopes,
            },
            app_id: row.checked(AppId::new(self.app_id))?,
            open_id: row.checked(OpenId::new(self.open_id))?,
            kind: row.checked(self.kind.parse())?,
            issued_at: self.issued_at,
            granted_at: self.granted_at,
            generation: self.generation,
            status: row.checked(self.status.parse())?,
            failures: u32::try_from(self.failures).unwrap_or(0),
            next_attempt_at: self.next_attempt_at,
            last_used_at: self.last_used_at,
        })
    }
}

/// A row of `access_tokens` whose lease was taken.
pub struct LeasedRow {
    pub app_id: String,
    pub open_id: String,
    pub kind: String,
    pub access_token_sealed: Option<Vec<u8>>,
    pub access_expires_at: Timestamp,
    pub refresh_token_sealed: Option<Vec<u8>>,
    pub refresh_expires_at: Option<Timestamp>,
    pub scopes: Vec<String>,
    pub issued_at: Timestamp,
    pub granted_at: Timestamp,
    pub generation: i64,
    pub status: String,
    pub failures: i32,
    pub next_attempt_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    /// The row had the lease of another owner before.
    pub was_interrupted: bool,
}

impl LeasedRow {
    pub fn into_model(self, cipher: &Cipher) -> Result<LeasedToken> {
        let was_interrupted = self.was_interrupted;
        let row = TokenRow {
            app_id: self.app_id,
            open_id: self.open_id,
            kind: self.kind,
            access_token_sealed: self.access_token_sealed,
            access_expires_at: self.access_expires_at,
            refresh_token_sealed: self.refresh_token_sealed,
            refresh_expires_at: self.refresh_expires_at,
            scopes: self.scopes,
            issued_at: self.issued_at,
            granted_at: self.granted_at,
            generation: self.generation,
            status: self.status,
            failures: self.failures,
            next_attempt_at: self.next_attempt_at,
            last_used_at: self.last_used_at,
        };
        Ok(LeasedToken { token: row.into_model(cipher)?, was_interrupted })
    }
}

/// Converts the leased rows. A broken row is logged and left out, so that it does not keep others.
pub fn leased(rows: Vec<LeasedRow>, cipher: &Cipher) -> Vec<LeasedToken> {
    let open = |row: LeasedRow| {
        row.into_model(cipher)
            .inspect_err(|error| tracing::error!(%error, "storage.token: it cannot be refreshed"))
            .ok()
    };
    rows.into_iter().filter_map(open).collect()
}
