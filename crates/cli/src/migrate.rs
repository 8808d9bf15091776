use std::process::ExitCode;

use larkauth_config::Settings;

use crate::report;

/// Applies what is missing. Services never migrate by themselves: a schema changes when an operator says so.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let store = larkauth_runtime::connect_schema(settings).await?;
    let migrated = store.migrate().await?;
    for version in &migrated.applied {
        report::done("applied", &format!("migration {version}"));
    }
    report::done("the database is up to date", &format!("version {}", migrated.version));
    Ok(ExitCode::SUCCESS)
}
