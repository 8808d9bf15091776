//! `larkauth migrate`: a schema brought up to date, or everything moved to another database.

mod moving;
mod schema;
mod summary;

use std::process::ExitCode;

use larkauth_config::{DatabaseUrl, Settings};
use larkauth_models::SecretString;
use larkauth_runtime::Database;

use self::summary::Summary;
use crate::{exit::CommandError, globals::data_folder_exists, report};

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
        data_folder_exists(settings)?;
        let (_, migrated) = schema::migrate(&Database::of(settings)?, settings).await?;
        report::result(&Summary::of(&migrated), || {});
        return Ok(ExitCode::SUCCESS);
    };
    let from = DatabaseUrl::parse("--from", from)?;
    let to = match (&arguments.to, &settings.database.url) {
        (Some(url), _) => DatabaseUrl::parse("--to", url)?,
        (None, Some(url)) => url.clone(),
        (None, None) => {
            let message = "where to is not said; give --to, or set DATABASE_URL".to_owned();
            return Err(CommandError::Usage(message).into());
        }
    };
    moving::run(&Database::from(&from), &Database::from(&to), settings).await
}
