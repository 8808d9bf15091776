use std::time::Duration;

use larkauth_models::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

use super::error::translate;
use crate::{Result, StorageError, driver::too_late};

const DEADLINE: Duration = Duration::from_secs(10);

/// A schema of its own inside a database, for a demonstration that must leave no trace.
#[derive(Debug)]
pub struct ScratchSchema {
    database: SecretString,
    name: String,
}

impl ScratchSchema {
    /// Makes an empty schema; `name` has only lower-case letters, digits and `_`.
    ///
    /// # Errors
    /// When the database does not answer or does not allow it.
    pub async fn create(database: SecretString, name: &str) -> Result<Self> {
        let schema = Self { database, name: name.to_owned() };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            return Err(StorageError::Refused {
                during: "naming a schema",
                message: "not a plain name".to_owned(),
            });
        }
        schema.run("creating a schema", format!("create schema {name}")).await?;
        Ok(schema)
    }

    /// The database's address, with this schema as the only one that is looked at.
    #[must_use]
    pub fn url(&self) -> SecretString {
        let url = self.database.expose_secret();
        let separator = if url.contains('?') { '&' } else { '?' };
        SecretString::from(format!("{url}{separator}options[search_path]={}", self.name))
    }

    /// Drops it with everything in it.
    ///
    /// # Errors
    /// When the database does not answer or does not allow it.
    pub async fn remove(self) -> Result<()> {
        self.run("dropping a schema", format!("drop schema {} cascade", self.name)).await
    }

    async fn run(&self, during: &'static str, statement: String) -> Result<()> {
        let work = async {
            let options: PgConnectOptions = self.database.expose_secret().parse()?;
            let mut connection: PgConnection = options.disable_statement_logging().connect().await?;
            connection.execute(AssertSqlSafe(statement)).await?;
            connection.close().await
        };
        timeout(DEADLINE, work)
            .await
            .map_err(|_| too_late(during, DEADLINE))?
            .map_err(|error| translate(during, &error))
    }
}
