use std::time::Duration;

use sqlx::{ConnectOptions, Connection, SqliteConnection, migrate::Migrator, query_as, query_scalar};
use tokio::time::timeout;

use super::{BEGIN_WRITING, SqliteStore, error::translate};
use crate::{
    MigrationReport, Result, driver,
    migrations::{self, Applied},
};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// Long enough to rebuild a large table, short enough to notice that nothing moves.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(15 * 60);

impl SqliteStore {
    /// Brings the schema up to date, altogether or not at all. Several processes may do so at once: one does, the others
    /// wait for it.
    ///
    /// # Errors
    /// When the file was migrated by a newer build, a migration was changed after it had been applied, SQLite refuses,
    /// or it all takes longer than 15 minutes.
    pub async fn migrate(&self) -> Result<MigrationReport> {
        const DURING: &str = "migrating";
        let work = async {
            // A connection of its own, without the deadline of ordinary statements.
            let options = self.writer.connect_options().as_ref().clone().busy_timeout(MIGRATION_DEADLINE);
            let mut connection = options.connect().await?;
            let mut tx = connection.begin_with(BEGIN_WRITING).await?;
            let before = applied(&mut tx).await?;
            MIGRATIONS.run_direct(None, &mut *tx, false).await?;
            let after = applied(&mut tx).await?;
            tx.commit().await?;
            connection.close().await?;
            Ok(after.since(&before))
        };
        match timeout(MIGRATION_DEADLINE, work).await {
            Ok(result) => result.map_err(|error| migrations::refused(DURING, error, translate)),
            Err(_) => Err(driver::too_late(DURING, MIGRATION_DEADLINE)),
        }
    }

    /// Whether the schema is exactly the one that this build was made for. Changes nothing.
    ///
    /// # Errors
    /// [`StorageError::Schema`](crate::StorageError::Schema) when it is not, with what to do about it.
    pub async fn check_schema(&self) -> Result<()> {
        self.read("checking the schema", async |db| applied(db).await).await?.compare(&MIGRATIONS)
    }
}

async fn applied(db: &mut SqliteConnection) -> sqlx::Result<Applied> {
    // The table is the migrator's and comes into being with its first run.
    let exists: bool =
        query_scalar("select exists(select 1 from sqlite_schema where name = '_sqlx_migrations')")
            .fetch_one(&mut *db)
            .await?;
    if !exists {
        return Ok(Applied::default());
    }
    let rows: Vec<(i64, Vec<u8>)> =
        query_as("select version, checksum from _sqlx_migrations where success").fetch_all(db).await?;
    Ok(Applied(rows.into_iter().collect()))
}
