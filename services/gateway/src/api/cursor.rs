//! The cursor of a list: time and id of the last entry of a page.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use larkauth_contracts::problem::ProblemCode;
use larkauth_models::Timestamp;
use uuid::Uuid;

use crate::problem::ApiError;

/// The end of the year 9999, which every database can hold.
const LAST_MICROS: i64 = 253_402_300_799_999_999;

pub(super) fn write_cursor(at: Timestamp, id: Uuid) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}.{id}", at.timestamp_micros()))
}

pub(super) fn read_cursor(text: &str) -> Result<(Timestamp, Uuid), ApiError> {
    let read = || {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (micros, id) = text.split_once('.')?;
        let micros = micros.parse().ok().filter(|micros| (0..=LAST_MICROS).contains(micros))?;
        Some((Timestamp::from_timestamp_micros(micros)?, id.parse().ok()?))
    };
    read().ok_or_else(|| {
        ApiError::new(ProblemCode::InvalidRequest, "cursor: must be the `next_cursor` of a page")
    })
}
