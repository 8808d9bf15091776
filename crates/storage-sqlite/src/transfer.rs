//! SQLite's words for moving rows.

use super::SqliteStore;
use crate::portable::{Column, Dialect, Kind, portable_by_dialect};

struct Sqlite;

impl Dialect for Sqlite {
    const OBJECT: &'static str = "json_object";

    fn value(Column { name, kind }: &Column) -> String {
        match kind {
            Kind::Text | Kind::Uuid | Kind::Integer | Kind::Time => (*name).to_owned(),
            Kind::Bool => format!("json(iif({name}, 'true', 'false'))"),
            Kind::Bytes | Kind::Sealed => format!("iif({name} is null, null, lower(hex({name})))"),
            Kind::List | Kind::Json => format!("json({name})"),
        }
    }

    fn stored(Column { name, kind }: &Column) -> String {
        match kind {
            Kind::Bytes | Kind::Sealed => format!("unhex(r.{name})"),
            _ => format!("r.{name}"),
        }
    }

    fn records(columns: &[Column]) -> String {
        let fields =
            columns.iter().map(|Column { name, .. }| format!("json_extract(value, '$.{name}') as {name}"));
        format!("(select {} from json_each(?1)) as r", fields.collect::<Vec<_>>().join(", "))
    }

    fn parameter(number: usize, _: Kind) -> String {
        format!("?{number}")
    }
}

portable_by_dialect!(SqliteStore, Sqlite, read, write);
