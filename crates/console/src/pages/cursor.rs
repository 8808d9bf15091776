//! The place of a list from which a page begins: time and id of the entry before.

use larkauth_models::Timestamp;
use uuid::Uuid;

use crate::{failure::Failure, visit::Fields};

/// The field of the query.
pub(super) const AFTER: &str = "after";
/// The end of the year 9999, which every database can hold.
const LAST_MICROS: i64 = 253_402_300_799_999_999;

pub(super) fn write(at: Timestamp, id: &str) -> String {
    format!("{}.{id}", at.timestamp_micros())
}

/// Returns time and the rest of the cursor of this query.
pub(super) fn read(query: &Fields) -> Result<Option<(Timestamp, &str)>, Failure> {
    let Some(text) = query.get(AFTER) else { return Ok(None) };
    let parsed = text.split_once('.').and_then(|(micros, id)| {
        let micros = micros.parse().ok().filter(|micros| (0..=LAST_MICROS).contains(micros))?;
        Some((Timestamp::from_timestamp_micros(micros)?, id))
    });
    parsed.map(Some).ok_or_else(invalid)
}

/// Returns time and id of the cursor of this query.
pub(super) fn read_with_id(query: &Fields) -> Result<Option<(Timestamp, Uuid)>, Failure> {
    let Some((at, id)) = read(query)? else { return Ok(None) };
    Ok(Some((at, id.parse().map_err(|_| invalid())?)))
}

pub(super) fn invalid() -> Failure {
    Failure::Invalid(format!("{AFTER}: not the end of a page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_of_write_round_trips_and_nonsense_is_refused() {
        let at = Timestamp::from_timestamp_micros(1_700_000_000_000_001).unwrap();
        let query = |text: &str| Fields::parse(format!("after={text}").as_bytes());
        let id = Uuid::from_u128(7);
        assert_eq!(read_with_id(&query(&write(at, &id.to_string()))).unwrap(), Some((at, id)));
        assert_eq!(read_with_id(&Fields::default()).unwrap(), None);
        for wrong in ["x", "1", "-1.a", "99999999999999999999.a", "253402300800000000.a", ".", "1.not-a-uuid"]
        {
            assert!(read_with_id(&query(wrong)).is_err(), "{wrong}");
        }
    }
}
