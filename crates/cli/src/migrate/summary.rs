use larkauth_storage::MigrationReport;
use serde::Serialize;

/// Result of a migration, as `--json` prints it.
#[derive(Serialize)]
pub(super) struct Summary {
    pub(super) schema_version: i64,
    pub(super) migrations_applied: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tables: Vec<Moved>,
}

/// Numbers of rows of one transferred table.
#[derive(Serialize)]
pub(super) struct Moved {
    pub(super) table: &'static str,
    pub(super) rows: u64,
    pub(super) inserted: u64,
    pub(super) missing: u64,
    pub(super) differing: u64,
}

impl Summary {
    pub(super) fn of(migrated: &MigrationReport) -> Self {
        Self {
            schema_version: migrated.version,
            migrations_applied: migrated.applied.len(),
            tables: Vec::new(),
        }
    }
}
