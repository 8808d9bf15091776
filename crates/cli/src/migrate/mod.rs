//! `larkauth migrate`: brings the schema up to date, or copies all rows to another database.

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
/// Without --from: updates the schema of DATABASE_URL or, without that setting, of the data folder; a missing SQLite
/// file is created. With --from: copies applications, sessions, tokens, profiles and API keys, then compares both
/// databases row by row. Stop all services first. Rows that the target already has are not changed, so an interrupted
/// copy can be started again. Secrets stay sealed: the target needs the same ENCRYPTION_KEYS, which is checked before
/// anything is copied. A target that is the source is refused, also under another address.
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

/// Runs the command. Services never migrate a shared database: only this command changes its schema.
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
