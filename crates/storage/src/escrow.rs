use larkauth_models::{
    AppId, ExposeSecret, OpenId, SecretString, SessionId, Timestamp, TokenKind, TokenPair,
};
use serde_json::{Map, Value};

use crate::{
    Cipher, Result, Sealed,
    backend::rows::{RowSeal, TOKENS},
};

/// Column of a session's sealed token pair.
const ESCROW: &str = "exchange_escrow_sealed";
/// Context of a refreshed pair on its way to its row.
const REFRESHED: &str = "refreshed_pair_sealed";

/// Seals a token pair for the row of its session. The value opens in that row only, no matter how it gets there.
///
/// # Errors
/// Fails when the pair cannot be encrypted.
pub fn seal_escrow(cipher: &Cipher, id: SessionId, pair: &TokenPair) -> Result<Sealed> {
    seal_pair(&RowSeal::session(cipher, id), ESCROW, pair)
}

/// Seals a refreshed pair for the row of its token, while the database does not take it.
///
/// # Errors
/// Fails when the pair cannot be encrypted.
pub fn seal_refreshed(cipher: &Cipher, app_id: &AppId, open_id: &OpenId, pair: &TokenPair) -> Result<Sealed> {
    seal_pair(&token_row(cipher, app_id, open_id), REFRESHED, pair)
}

/// Opens a value of [`seal_refreshed`].
///
/// # Errors
/// As [`open_escrow`].
pub fn open_refreshed(
    cipher: &Cipher,
    app_id: &AppId,
    open_id: &OpenId,
    sealed: &Sealed,
) -> Result<TokenPair> {
    open_pair(&token_row(cipher, app_id, open_id), REFRESHED, &sealed.0)
}

fn token_row<'a>(cipher: &'a Cipher, app_id: &AppId, open_id: &OpenId) -> RowSeal<'a> {
    RowSeal::composite(cipher, TOKENS, &[app_id.as_str(), open_id.as_str(), TokenKind::User.as_str()])
}

fn seal_pair(row: &RowSeal<'_>, column: &'static str, pair: &TokenPair) -> Result<Sealed> {
    let text = |secret: &SecretString| Value::from(secret.expose_secret());
    let mut fields = Map::new();
    fields.insert("access_token".to_owned(), text(&pair.access_token));
    fields.insert("access_expires_at".to_owned(), pair.access_expires_at.timestamp_micros().into());
    fields.insert("refresh_token".to_owned(), pair.refresh_token.as_ref().map_or(Value::Null, text));
    let refresh_expires_at = pair.refresh_expires_at.map(|at| at.timestamp_micros());
    fields.insert("refresh_expires_at".to_owned(), refresh_expires_at.into());
    fields.insert("scopes".to_owned(), pair.scopes.clone().into());
    row.seal(column, &SecretString::from(Value::Object(fields).to_string())).map(Sealed)
}

/// Opens the sealed token pair of a session's row.
///
/// # Errors
/// [`StorageError::Undecryptable`](crate::StorageError::Undecryptable) or
/// [`StorageError::Corrupt`](crate::StorageError::Corrupt), with table, column and row.
pub fn open_escrow(cipher: &Cipher, id: SessionId, sealed: &[u8]) -> Result<TokenPair> {
    open_pair(&RowSeal::session(cipher, id), ESCROW, sealed)
}

fn open_pair(row: &RowSeal<'_>, column: &'static str, sealed: &[u8]) -> Result<TokenPair> {
    let text = row.open(column, sealed)?;
    // The parser's message could repeat the text.
    let corrupt = || row.corrupt("the token pair in escrow is malformed".to_owned());
    let mut fields: Map<String, Value> = serde_json::from_str(text.expose_secret()).map_err(|_| corrupt())?;
    let secret = |value: Option<Value>| match value {
        Some(Value::String(secret)) => Ok(Some(SecretString::from(secret))),
        Some(Value::Null) => Ok(None),
        _ => Err(corrupt()),
    };
    let time = |value: Option<&Value>| match value {
        Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_i64().and_then(Timestamp::from_timestamp_micros).map(Some).ok_or_else(corrupt)
        }
        None => Err(corrupt()),
    };
    let scopes = fields.remove("scopes").ok_or_else(corrupt)?;
    Ok(TokenPair {
        access_token: secret(fields.remove("access_token"))?.ok_or_else(corrupt)?,
        access_expires_at: time(fields.get("access_expires_at"))?.ok_or_else(corrupt)?,
        refresh_token: secret(fields.remove("refresh_token"))?,
        refresh_expires_at: time(fields.get("refresh_expires_at"))?,
        scopes: serde_json::from_value(scopes).map_err(|_| corrupt())?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larkauth_models::SeededEntropy;
    use uuid::Uuid;
    use zeroize::Zeroizing;

    use super::*;
    use crate::{EncryptionKey, StorageError};

    fn cipher() -> Cipher {
        let key = EncryptionKey { id: "a".to_owned(), key: Zeroizing::new([1; 32]) };
        Cipher::new(vec![key], Arc::new(SeededEntropy::new(7))).unwrap()
    }

    fn pair(refresh_token: Option<&str>) -> TokenPair {
        TokenPair {
            access_token: SecretString::from("u-\"1"),
            access_expires_at: Timestamp::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            refresh_token: refresh_token.map(SecretString::from),
            refresh_expires_at: refresh_token.map(|_| Timestamp::UNIX_EPOCH),
            scopes: vec!["offline_access".to_owned()],
        }
    }

    #[test]
    fn open_escrow_of_sealed_pair_returns_pair() {
        let (cipher, id) = (cipher(), SessionId(Uuid::from_u128(1)));
        for refresh_token in [Some("ur-1"), None] {
            let given = pair(refresh_token);
            let opened = open_escrow(&cipher, id, &seal_escrow(&cipher, id, &given).unwrap().0).unwrap();
            assert_eq!(opened.access_token.expose_secret(), given.access_token.expose_secret());
            assert_eq!(opened.refresh_token.as_ref().map(ExposeSecret::expose_secret), refresh_token);
            assert_eq!(
                (opened.access_expires_at, opened.refresh_expires_at, opened.scopes),
                (given.access_expires_at, given.refresh_expires_at, given.scopes)
            );
        }
    }

    #[test]
    fn open_escrow_of_other_session_refused() {
        let cipher = cipher();
        let sealed = seal_escrow(&cipher, SessionId(Uuid::from_u128(1)), &pair(None)).unwrap();
        let error = open_escrow(&cipher, SessionId(Uuid::from_u128(2)), &sealed.0).unwrap_err();
        assert!(matches!(error, StorageError::Undecryptable { column: ESCROW, .. }), "{error}");
    }
}
