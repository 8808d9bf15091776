//! Rows as every database stores them, and their conversion to the domain's types.

use std::{num::NonZeroU32, time::Duration};

use larkauth_models::{
    AppId, Application, AuthSession, CardOptions, ConsentSecrets, IdError, KeyAccess, OpenId, Person,
    SecretString, SessionId, StoredPair, StoredSecret, StoredToken, SuspensionReason, Timestamp,
    UnreadableSecret, UserProfile,
};
use uuid::Uuid;

use crate::{
    ActiveCounts, ApiKey, Cipher, DevicePoll, DueApplication, LeasedToken, Registration, Result,
    StorageError, UnannouncedEnd, UnannouncedPerson, backend::device_grant,
};

/// A row of `api_keys`, without the hash.
pub struct ApiKeyRow {
    pub key_id: Uuid,
    pub name: String,
    pub scopes: Vec<String>,
    pub app_ids: Vec<String>,
    pub lark_scopes: Vec<String>,
    pub requests_per_minute: Option<i64>,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

impl ApiKeyRow {
    pub fn into_model(self) -> ApiKey {
        ApiKey {
            id: self.key_id,
            name: self.name,
            scopes: self.scopes,
            access: KeyAccess { app_ids: self.app_ids, lark_scopes: self.lark_scopes },
            // A number beyond the range limits as much as the largest one.
            requests_per_minute: self
                .requests_per_minute
                .and_then(|n| NonZeroU32::new(u32::try_from(n.max(1)).unwrap_or(u32::MAX))),
            created_at: self.created_at,
            revoked_at: self.revoked_at,
            expires_at: self.expires_at,
            last_used_at: self.last_used_at,
        }
    }
}

pub const APPLICATIONS: &str = "applications";
pub const SESSIONS: &str = "user_auth_sessions";
pub const TOKENS: &str = "access_tokens";
pub const PROFILES: &str = "user_profiles";

/// Seals and opens the values of one row. Sealed values are bound to table and key of the row, and errors name both.
pub struct RowSeal<'a> {
    cipher: &'a Cipher,
    table: &'static str,
    key: String,
}

impl<'a> RowSeal<'a> {
    pub const fn new(cipher: &'a Cipher, table: &'static str, key: String) -> Self {
        Self { cipher, table, key }
    }

    pub fn session(cipher: &'a Cipher, id: SessionId) -> Self {
        Self::new(cipher, SESSIONS, id.to_string())
    }

    /// Creates it for a table with a key of several columns. The columns are joined by a slash, which no id contains.
    pub fn composite(cipher: &'a Cipher, table: &'static str, key: &[&str]) -> Self {
        Self::new(cipher, table, key.join("/"))
    }

    pub fn seal(&self, column: &'static str, value: &SecretString) -> Result<Vec<u8>> {
        self.cipher
            .seal(&[self.table, column, &self.key], value)
            .map(|sealed| sealed.0)
            .map_err(|error| StorageError::Refused { during: "encrypting", message: error.to_string() })
    }

    pub fn seal_option(&self, column: &'static str, value: Option<&SecretString>) -> Result<Option<Vec<u8>>> {
        value.map(|value| self.seal(column, value)).transpose()
    }

    pub(crate) fn open(&self, column: &'static str, sealed: &[u8]) -> Result<SecretString> {
        self.cipher.open(&[self.table, column, &self.key], sealed).map_err(|source| {
            StorageError::Undecryptable { table: self.table, column, row: self.key.clone(), source }
        })
    }

    fn open_option(&self, column: &'static str, sealed: Option<&[u8]>) -> Result<Option<SecretString>> {
        sealed.map(|sealed| self.open(column, sealed)).transpose()
    }

    /// Opens a value that others of its row do not depend on.
    pub(crate) fn stored(&self, column: &'static str, sealed: &[u8]) -> StoredSecret {
        match self.cipher.open(&[self.table, column, &self.key], sealed) {
            Ok(secret) => StoredSecret::Readable(secret),
            Err(reason) => StoredSecret::Unreadable(UnreadableSecret {
                column,
                key_id: Cipher::key_id(sealed).ok().map(str::to_owned),
                reason: reason.to_string(),
            }),
        }
    }

    pub(crate) fn corrupt(&self, message: String) -> StorageError {
        StorageError::Corrupt { table: self.table, row: self.key.clone(), message }
    }

    /// Checks a stored value again. A value that is no longer valid is reported with this row.
    fn checked<T, E: std::fmt::Display>(&self, value: std::result::Result<T, E>) -> Result<T> {
        value.map_err(|error| self.corrupt(error.to_string()))
    }

    fn checked_option<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        text: Option<&str>,
    ) -> Result<Option<T>> {
        text.map(|text| self.checked(text.parse())).transpose()
    }
}

pub struct ApplicationRow {
    pub app_id: String,
    pub app_secret_sealed: Vec<u8>,
    pub verification_token_sealed: Option<Vec<u8>>,
    pub encrypt_key_sealed: Option<Vec<u8>>,
    pub brand: String,
    pub token_api: String,
    pub redirect_uri: String,
    pub default_scopes: Vec<String>,
    pub enabled: bool,
    pub frozen_since: Option<Timestamp>,
    pub frozen_reason: Option<String>,
}

impl ApplicationRow {
    pub fn into_model(self, cipher: &Cipher) -> Result<Application> {
        let row = RowSeal::new(cipher, APPLICATIONS, self.app_id.clone());
        Ok(Application {
            app_secret: row.open("app_secret_sealed", &self.app_secret_sealed)?,
            verification_token: row
                .open_option("verification_token_sealed", self.verification_token_sealed.as_deref())?,
            encrypt_key: row.open_option("encrypt_key_sealed", self.encrypt_key_sealed.as_deref())?,
            brand: row.checked(self.brand.parse())?,
            token_api: row.checked(self.token_api.parse())?,
            redirect_uri: row.checked(self.redirect_uri.parse())?,
            app_id: row.checked(AppId::new(self.app_id))?,
            default_scopes: self.default_scopes,
            enabled: self.enabled,
            frozen_since: self.frozen_since,
            frozen_reason: self.frozen_reason,
        })
    }
}

/// Returns an entry for each application, including those that cannot be read.
pub fn registrations(rows: Vec<ApplicationRow>, cipher: &Cipher) -> Result<Vec<Registration>> {
    let registrations = rows.into_iter().map(|row| {
        let app_id = AppId::new(row.app_id.as_str());
        Ok(Registration {
            app_id: RowSeal::new(cipher, APPLICATIONS, row.app_id.clone()).checked(app_id)?,
            enabled: row.enabled,
            application: row.into_model(cipher),
        })
    });
    registrations.collect()
}

pub struct SessionRow {
    pub session_id: Uuid,
    pub app_id: String,
    pub user_id: Option<String>,
    pub open_id: Option<String>,
    pub asked_open_id: Option<String>,
    pub asked_user_id: Option<String>,
    pub union_id: Option<String>,
    pub user_name: Option<String>,
    pub email_sealed: Option<Vec<u8>>,
    pub mobile_sealed: Option<Vec<u8>>,
    pub auth_method: String,
    pub state: String,
    pub failure_reason: Option<String>,
    pub scopes: Vec<String>,
    pub granted_scopes: Option<Vec<String>>,
    pub card: serde_json::Value,
    pub oauth_state_sealed: Option<Vec<u8>>,
    pub pkce_verifier_sealed: Option<Vec<u8>>,
    pub device_grant_sealed: Option<Vec<u8>>,
    pub device_expires_at: Option<Timestamp>,
    pub device_card_is_stale: bool,
    pub message_id: Option<String>,
    pub card_face: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub completed_at: Option<Timestamp>,
}

impl SessionRow {
    /// Removes the sealed values. A list shows no secrets, and a value that cannot be opened must not hide other rows.
    pub fn without_secrets(self) -> Self {
        Self {
            email_sealed: None,
            mobile_sealed: None,
            oauth_state_sealed: None,
            pkce_verifier_sealed: None,
            device_grant_sealed: None,
            ..self
        }
    }

    pub fn into_model(self, cipher: &Cipher) -> Result<AuthSession> {
        let id = SessionId(self.session_id);
        let row = RowSeal::session(cipher, id);
        let consent = match (&self.oauth_state_sealed, &self.pkce_verifier_sealed) {
            (Some(state), Some(verifier)) => Some(ConsentSecrets {
                state: row.open("oauth_state_sealed", state)?,
                pkce_verifier: row.open("pkce_verifier_sealed", verifier)?,
            }),
            _ => None,
        };
        let device = match (&self.device_grant_sealed, self.device_expires_at) {
            (Some(sealed), Some(expires_at)) => {
                let text = row.open("device_grant_sealed", sealed)?;
                let grant = device_grant::decode(&text, expires_at, self.device_card_is_stale);
                Some(grant.ok_or_else(|| row.corrupt("the device authorization is malformed".to_owned()))?)
            }
            _ => None,
        };
        Ok(AuthSession {
            id,
            app_id: row.checked(AppId::new(self.app_id))?,
            asked: Person {
                open_id: row.checked_option(self.asked_open_id.as_deref())?,
                user_id: row.checked_option(self.asked_user_id.as_deref())?,
            },
            person: Person {
                open_id: row.checked_option(self.open_id.as_deref())?,
                user_id: row.checked_option(self.user_id.as_deref())?,
            },
            union_id: row.checked_option(self.union_id.as_deref())?,
            user_name: self.user_name,
            email: row.open_option("email_sealed", self.email_sealed.as_deref())?,
            mobile: row.open_option("mobile_sealed", self.mobile_sealed.as_deref())?,
            auth_method: row.checked(self.auth_method.parse())?,
            state: row.checked(self.state.parse())?,
            failure_reason: row.checked_option(self.failure_reason.as_deref())?,
            scopes: self.scopes,
            granted_scopes: self.granted_scopes,
            card: row.checked(serde_json::from_value::<CardOptions>(self.card))?,
            consent,
            device,
            message_id: row.checked_option(self.message_id.as_deref())?,
            card_face: row.checked_option(self.card_face.as_deref())?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            completed_at: self.completed_at,
        })
    }
}

/// A session whose poll was claimed.
pub struct DevicePollRow {
    pub session_id: Uuid,
    pub claim: Uuid,
    pub interval_seconds: i64,
    pub is_opened: bool,
    pub failures: i64,
    pub is_answer_lost: bool,
    pub is_enabled: bool,
}

impl DevicePollRow {
    #[must_use]
    pub fn into_model(self) -> DevicePoll {
        DevicePoll {
            session_id: SessionId(self.session_id),
            claim: self.claim,
            interval: Duration::from_secs(u64::try_from(self.interval_seconds).unwrap_or(1).max(1)),
            is_opened: self.is_opened,
            failures: u32::try_from(self.failures).unwrap_or(0),
            is_answer_lost: self.is_answer_lost,
            is_enabled: self.is_enabled,
        }
    }
}

pub struct EndRow {
    pub session_id: Uuid,
    pub app_id: String,
    pub user_id: Option<String>,
    pub open_id: Option<String>,
    pub state: String,
    pub failure_reason: Option<String>,
    pub ended_at: Timestamp,
}

impl EndRow {
    pub fn into_model(self) -> Result<UnannouncedEnd> {
        let id = SessionId(self.session_id);
        let corrupt = |message| StorageError::Corrupt { table: SESSIONS, row: id.to_string(), message };
        let parse = || {
            Ok::<_, Box<dyn std::error::Error>>(UnannouncedEnd {
                id,
                app_id: AppId::new(self.app_id.as_str())?,
                person: Person {
                    open_id: self.open_id.as_deref().map(str::parse).transpose()?,
                    user_id: self.user_id.as_deref().map(str::parse).transpose()?,
                },
                state: self.state.parse()?,
                failure_reason: self.failure_reason.as_deref().map(str::parse).transpose()?,
                ended_at: self.ended_at,
            })
        };
        parse().map_err(|error| corrupt(error.to_string()))
    }
}

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

/// Converts a row of applications with due tokens.
///
/// # Errors
/// When the application's id is not valid.
pub fn due_application(app_id: String, due: i64) -> Result<DueApplication> {
    let app_id = AppId::new(app_id.clone()).map_err(|error| StorageError::Corrupt {
        table: APPLICATIONS,
        row: app_id,
        message: error.to_string(),
    })?;
    Ok(DueApplication { app_id, due: due.try_into().unwrap_or(u32::MAX) })
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

pub struct ProfileRow {
    pub app_id: String,
    pub open_id: String,
    pub union_id: Option<String>,
    pub user_id: Option<String>,
    pub name: Option<String>,
    pub en_name: Option<String>,
    pub avatar_url: Option<String>,
    pub email_sealed: Option<Vec<u8>>,
    pub mobile_sealed: Option<Vec<u8>>,
    pub tenant_key: Option<String>,
}

impl ProfileRow {
    pub fn into_model(self, cipher: &Cipher) -> Result<UserProfile> {
        let row = RowSeal::composite(cipher, PROFILES, &[&self.app_id, &self.open_id]);
        Ok(UserProfile {
            open_id: row.checked(OpenId::new(self.open_id))?,
            union_id: row.checked_option(self.union_id.as_deref())?,
            user_id: row.checked_option(self.user_id.as_deref())?,
            name: self.name,
            en_name: self.en_name,
            avatar_url: self.avatar_url,
            email: row.open_option("email_sealed", self.email_sealed.as_deref())?,
            mobile: row.open_option("mobile_sealed", self.mobile_sealed.as_deref())?,
            tenant_key: self.tenant_key,
        })
    }
}

/// A row of `access_tokens` whose status is not announced.
pub struct UnannouncedRow {
    pub app_id: String,
    pub open_id: String,
    pub user_id: Option<String>,
    pub is_suspended: bool,
    pub suspended_for: Option<String>,
    pub status_announcements: i32,
}

impl UnannouncedRow {
    pub fn into_model(self) -> Result<UnannouncedPerson> {
        let key = [&self.app_id, &self.open_id].map(String::as_str).join("/");
        let corrupt = |message| StorageError::Corrupt { table: TOKENS, row: key.clone(), message };
        let parse = || {
            let reason = suspension_reason(self.suspended_for.as_deref())?;
            Ok::<_, Box<dyn std::error::Error>>(UnannouncedPerson {
                app_id: AppId::new(self.app_id.as_str())?,
                open_id: OpenId::new(self.open_id.as_str())?,
                user_id: self.user_id.as_deref().map(str::parse).transpose()?,
                suspended_for: self.is_suspended.then_some(reason),
                earlier: u32::try_from(self.status_announcements)?,
            })
        };
        parse().map_err(|error| corrupt(error.to_string()))
    }
}

/// Returns the reason of a suspended row.
fn suspension_reason(column: Option<&str>) -> std::result::Result<SuspensionReason, IdError> {
    column.map_or(Ok(SuspensionReason::Refused), str::parse)
}

/// Returns people from their stored ids.
pub fn open_ids(rows: impl IntoIterator<Item = String>) -> Result<Vec<OpenId>> {
    rows.into_iter().map(open_id).collect()
}

/// Returns suspended people and their reasons.
pub fn suspensions(
    rows: impl IntoIterator<Item = (String, Option<String>)>,
) -> Result<Vec<(OpenId, SuspensionReason)>> {
    let suspension = |(id, reason): (String, Option<String>)| {
        let reason = suspension_reason(reason.as_deref()).map_err(|error| StorageError::Corrupt {
            table: TOKENS,
            row: id.clone(),
            message: error.to_string(),
        })?;
        Ok((open_id(id)?, reason))
    };
    rows.into_iter().map(suspension).collect()
}

fn open_id(text: String) -> Result<OpenId> {
    OpenId::new(text.as_str()).map_err(|error| StorageError::Corrupt {
        table: TOKENS,
        row: text,
        message: error.to_string(),
    })
}

pub(super) fn app_id(text: String) -> Result<AppId> {
    AppId::new(text.as_str()).map_err(|error| StorageError::Corrupt {
        table: APPLICATIONS,
        row: text,
        message: error.to_string(),
    })
}

/// Returns the application and the session of each claimed card.
pub fn claimed_cards<Id: Into<Uuid>>(
    rows: impl IntoIterator<Item = (String, Id)>,
) -> Result<Vec<(AppId, SessionId)>> {
    rows.into_iter().map(|(app, id)| Ok((app_id(app)?, SessionId(id.into())))).collect()
}

/// Returns the number of pending sessions, of active and of suspended tokens of each application.
pub fn active_counts(rows: impl IntoIterator<Item = (String, i64, i64, i64)>) -> Result<Vec<ActiveCounts>> {
    let counts = rows.into_iter().map(|(app, pending_sessions, active_tokens, suspended_tokens)| {
        Ok(ActiveCounts { app_id: app_id(app)?, pending_sessions, active_tokens, suspended_tokens })
    });
    counts.collect()
}
