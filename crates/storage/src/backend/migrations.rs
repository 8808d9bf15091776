//! Comparison of a database's schema with the schema that this build needs.

use std::collections::BTreeMap;

use sqlx::{
    Error,
    migrate::{MigrateError, Migrator},
};

use crate::{Result, StorageError};

/// Result of a migration run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationReport {
    /// Migrations that this call applied, in order; empty when the schema was up to date.
    pub applied: Vec<i64>,
    /// Last migration of the schema as it is now.
    pub version: i64,
}

/// Versions and checksums of the migrations that a database has.
#[derive(Debug, Default)]
pub struct Applied(pub BTreeMap<i64, Vec<u8>>);

impl Applied {
    /// Returns the migrations that have been applied since an earlier state.
    #[must_use]
    pub fn since(self, before: &Self) -> MigrationReport {
        let version = self.0.keys().next_back().copied().unwrap_or(0);
        let applied = self.0.into_keys().filter(|version| !before.0.contains_key(version)).collect();
        MigrationReport { applied, version }
    }

    /// Checks that the applied migrations are exactly the given ones.
    pub fn compare(&self, migrations: &Migrator) -> Result<()> {
        let applied = &self.0;
        let known: BTreeMap<i64, &[u8]> =
            migrations.iter().map(|m| (m.version, m.checksum.as_ref())).collect();
        let pending: Vec<_> = known.keys().filter(|version| !applied.contains_key(version)).collect();
        let unknown = applied.keys().find(|version| !known.contains_key(version));
        let changed = applied
            .iter()
            .find(|(version, sum)| known.get(version).is_some_and(|ours| ours != &sum.as_slice()));
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
}

fn newer(version: i64) -> String {
    format!("it has migration {version}, which this build does not know; run the newer build that applied it")
}

fn edited(version: i64) -> String {
    format!(
        "migration {version} was applied in another wording than this build has; run the build that applied it"
    )
}

/// Translates the migrator's error.
#[must_use]
pub fn refused(
    during: &'static str,
    error: MigrateError,
    translate: fn(&'static str, &Error) -> StorageError,
) -> StorageError {
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
