use larkauth_config::Settings;
use larkauth_runtime::{AnyStore, Database, no_cipher};
use larkauth_storage::MigrationReport;

use crate::report;

/// Opens the database, creates a missing SQLite file, and brings the schema up to date.
pub(super) async fn migrate(
    database: &Database,
    settings: &Settings,
) -> anyhow::Result<(AnyStore, MigrationReport)> {
    let store = database.open(settings, true, no_cipher()?).await?;
    let migrated = store.migrate().await?;
    for version in &migrated.applied {
        report::done("applied", &format!("migration {version}"));
    }
    report::done("the schema is up to date", &format!("version {}", migrated.version));
    Ok((store, migrated))
}
