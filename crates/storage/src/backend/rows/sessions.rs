use std::time::Duration;

use larkauth_models::{AppId, AuthSession, CardOptions, ConsentSecrets, Person, SessionId, Timestamp};
use uuid::Uuid;

use super::{RowSeal, SESSIONS, applications::app_id};
use crate::{Cipher, DevicePoll, Result, StorageError, UnannouncedEnd, backend::device_grant};

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

/// Returns the application and the session of each claimed card.
pub fn claimed_cards<Id: Into<Uuid>>(
    rows: impl IntoIterator<Item = (String, Id)>,
) -> Result<Vec<(AppId, SessionId)>> {
    rows.into_iter().map(|(app, id)| Ok((app_id(app)?, SessionId(id.into())))).collect()
}
