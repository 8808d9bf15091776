//! `larkauth migrate`: a schema brought up to date, or everything moved to another database.

mod moving;

use std::process::ExitCode;

use anyhow::Context;
use larkauth_config::{DatabaseUrl, Settings};
use larkauth_models::SecretString;
use larkauth_runtime::{AnyStore, Database, no_cipher};

use crate::{exit::CommandError, report};

/// Bring the database's schema up to date, or move everything to another database
///
/// Without --from: the schema of DATABASE_URL, whose SQLite file is made if it is not there, or of the data folder. With
/// --from: copies applications, sessions, tokens, profiles and API keys, then compares both sides row by row. Stop all
/// services first. What the target has already is left as it is, so stopped half-way and started again, it goes on where
/// it was. Secrets stay sealed: the target needs the same ENCRYPTION_KEYS, which is checked before anything is copied.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth migrate\n  ENCRYPTION_KEYS_FILE=data/encryption-keys larkauth migrate --from sqlite:data/larkauth.db --to postgres://larkauth@db/larkauth\n  DATABASE_URL_FILE=/run/secrets/database larkauth migrate --from sqlite:data/larkauth.db"
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
    let Some(from) = &arguments.from else {
        let database = Database::of(settings)?;
        in_its_folder(&database, settings)?;
        migrate(&database, settings).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let from = DatabaseUrl::parse(from).context("--from")?;
    let to = match &arguments.to {
        Some(url) => DatabaseUrl::parse(url).context("--to")?,
        None => settings.database.required_url()?.clone(),
    };
    moving::run(&Database::from(&from), &Database::from(&to), settings).await
}

/// A data folder begins with its keys: a database without them would be taken for one that has lost them.
fn in_its_folder(database: &Database, settings: &Settings) -> Result<(), CommandError> {
    match database {
        Database::Sqlite(path) if settings.database.url.is_none() && !path.exists() => {
            Err(CommandError::Usage(format!(
                "DATABASE_URL is not set, and there is no database at {}; `larkauth standalone` makes it on its first \
                 start, or set DATABASE_URL or DATA_DIR",
                path.display()
            )))
        }
        _ => Ok(()),
    }
}

/// Opens it, made if need be, with the schema of this build.
async fn migrate(database: &Database, settings: &Settings) -> anyhow::Result<AnyStore> {
    let store = database.open(settings, true, no_cipher()?).await?;
    let migrated = store.migrate().await?;
    for version in &migrated.applied {
        report::done("applied", &format!("migration {version}"));
    }
    report::done("the schema is up to date", &format!("version {}", migrated.version));
    Ok(store)
}
