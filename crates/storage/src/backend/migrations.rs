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

/// Start of the description of a migration that takes away what the release before it uses. A description is the name of the
/// file without its number.
const CONTRACT: &str = "contract";

/// A migration as the database has it on record.
#[derive(Debug)]
pub struct Recorded {
    /// Digest of the statements.
    pub checksum: Vec<u8>,
    /// The file's name without its number.
    pub description: String,
}

/// The migrations that a database has, by version.
#[derive(Debug, Default)]
pub struct Applied(pub BTreeMap<i64, Recorded>);

impl Applied {
    /// Returns the migrations that have been applied since an earlier state.
    #[must_use]
    pub fn since(self, before: &Self) -> MigrationReport {
        let version = self.0.keys().next_back().copied().unwrap_or(0);
        let applied = self.0.into_keys().filter(|version| !before.0.contains_key(version)).collect();
        MigrationReport { applied, version }
    }

    /// Returns the applied migrations of a newer release, beside which this build works.
    ///
    /// # Errors
    /// When one of them contracts the schema, when a migration was edited after it had been applied.
    pub fn newer(&self, migrations: &Migrator) -> Result<Vec<i64>> {
        let known: BTreeMap<i64, &[u8]> =
            migrations.iter().map(|m| (m.version, m.checksum.as_ref())).collect();
        let mut newer = Vec::new();
        for (version, recorded) in &self.0 {
            match known.get(version) {
                Some(checksum) if *checksum != recorded.checksum => {
                    return Err(StorageError::Schema(edited(*version)));
                }
                Some(_) => {}
                None if recorded.description.starts_with(CONTRACT) => {
                    return Err(StorageError::Schema(contracted(*version)));
                }
                None => newer.push(*version),
            }
        }
        Ok(newer)
    }

    /// Checks that all given migrations have been applied. Returns those of a newer release as [`newer`](Self::newer) does.
    ///
    /// # Errors
    /// As [`newer`](Self::newer), and when a migration has not been applied.
    pub fn compare(&self, migrations: &Migrator) -> Result<Vec<i64>> {
        let newer = self.newer(migrations)?;
        let known = migrations.iter().map(|known| known.version);
        let pending: Vec<_> = known.filter(|version| !self.0.contains_key(version)).collect();
        if pending.is_empty() {
            return Ok(newer);
        }
        let message = format!("migrations {pending:?} have not been applied; run `larkauth migrate`");
        Err(StorageError::Schema(message))
    }
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
        MigrateError::VersionMismatch(version) => StorageError::Schema(edited(version)),
        other => StorageError::Schema(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The last migration before the rule.
    const BEFORE_THE_RULE: i64 = 22;

    /// Returns what the previous release could miss after these statements.
    fn removed(statements: &str) -> Vec<String> {
        const REMOVALS: [&str; 6] =
            ["drop column", "rename column", "drop table", "rename to", "set not null", "drop default"];
        let code: Vec<_> =
            statements.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        let code = code.join(" ").to_lowercase();
        // SQLite changes a check by a new table that takes the name of the old one.
        let is_replacement = |statement: &str| {
            let table = statement.split_whitespace().next_back().unwrap_or_default();
            ["drop table", "rename to"].iter().all(|part| code.contains(&format!("{part} {table};")))
        };
        code.split(';')
            .filter(|statement| REMOVALS.iter().any(|removal| statement.contains(removal)))
            .filter(|statement| !is_replacement(statement))
            .map(|statement| statement.trim().to_owned())
            .collect()
    }

    #[test]
    fn migration_that_removes_something_is_named_contract() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        let mut seen = 0;
        for database in ["postgres", "sqlite"] {
            for entry in fs::read_dir(folder.join(database)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap();
                let (version, description) = name.split_once('_').unwrap();
                seen += 1;
                if version.parse::<i64>().unwrap() <= BEFORE_THE_RULE || description.starts_with(CONTRACT) {
                    continue;
                }
                let removed = removed(&fs::read_to_string(&path).unwrap());
                assert!(
                    removed.is_empty(),
                    "{name}: name it {version}_{CONTRACT}_…, or expand only: {removed:?}"
                );
            }
        }
        assert!(seen > 40, "{seen}");
    }

    #[test]
    fn removed_lists_statements_that_take_something_away() {
        assert!(
            removed("alter table a add column b text; -- drop column c\ncreate index i on a (b)").is_empty()
        );
        assert_eq!(removed("alter table a\n  drop column b"), ["alter table a   drop column b"]);
        assert_eq!(removed("create table t (x int); drop table a;"), ["drop table a"]);
        assert!(removed("create table b (x int); drop table a; alter table b rename to a;").is_empty());
    }
}
