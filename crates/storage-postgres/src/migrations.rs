use std::time::Duration;

use sqlx::{ConnectOptions, Connection, PgConnection, migrate::Migrator};
use tokio::time::timeout;

use crate::error::translate;
use larkauth_storage::{
    MigrationReport, Result,
    backend::driver::too_late,
    backend::migrations::{self, Applied, Recorded},
};

use crate::store::PgStore;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// Upper bound of one migration run: enough to rebuild an index of a large table.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Begins a transaction without deadlines in the server.
const BEGIN: &str = "begin; set local statement_timeout = 0; set local lock_timeout = 0; \
                     set local idle_in_transaction_session_timeout = 0";
/// Key of the advisory lock of migrating processes; any number that no other program uses in this database.
const LOCK: i64 = 0x6c61_726b_6d69_6772;

/// Returns the migrator without a lock of its own, which would belong to a session. Migrations of a newer release are checked
/// by [`Applied::newer`] before it runs.
fn migrator() -> Migrator {
    let mut migrator = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrator.set_locking(false).set_ignore_missing(true);
    migrator
}

impl PgStore {
    /// Brings the schema up to date, in one transaction. Of several processes one migrates and the others wait.
    ///
    /// # Errors
    /// Fails when a newer release has contracted the schema, a migration was changed after it had been applied, the database
    /// refuses a statement, or the run takes longer than 15 minutes.
    pub async fn migrate(&self) -> Result<MigrationReport> {
        const DURING: &str = "migrating";
        let work = async {
            // A separate connection without the deadlines of ordinary statements. One transaction, because a pooler keeps
            // neither the lock nor a setting any longer.
            let mut connection = self.pool.connect_options().connect().await?;
            let mut tx = connection.begin_with(BEGIN).await?;
            sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
            let before = applied(&mut tx).await?;
            if let Err(refused) = before.newer(&MIGRATIONS) {
                return Ok(Err(refused));
            }
            migrator().run_direct(None, &mut *tx, false).await?;
            let after = applied(&mut tx).await?;
            tx.clear_cached_statements().await?;
            tx.commit().await?;
            connection.close().await?;
            Ok(Ok(after.since(&before)))
        };
        match timeout(MIGRATION_DEADLINE, work).await {
            Ok(result) => result.map_err(|error| migrations::refused(DURING, error, translate))?,
            Err(_) => Err(too_late(DURING, MIGRATION_DEADLINE)),
        }
    }

    /// Checks that the schema has what this build needs. Changes nothing. Returns the migrations of a newer release.
    ///
    /// # Errors
    /// [`StorageError::Schema`](larkauth_storage::StorageError::Schema) when the schema differs, with what to do.
    pub async fn check_schema(&self) -> Result<Vec<i64>> {
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
    let rows: Vec<(i64, Vec<u8>, String)> =
        sqlx::query_as("select version, checksum, description from _sqlx_migrations where success")
            .fetch_all(db)
            .await?;
    let recorded = |(version, checksum, description)| (version, Recorded { checksum, description });
    Ok(Applied(rows.into_iter().map(recorded).collect()))
}
