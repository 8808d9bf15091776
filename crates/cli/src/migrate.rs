use std::process::ExitCode;

use anyhow::{Context, ensure};
use larkauth_config::{DatabaseUrl, Settings};
use larkauth_models::SecretString;
use larkauth_runtime::{AnyStore, Database, no_cipher};
use larkauth_storage::{TableProgress, transfer};

use crate::report;

/// Bring the database's schema up to date, or move everything to another database
///
/// Without --from: the schema of DATABASE_URL, or of the data folder. With --from: copies applications, sessions, tokens,
/// profiles and API keys. Stop all services first. Stopped half-way and started again, it goes on where it was. Secrets
/// stay sealed: the target needs the same ENCRYPTION_KEYS.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth migrate\n  larkauth migrate --from sqlite:data/larkauth.db --to postgres://larkauth@db/larkauth\n  DATABASE_URL_FILE=/run/secrets/database larkauth migrate --from sqlite:data/larkauth.db"
)]
pub(crate) struct Arguments {
    /// Copy everything from this database (`sqlite:…` or `postgres://…`)
    #[arg(long, value_name = "URL")]
    from: Option<SecretString>,
    /// Copy it to this one; DATABASE_URL by default, which is the place for an address with a password
    #[arg(long, value_name = "URL", requires = "from")]
    to: Option<SecretString>,
}

/// Services never migrate a shared database by themselves: a schema changes when an operator says so.
pub(crate) async fn run(arguments: Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let target = match &arguments.to {
        Some(url) => Database::from(&DatabaseUrl::parse(url)?),
        None if arguments.from.is_some() => Database::from(settings.database.required_url()?),
        None => Database::of(settings)?,
    };
    // A data folder begins with `larkauth standalone`, which makes its keys first.
    let target = target.open(settings, arguments.to.is_some(), no_cipher()?).await.context("the target")?;
    migrate(&target).await?;
    if let Some(url) = &arguments.from {
        let source = Database::from(&DatabaseUrl::parse(url)?).open(settings, false, no_cipher()?).await;
        let source = source.context("the source")?;
        source.check_schema().await.context("the source; migrate it first")?;
        copy(&source, &target).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn migrate(store: &AnyStore) -> anyhow::Result<()> {
    let migrated = store.migrate().await?;
    for version in &migrated.applied {
        report::done("applied", &format!("migration {version}"));
    }
    report::done("the schema is up to date", &format!("version {}", migrated.version));
    Ok(())
}

async fn copy(source: &AnyStore, target: &AnyStore) -> anyhow::Result<()> {
    let mut bar = report::Progress::new();
    let copied = transfer(source.portable(), target.portable(), |now: TableProgress| {
        bar.show(now.table.name(), now.read, now.source);
    })
    .await;
    bar.finish();
    let copied = copied?;
    for table in &copied {
        let detail = format!("{} rows, {} of them new", table.source, table.inserted);
        report::done(table.table.name(), &detail);
    }
    for table in &copied {
        ensure!(
            table.is_complete(),
            "{}: the source has {} rows and the target {}; was something still writing? Stop all services and run this again",
            table.table,
            table.source,
            table.target
        );
    }
    report::done("everything is there", "point DATABASE_URL at the target, with the same ENCRYPTION_KEYS");
    Ok(())
}
