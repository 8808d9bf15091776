//! Conversion between SQLite's column types and the domain's types. Times are stored as microseconds since 1970, UUIDs
//! as text, lists as JSON.

use larkauth_models::Timestamp;
use serde_json::Value;
use sqlx::{
    Decode, Sqlite, Type, ValueRef,
    error::BoxDynError,
    sqlite::{SqliteTypeInfo, SqliteValueRef},
    types::Json,
};
use uuid::{Uuid, fmt::Hyphenated};

/// Declares a column type: its type in SQLite and its conversion to the domain's type.
macro_rules! column {
    ($(#[$meta:meta])* $name:ident($type:ty) stored as $stored:ty, |$value:ident| $decode:expr) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub(crate) struct $name($type);

        impl Type<Sqlite> for $name {
            fn type_info() -> SqliteTypeInfo { <$stored as Type<Sqlite>>::type_info() }
            fn compatible(ty: &SqliteTypeInfo) -> bool { <$stored as Type<Sqlite>>::compatible(ty) }
        }

        impl<'r> Decode<'r, Sqlite> for $name {
            fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
                let $value = <$stored as Decode<Sqlite>>::decode(value)?;
                Ok(Self($decode))
            }
        }

        impl From<$name> for $type {
            fn from(column: $name) -> Self { column.0 }
        }
    };
}

/// Declares the same column type for a column that may be null.
macro_rules! optional_column {
    ($(#[$meta:meta])* $name:ident of $inner:ident($type:ty)) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub(crate) struct $name(Option<$type>);

        impl Type<Sqlite> for $name {
            fn type_info() -> SqliteTypeInfo { <$inner as Type<Sqlite>>::type_info() }
            fn compatible(ty: &SqliteTypeInfo) -> bool { <$inner as Type<Sqlite>>::compatible(ty) }
        }

        impl<'r> Decode<'r, Sqlite> for $name {
            fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
                if value.is_null() {
                    return Ok(Self(None));
                }
                Ok(Self(Some($inner::decode(value)?.0)))
            }
        }

        impl From<$name> for Option<$type> {
            fn from(column: $name) -> Self { column.0 }
        }
    };
}

column! {
    /// A time.
    Micros(Timestamp) stored as i64, |micros| {
        Timestamp::from_timestamp_micros(micros).ok_or("a time out of range")?
    }
}
column! {
    /// A UUID.
    Id(Uuid) stored as Hyphenated, |id| id.into()
}
column! {
    /// A list of texts.
    Texts(Vec<String>) stored as Json<Vec<String>>, |list| list.0
}
column! {
    /// Any JSON.
    JsonValue(Value) stored as Json<Value>, |json| json.0
}
optional_column! {
    /// A time, or null.
    OptionalMicros of Micros(Timestamp)
}
optional_column! {
    /// A list of texts, or null.
    OptionalTexts of Texts(Vec<String>)
}
optional_column! {
    /// A UUID, or null.
    OptionalId of Id(Uuid)
}

/// Returns a time as a column stores it.
pub(crate) const fn micros(at: Timestamp) -> i64 {
    at.timestamp_micros()
}
