use std::time::Duration;

use sqlx::{ConnectOptions, Connection, PgConnection, migrate::Migrator};
use tokio::time::timeout;

use crate::error::translate;
use larkauth_storage::{
    MigrationReport, Result,
    backend::driver::too_late,
    backend::migrations::{self, Applied},
};

use crate::store::PgStore;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// Upper bound of one migration run: enough to rebuild an index of a large table.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(15 * 60);

impl PgStore {
    /// Brings the schema up to date. Of several processes one migrates and the others wait.
    ///
    /// # Errors
    /// Fails when the database was migrated by a newer build, a migration was changed after it had been applied, the
    /// database refuses a statement, or the run takes longer than 15 minutes.
    pub async fn migrate(&self) -> Result<MigrationReport> {
        const DURING: &str = "migrating";
        let work = async {
            // A separate connection without the deadlines of ordinary statements.
            let options = self.pool.connect_options();
            let options = options.as_ref().clone().options([("statement_timeout", 0), ("lock_timeout", 0)]);
            let mut connection = options.connect().await?;
            let before = applied(&mut connection).await?;
            MIGRATIONS.run_direct(None, &mut connection, false).await?;
            let after = applied(&mut connection).await?;
            connection.close().await?;
            Ok(after.since(&before))
        };
        match timeout(MIGRATION_DEADLINE, work).await {
            Ok(result) => result.map_err(|error| migrations::refused(DURING, error, translate)),
            Err(_) => Err(too_late(DURING, MIGRATION_DEADLINE)),
        }
    }

    /// Checks that the schema is the one that this build needs. Changes nothing.
    ///
    /// # Errors
    /// [`StorageError::Schema`](larkauth_storage::StorageError::Schema) when the schema differs, with what to do.
    pub async fn check_schema(&self) -> Result<()> {
        self.call("checking the schema", async |db| applied(db).await).await?.compare(&MIGRATIONS)
    }
}

async fn applied(db: &mut PgConnection) -> sqlx::Result<Applied> {
    // The migrator creates its table in its first run, so these statements cannot be checked at compile time.
    let exists: bool =
        sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(&mut *db).await?;
    if !exists {
        return Ok(Applied::default());
    }
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select version, checksum from _sqlx_migrations where success").fetch_all(db).await?;
    Ok(Applied(rows.into_iter().collect()))
}
