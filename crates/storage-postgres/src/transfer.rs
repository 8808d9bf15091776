//! PostgreSQL's words for moving rows.

use super::PgStore;
use crate::portable::{Column, Dialect, Kind, portable_by_dialect};

struct Postgres;

impl Dialect for Postgres {
    const OBJECT: &'static str = "jsonb_build_object";

    fn value(Column { name, kind }: &Column) -> String {
        match kind {
            Kind::Time => format!("(extract(epoch from {name}) * 1000000)::bigint"),
            Kind::Bytes | Kind::Sealed => format!("encode({name}, 'hex')"),
            _ => (*name).to_owned(),
        }
    }

    fn stored(Column { name, kind }: &Column) -> String {
        match kind {
            Kind::Time => format!("timestamptz 'epoch' + r.{name} * interval '1 microsecond'"),
            Kind::Bytes | Kind::Sealed => format!("decode(r.{name}, 'hex')"),
            _ => format!("r.{name}"),
        }
    }

    fn records(columns: &[Column]) -> String {
        let fields = columns.iter().map(|Column { name, kind }| format!("{name} {}", json_type(*kind)));
        format!("jsonb_to_recordset($1) as r ({})", fields.collect::<Vec<_>>().join(", "))
    }

    fn parameter(number: usize, kind: Kind) -> String {
        format!("${number}::{}", json_type(kind))
    }
}

/// What a value is taken out of JSON as.
const fn json_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Bytes | Kind::Sealed => "text",
        Kind::Uuid => "uuid",
        Kind::Integer | Kind::Time => "bigint",
        Kind::Bool => "boolean",
        Kind::List => "text[]",
        Kind::Json => "jsonb",
    }
}

portable_by_dialect!(PgStore, Postgres, call, call);
