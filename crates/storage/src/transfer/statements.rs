//! The statements that move rows, for both databases.

use super::{Column, Kind, PortableRow, shapes::Shape};
use crate::{Result, StorageError};

/// What the two databases say differently.
pub(crate) trait Dialect {
    /// The function that makes a JSON object.
    const OBJECT: &'static str;
    /// A column as a value in JSON.
    fn value(column: &Column) -> String;
    /// The same back, out of the record `r`.
    fn stored(column: &Column) -> String;
    /// The first parameter, an array of objects, as a relation `r`.
    fn records(columns: &[Column]) -> String;
    /// A parameter of that kind.
    fn parameter(number: usize, kind: Kind) -> String;
}

/// [`Portable`] for a store that speaks such a dialect; the last two are its methods that lend a connection.
macro_rules! portable_by_dialect {
    ($store:ident, $dialect:ident, $read:ident, $write:ident) => {
        #[async_trait::async_trait]
        impl $crate::Portable for $store {
            async fn export(
                &self,
                table: $crate::Table,
                after: Option<&$crate::PortableRow>,
                limit: u32,
            ) -> $crate::Result<Vec<$crate::PortableRow>> {
                let statement = table.shape().export::<$dialect>(after.is_some());
                let key = table.shape().key_of(after)?;
                let rows: Vec<sqlx::types::Json<$crate::PortableRow>> = self
                    .$read("exporting rows", async |db| {
                        let mut rows =
                            sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).bind(i64::from(limit));
                        for part in key {
                            rows = rows.bind(part);
                        }
                        rows.fetch_all(db).await
                    })
                    .await?;
                Ok(rows.into_iter().map(|row| row.0).collect())
            }

            async fn find(
                &self,
                table: $crate::Table,
                rows: &[$crate::PortableRow],
            ) -> $crate::Result<Vec<$crate::PortableRow>> {
                let statement = table.shape().find::<$dialect>();
                let found: Vec<sqlx::types::Json<$crate::PortableRow>> = self
                    .$read("finding rows", async |db| {
                        let rows = sqlx::types::Json(rows);
                        sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).bind(rows).fetch_all(db).await
                    })
                    .await?;
                Ok(found.into_iter().map(|row| row.0).collect())
            }

            async fn import(
                &self,
                table: $crate::Table,
                rows: &[$crate::PortableRow],
            ) -> $crate::Result<u64> {
                let statement = table.shape().import::<$dialect>();
                let done = self
                    .$write("importing rows", async |db| {
                        let rows = sqlx::types::Json(rows);
                        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(rows).execute(db).await
                    })
                    .await?;
                Ok(done.rows_affected())
            }

            async fn count(&self, table: $crate::Table) -> $crate::Result<u64> {
                let statement = table.shape().count();
                let count: i64 = self
                    .$read("counting rows", async |db| {
                        sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(db).await
                    })
                    .await?;
                Ok(count.unsigned_abs())
            }
        }
    };
}
pub(crate) use portable_by_dialect;

fn list<'a, C>(columns: impl IntoIterator<Item = &'a C>, text: impl FnMut(&'a C) -> String) -> String
where
    C: 'a,
{
    columns.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

impl Shape {
    /// Parameter 1 is the limit, those after it the key to start behind.
    pub(crate) fn export<D: Dialect>(&self, continued: bool) -> String {
        let key = list(self.key, |column| column.name.to_owned());
        let object = list(self.columns, |column| format!("'{}', {}", column.name, D::value(column)));
        let start = if continued {
            let mut number = 1;
            let last = list(self.key, |column| {
                number += 1;
                D::parameter(number, column.kind)
            });
            format!("where ({key}) > ({last})")
        } else {
            String::new()
        };
        let limit = D::parameter(1, Kind::Integer);
        format!("select {}({object}) from {} {start} order by {key} limit {limit}", D::OBJECT, self.table)
    }

    /// Parameter 1 is an array of rows.
    pub(crate) fn import<D: Dialect>(&self) -> String {
        let key = list(self.key, |column| column.name.to_owned());
        let mut names = list(self.columns, |column| column.name.to_owned());
        let mut values = list(self.columns, D::stored);
        if let Some((name, value)) = self.derived {
            names.push_str(&format!(", {name}"));
            values.push_str(&format!(", {value}"));
        }
        // `where true` tells SQLite that `on conflict` does not belong to a join.
        format!(
            "insert into {} ({names}) select {values} from {} where true on conflict ({key}) do nothing",
            self.table,
            D::records(self.columns)
        )
    }

    /// Parameter 1 is an array of rows.
    pub(crate) fn find<D: Dialect>(&self) -> String {
        let key = list(self.key, |column| column.name.to_owned());
        let wanted = list(self.key, D::stored);
        let records = D::records(self.key);
        let object = list(self.columns, |column| format!("'{}', {}", column.name, D::value(column)));
        format!(
            "select {}({object}) from {} where ({key}) in (select {wanted} from {records})",
            D::OBJECT,
            self.table
        )
    }

    pub(crate) fn count(&self) -> String {
        format!("select count(*) from {}", self.table)
    }

    /// The row's key, for [`Shape::export`].
    pub(crate) fn key_of(&self, row: Option<&PortableRow>) -> Result<Vec<String>> {
        let Some(row) = row else { return Ok(Vec::new()) };
        let part = |column: &Column| {
            row.text(column.name).map(str::to_owned).ok_or_else(|| StorageError::Corrupt {
                table: self.table,
                row: "to continue behind".to_owned(),
                message: format!("it has no {}", column.name),
            })
        };
        self.key.iter().map(part).collect()
    }
}
