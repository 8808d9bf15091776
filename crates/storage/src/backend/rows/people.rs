use larkauth_models::{AppId, IdError, OpenId, SuspensionReason, UserProfile};

use super::{PROFILES, RowSeal, TOKENS};
use crate::{Cipher, Result, StorageError, UnannouncedPerson};

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
