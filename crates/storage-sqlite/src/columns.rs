//! Values between SQLite's few types and ours: times are microseconds, UUIDs text, lists JSON.

use larkauth_models::Timestamp;
use serde_json::Value;
use sqlx::{Error, FromRow, Row, sqlite::SqliteRow, types::Json};
use uuid::{Uuid, fmt::Hyphenated};

use crate::{
    ApiKey,
    rows::{ApplicationRow, ProfileRow, SessionRow, TokenRow},
};

/// A value as it is read out of a column.
trait Column: Sized {
    fn get(row: &SqliteRow, name: &str) -> sqlx::Result<Self>;
}

macro_rules! as_they_are {
    ($($type:ty),+) => {
        $(impl Column for $type {
            fn get(row: &SqliteRow, name: &str) -> sqlx::Result<Self> {
                row.try_get(name)
            }
        })+
    };
}

as_they_are!(String, Option<String>, Vec<u8>, Option<Vec<u8>>, bool, i64);

impl Column for Uuid {
    fn get(row: &SqliteRow, name: &str) -> sqlx::Result<Self> {
        row.try_get::<Hyphenated, _>(name).map(Self::from)
    }
}

impl Column for Vec<String> {
    fn get(row: &SqliteRow, name: &str) -> sqlx::Result<Self> {
        row.try_get::<Json<Self>, _>(name).map(|json| json.0)
    }
}

impl Column for Value {
    fn get(row: &SqliteRow, name: &str) -> sqlx::Result<Self> {
        row.try_get::<Json<Self>, _>(name).map(|json| json.0)
    }
}

impl Column for Timestamp {
    fn get(row: &SqliteRow, name: &str) -> sqlx::Result<Self> {
        time(row.try_get(name)?)
    }
}

impl Column for Option<Timestamp> {
    fn get(row: &SqliteRow, name: &str) -> sqlx::Result<Self> {
        row.try_get::<Option<i64>, _>(name)?.map(time).transpose()
    }
}

/// The time that a column holds as microseconds.
pub(super) fn time(micros: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_timestamp_micros(micros).ok_or_else(|| Error::Decode("a time out of range".into()))
}

macro_rules! read_by_name {
    ($row:ident { $($field:ident),+ $(,)? }) => {
        impl FromRow<'_, SqliteRow> for $row {
            fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
                Ok(Self { $($field: Column::get(row, stringify!($field))?),+ })
            }
        }
    };
}

read_by_name!(ApplicationRow {
    app_id,
    app_secret_sealed,
    verification_token_sealed,
    encrypt_key_sealed,
    brand,
    token_api,
    redirect_uri,
    default_scopes,
    enabled,
    frozen_since,
    frozen_reason,
});

read_by_name!(SessionRow {
    session_id,
    app_id,
    user_id,
    open_id,
    union_id,
    user_name,
    email_sealed,
    mobile_sealed,
    auth_method,
    state,
    failure_reason,
    scopes,
    card,
    oauth_state_sealed,
    pkce_verifier_sealed,
    message_id,
    card_face,
    created_at,
    expires_at,
    completed_at,
});

read_by_name!(TokenRow {
    app_id,
    open_id,
    kind,
    access_token_sealed,
    access_expires_at,
    refresh_token_sealed,
    refresh_expires_at,
    scopes,
    issued_at,
    granted_at,
    generation,
    status,
});

read_by_name!(ProfileRow {
    app_id,
    open_id,
    union_id,
    user_id,
    name,
    en_name,
    avatar_url,
    email_sealed,
    mobile_sealed,
    tenant_key,
});

read_by_name!(ApiKey { id, name, scopes, created_at, revoked_at });
