use larkauth_models::{
    AppId, IdError, OpenId, SuspensionReason, Timestamp, TokenKind, TokenStatus, UnreadableSecret,
};

use crate::{
    Cipher, Result,
    backend::rows::{RowSeal, TOKENS},
    transfer::{Record, RowKey, Table, TokenRecord, Transfer},
};

/// Everything about a stored token but its secrets.
#[derive(Clone, Debug)]
pub struct TokenState {
    /// The application.
    pub app_id: AppId,
    /// The person.
    pub open_id: OpenId,
    /// Its status.
    pub status: TokenStatus,
    /// Why it is suspended, while it is.
    pub suspended_for: Option<SuspensionReason>,
    /// Number of refreshes and consents.
    pub generation: i64,
    /// Granted scopes.
    pub scopes: Vec<String>,
    /// The access token; `None` of a revoked token.
    pub access_token: Option<SecretState>,
    /// Expiry of the access token.
    pub access_expires_at: Timestamp,
    /// The refresh token.
    pub refresh_token: Option<SecretState>,
    /// Expiry of the refresh token.
    pub refresh_expires_at: Option<Timestamp>,
    /// Time at which Lark issued the pair.
    pub issued_at: Timestamp,
    /// Time of the consent.
    pub granted_at: Timestamp,
    /// Time of the revocation.
    pub revoked_at: Option<Timestamp>,
    /// Failed refreshes in a row.
    pub failures: u32,
    /// Time of the next attempt at a refresh.
    pub next_attempt_at: Option<Timestamp>,
    /// Last recorded use.
    pub last_used_at: Option<Timestamp>,
    /// End of the lease of a refresh, by the clock of the database. A lease in the past was interrupted.
    pub lease_until: Option<Timestamp>,
}

/// Whether a sealed secret opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretState {
    /// Id of the key that sealed it; `None` when the value is malformed.
    pub key_id: Option<String>,
    /// Why it does not open.
    pub unreadable: Option<UnreadableSecret>,
}

impl TokenState {
    /// Reads the state of a person's token, in any status.
    ///
    /// # Errors
    /// Fails when the database does not answer, or the row is broken.
    pub async fn read(
        database: &dyn Transfer,
        cipher: &Cipher,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<Option<Self>> {
        let key = RowKey(vec![app_id.to_string(), open_id.to_string(), TokenKind::User.as_str().to_owned()]);
        match database.find(Table::Tokens, &[key]).await?.pop() {
            Some(Record::Tokens(row)) => Self::of(*row, cipher).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads the states of at most `limit` tokens of people in one application, in any status, in the order of their open ids
    /// after the given one.
    ///
    /// # Errors
    /// As [`TokenState::read`].
    pub async fn page(
        database: &dyn Transfer,
        cipher: &Cipher,
        app_id: &AppId,
        after: Option<&OpenId>,
        limit: u32,
    ) -> Result<Vec<Self>> {
        let user = TokenKind::User.as_str();
        let (open_id, kind) = after.map_or(("", ""), |open_id| (open_id.as_str(), user));
        let after = RowKey(vec![app_id.to_string(), open_id.to_owned(), kind.to_owned()]);
        let rows = database.export(Table::Tokens, Some(&after), limit).await?;
        let tokens = rows.into_iter().filter_map(|row| match row {
            Record::Tokens(row) => Some(*row),
            _ => None,
        });
        // The rows of the next application follow.
        let of_app = tokens.take_while(|row| row.app_id == app_id.as_str());
        of_app.filter(|row| row.kind == user).map(|row| Self::of(row, cipher)).collect()
    }

    fn of(row: TokenRecord, cipher: &Cipher) -> Result<Self> {
        let seal = RowSeal::composite(cipher, TOKENS, &[&row.app_id, &row.open_id, &row.kind]);
        let secret = |column, sealed: &[u8]| SecretState {
            key_id: Cipher::key_id(sealed).ok().map(str::to_owned),
            unreadable: seal.stored(column, sealed).unreadable().cloned(),
        };
        let corrupt = |error: IdError| seal.corrupt(error.to_string());
        Ok(Self {
            app_id: AppId::new(row.app_id.as_str()).map_err(corrupt)?,
            open_id: OpenId::new(row.open_id.as_str()).map_err(corrupt)?,
            status: row.status.parse().map_err(corrupt)?,
            suspended_for: row.suspended_for.as_deref().map(str::parse).transpose().map_err(corrupt)?,
            access_token: row
                .access_token_sealed
                .as_deref()
                .map(|sealed| secret("access_token_sealed", sealed)),
            refresh_token: row
                .refresh_token_sealed
                .as_deref()
                .map(|sealed| secret("refresh_token_sealed", sealed)),
            generation: row.generation,
            scopes: row.scopes,
            access_expires_at: row.access_expires_at,
            refresh_expires_at: row.refresh_expires_at,
            issued_at: row.issued_at,
            granted_at: row.granted_at,
            revoked_at: row.revoked_at,
            failures: u32::try_from(row.failures).unwrap_or(0),
            next_attempt_at: row.next_attempt_at,
            last_used_at: row.last_used_at,
            lease_until: row.lease_until,
        })
    }
}
