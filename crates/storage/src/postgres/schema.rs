use std::{collections::BTreeMap, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection,
    migrate::{MigrateError, Migrator},
};
use tokio::time::timeout;

use super::{
    PgStore,
    error::{too_late, translate},
};
use crate::{Result, StorageError};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// Long enough to rebuild an index of a large table, short enough to notice that nothing moves.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// What [`PgStore::migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationReport {
    /// The migrations that this call applied, in their order; none when the schema was up to date.
    pub applied: Vec<i64>,
    /// The last migration of the schema as it is now.
    pub version: i64,
}

impl PgStore {
    /// Brings the schema up to date. Several processes may do so at once: one does, the others wait for it.
    ///
    /// # Errors
    /// When the database was migrated by a newer build, a migration was changed after it had been applied, the database
    /// refuses, or it all takes longer than 15 minutes.
    pub async fn migrate(&self) -> Result<MigrationReport> {
        const DURING: &str = "migrating";
        let work = async {
            // A connection of its own, without the deadlines of ordinary statements.
            let options = self.pool.connect_options();
            let options = options.as_ref().clone().options([("statement_timeout", 0), ("lock_timeout", 0)]);
            let mut connection = options.connect().await?;
            let before = applied(&mut connection).await?;
            MIGRATIONS.run_direct(None, &mut connection, false).await?;
            let after = applied(&mut connection).await?;
            connection.close().await?;
            let version = after.keys().next_back().copied().unwrap_or(0);
            let applied = after.into_keys().filter(|version| !before.contains_key(version)).collect();
            Ok(MigrationReport { applied, version })
        };
        match timeout(MIGRATION_DEADLINE, work).await {
            Ok(result) => result.map_err(|error| refused_migration(DURING, error)),
            Err(_) => Err(too_late(DURING, MIGRATION_DEADLINE)),
        }
    }

    /// Whether the schema is exactly the one that this build was made for. Changes nothing.
    ///
    /// # Errors
    /// [`StorageError::Schema`] when it is not, with what to do about it.
    pub async fn check_schema(&self) -> Result<()> {
        let applied = self.call("checking the schema", async |db| applied(db).await).await?;
        compare(&applied)
    }
}

/// Versions and checksums of what the database has.
async fn applied(db: &mut PgConnection) -> sqlx::Result<BTreeMap<i64, Vec<u8>>> {
    // The table is the migrator's and comes into being with its first run, so these cannot be checked at compile time.
    let exists: bool =
        sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(&mut *db).await?;
    if !exists {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select version, checksum from _sqlx_migrations where success").fetch_all(db).await?;
    Ok(rows.into_iter().collect())
}

fn compare(applied: &BTreeMap<i64, Vec<u8>>) -> Result<()> {
    let known: BTreeMap<i64, &[u8]> = MIGRATIONS.iter().map(|m| (m.version, m.checksum.as_ref())).collect();
    let pending: Vec<_> = known.keys().filter(|version| !applied.contains_key(version)).collect();
    let unknown = applied.keys().find(|version| !known.contains_key(version));
    let changed =
        applied.iter().find(|(version, sum)| known.get(version).is_some_and(|ours| ours != &sum.as_slice()));
    if let Some(version) = unknown {
        return Err(StorageError::Schema(newer(*version)));
    }
    if let Some((version, _)) = changed {
        return Err(StorageError::Schema(edited(*version)));
    }
    if !pending.is_empty() {
        let message = format!("migrations {pending:?} have not been applied; run `larkauth migrate`");
        return Err(StorageError::Schema(message));
    }
    Ok(())
}

fn newer(version: i64) -> String {
    format!("it has migration {version}, which this build does not know; run the newer build that applied it")
}

fn edited(version: i64) -> String {
    format!(
        "migration {version} was applied in another wording than this build has; run the build that applied it"
    )
}

fn refused_migration(during: &'static str, error: MigrateError) -> StorageError {
    match error {
        MigrateError::Execute(error) => translate(during, &error),
        MigrateError::ExecuteMigration(error, version) => match translate(during, &error) {
            StorageError::Refused { message, .. } => {
                StorageError::Refused { during, message: format!("migration {version}: {message}") }
            }
            other => other,
        },
        MigrateError::VersionMissing(version) => StorageError::Schema(newer(version)),
        MigrateError::VersionMismatch(version) => StorageError::Schema(edited(version)),
        other => StorageError::Schema(other.to_string()),
    }
}
