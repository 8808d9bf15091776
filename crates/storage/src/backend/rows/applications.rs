use larkauth_models::{AppId, Application, Timestamp};

use super::{APPLICATIONS, RowSeal};
use crate::{ActiveCounts, Cipher, DueApplication, Registration, Result, StorageError};

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

/// Returns the number of pending sessions, of active and of suspended tokens of each application.
pub fn active_counts(rows: impl IntoIterator<Item = (String, i64, i64, i64)>) -> Result<Vec<ActiveCounts>> {
    let counts = rows.into_iter().map(|(app, pending_sessions, active_tokens, suspended_tokens)| {
        Ok(ActiveCounts { app_id: app_id(app)?, pending_sessions, active_tokens, suspended_tokens })
    });
    counts.collect()
}

pub(in crate::backend) fn app_id(text: String) -> Result<AppId> {
    AppId::new(text.as_str()).map_err(|error| StorageError::Corrupt {
        table: APPLICATIONS,
        row: text,
        message: error.to_string(),
    })
}
