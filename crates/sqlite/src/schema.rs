//! Migration of the file's schema, and its comparison with the schema that this build needs.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{
    Connection, SqliteConnection,
    migrate::{MigrateError, Migrator},
    query_as, query_scalar,
    sqlite::SqliteConnectOptions,
};
use tokio::time::timeout;

use crate::{Result, SqliteError, file::connect};

/// Migrations of all tables of the file, those of the store and of the bus.
static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// Start of the description of a migration that takes away what the release before it uses. A description is the name of the
/// file without its number.
const CONTRACT: &str = "contract";

/// Starts a transaction that takes the write lock at once. A transaction that reads first and writes later fails when
/// another writer commits in between.
pub const BEGIN_WRITING: &str = "begin immediate";

/// Upper bound of one migration run: enough to rebuild a large table.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Result of [`migrate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationReport {
    /// Migrations that this call applied, in order; empty when the schema was up to date.
    pub applied: Vec<i64>,
    /// Last migration of the schema as it is now.
    pub version: i64,
}

/// Brings the schema up to date, all migrations or none. Of several processes one migrates and the others wait.
///
/// # Errors
/// [`SqliteError::Schema`] when a newer release has contracted the schema or a migration was changed after it had been
/// applied; SQLite's own errors; [`SqliteError::TimedOut`] after 15 minutes.
pub async fn migrate(options: &SqliteConnectOptions) -> Result<MigrationReport> {
    let work = async {
        // A separate connection without the deadline of ordinary statements.
        let options = options.clone().busy_timeout(MIGRATION_DEADLINE);
        let mut connection = connect(&options, MIGRATION_DEADLINE).await?;
        let mut tx = connection.begin_with(BEGIN_WRITING).await?;
        let before = applied(&mut tx).await?;
        newer(&before)?;
        migrator().run_direct(None, &mut *tx, false).await.map_err(refused)?;
        let after = applied(&mut tx).await?;
        tx.commit().await?;
        connection.close().await?;
        let version = after.keys().next_back().copied().unwrap_or(0);
        let applied = after.into_keys().filter(|version| !before.contains_key(version)).collect();
        Ok(MigrationReport { applied, version })
    };
    timeout(MIGRATION_DEADLINE, work).await.map_err(|_| SqliteError::TimedOut(MIGRATION_DEADLINE))?
}

/// Returns the migrator for a file that [`newer`] has checked.
fn migrator() -> Migrator {
    let mut migrator = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrator.set_ignore_missing(true);
    migrator
}

fn refused(error: MigrateError) -> SqliteError {
    match error {
        MigrateError::Execute(error) => SqliteError::Driver(error),
        MigrateError::ExecuteMigration(source, version) => SqliteError::Migration { version, source },
        MigrateError::VersionMismatch(version) => SqliteError::Schema(edited(version)),
        other => SqliteError::Schema(other.to_string()),
    }
}

/// Checks that the schema has what this build needs. Changes nothing. Returns the migrations of a newer release, beside which
/// this build works.
///
/// # Errors
/// [`SqliteError::Schema`] when the schema differs, with what to do; SQLite's own errors.
pub async fn check_schema(db: &mut SqliteConnection) -> Result<Vec<i64>> {
    let applied = applied(db).await?;
    let newer = newer(&applied)?;
    let known = MIGRATIONS.iter().map(|known| known.version);
    let pending: Vec<_> = known.filter(|version| !applied.contains_key(version)).collect();
    if pending.is_empty() {
        return Ok(newer);
    }
    let pending = format!("migrations {pending:?} have not been applied; run `larkauth migrate`");
    Err(SqliteError::Schema(if applied.is_empty() {
        format!(
            "nothing of larkauth is in the file: if it held data, restore a backup. For a new installation, {pending}"
        )
    } else {
        pending
    }))
}

/// Returns the last applied migration, 0 without any.
pub(crate) async fn version(db: &mut SqliteConnection) -> sqlx::Result<i64> {
    Ok(applied(db).await?.into_keys().next_back().unwrap_or(0))
}

/// Returns the applied migrations of a newer release. Fails when one of them contracts the schema, or when a migration was
/// edited.
fn newer(applied: &BTreeMap<i64, Recorded>) -> Result<Vec<i64>> {
    let mut newer = Vec::new();
    for (version, recorded) in applied {
        match MIGRATIONS.iter().find(|known| known.version == *version) {
            Some(known) if known.checksum.as_ref() != recorded.checksum.as_slice() => {
                return Err(SqliteError::Schema(edited(*version)));
            }
            Some(_) => {}
            None if recorded.description.starts_with(CONTRACT) => {
                return Err(SqliteError::Schema(contracted(*version)));
            }
            None => newer.push(*version),
        }
    }
    Ok(newer)
}

fn contracted(version: i64) -> String {
    format!(
        "migration {version} of a newer release has removed what this build needs; run the build that applied it"
    )
}

fn edited(version: i64) -> String {
    format!(
        "migration {version} was applied in another wording than this build has; run the build that applied it"
    )
}

/// A migration as the file has it on record.
struct Recorded {
    checksum: Vec<u8>,
    /// The file's name without its number.
    description: String,
}

/// Returns the applied migrations by version.
async fn applied(db: &mut SqliteConnection) -> sqlx::Result<BTreeMap<i64, Recorded>> {
    // The migrator creates its table in its first run.
    let exists: bool =
        query_scalar("select exists(select 1 from sqlite_schema where name = '_sqlx_migrations')")
            .fetch_one(&mut *db)
            .await?;
    if !exists {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(i64, Vec<u8>, String)> =
        query_as("select version, checksum, description from _sqlx_migrations where success")
            .fetch_all(db)
            .await?;
    let recorded = |(version, checksum, description)| (version, Recorded { checksum, description });
    Ok(rows.into_iter().map(recorded).collect())
}
