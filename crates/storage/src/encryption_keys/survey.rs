use std::collections::BTreeMap;

use crate::{
    Cipher, CipherError, Result,
    transfer::{PAGE, Record, RowKey, Table, TableProgress, Transfer},
};

/// Number of places that [`KeyValues`] names at most.
const NAMED: usize = 5;

/// The sealed values of a database, by the key that sealed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySurvey {
    /// The values of each key; `None` for values that name none because they are malformed.
    pub keys: BTreeMap<Option<String>, KeyValues>,
}

/// The sealed values of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValues {
    /// Rows that need the key.
    pub rows: u64,
    /// Values.
    pub values: u64,
    /// Values that open.
    pub opened: u64,
    /// Reason why the first of the others does not open.
    pub reason: Option<CipherError>,
    /// Table, column and row of the first values that do not open.
    pub closed: Vec<String>,
}

impl KeyValues {
    /// Returns the number of values that do not open.
    #[must_use]
    pub const fn unreadable(&self) -> u64 {
        self.values - self.opened
    }
}

impl KeySurvey {
    /// Reads all rows with sealed values, in the order of their keys, and opens each value.
    ///
    /// # Errors
    /// Fails when the database does not answer.
    pub async fn of(
        database: &dyn Transfer,
        cipher: &Cipher,
        mut progress: impl FnMut(TableProgress) + Send,
    ) -> Result<Self> {
        let mut survey = Self::default();
        for table in Table::with_sealed() {
            survey.add_table(database, cipher, table, &mut progress).await?;
        }
        Ok(survey)
    }

    /// Returns the values of a key.
    #[must_use]
    pub fn of_key(&self, id: &str) -> KeyValues {
        self.keys.get(&Some(id.to_owned())).cloned().unwrap_or_default()
    }

    async fn add_table(
        &mut self,
        database: &dyn Transfer,
        cipher: &Cipher,
        table: Table,
        progress: &mut (dyn FnMut(TableProgress) + Send),
    ) -> Result<()> {
        let source = database.count(table).await?;
        let (mut last, mut read): (Option<RowKey>, u64) = (None, 0);
        loop {
            progress(TableProgress { table, source, read });
            let rows = database.export(table, last.as_ref(), PAGE).await?;
            let Some(end) = rows.last() else { return Ok(()) };
            last = Some(end.key());
            read += rows.len() as u64;
            for row in &rows {
                self.add_row(cipher, row);
            }
        }
    }

    fn add_row(&mut self, cipher: &Cipher, row: &Record) {
        let (table, key) = (row.table().name(), row.key().to_string());
        let mut counted = Vec::new();
        for (column, value) in row.sealed() {
            let id = Cipher::key_id(value).ok().map(str::to_owned);
            let values = self.keys.entry(id.clone()).or_default();
            values.values += 1;
            match cipher.open(&[table, column, &key], value) {
                Ok(_) => values.opened += 1,
                Err(reason) => {
                    if values.closed.len() < NAMED {
                        values.closed.push(format!("{table}.{column} of row {key}"));
                    }
                    values.reason.get_or_insert(reason);
                }
            }
            if !counted.contains(&id) {
                values.rows += 1;
                counted.push(id);
            }
        }
    }
}
