//! What every command has: settings, an output format, and the context of its operations.

use std::{path::PathBuf, sync::Arc};

use larkauth_auth::Context;
use larkauth_config::{ConfigError, LoadOptions, Service, Settings};
use larkauth_models::{Actor, AppId, SystemClock};
use larkauth_runtime::DataDir;
use larkauth_telemetry::{LogFormat, Metrics, TelemetryConfig};
use nix::unistd::{Uid, User, gethostname};

use crate::{exit::CommandError, output::Format, report};

/// Options that all commands take.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Globals {
    /// A TOML file with settings; the environment wins over it (see docs/settings.md)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write JSON: a result as one document, steps as one object each
    #[arg(long, global = true)]
    json: bool,
}

impl Globals {
    /// Returns the format of results.
    pub(crate) const fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }

    /// Loads the settings of a command and shows their warnings.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        self.settings_about(None)
    }

    /// As [`Globals::settings`], for a command about this application: an `APP_SECRET` without an `APP_ID` is its
    /// secret.
    pub(crate) fn settings_about(&self, app_id: Option<&AppId>) -> Result<Settings, ConfigError> {
        let mut environment = Settings::environment()?;
        let has = |name: &str| environment.iter().any(|(known, value)| known == name && !value.is_empty());
        if let Some(app_id) = app_id
            && !has("APP_ID")
            && (has("APP_SECRET") || has("APP_SECRET_FILE"))
        {
            environment.push(("APP_ID".to_owned(), app_id.to_string()));
        }
        let settings = Settings::from_pairs(&self.options(), environment)?;
        for warning in &settings.warnings {
            report::warn(warning);
        }
        Ok(settings)
    }

    /// Returns the sources of a command's settings.
    pub(crate) fn options(&self) -> LoadOptions {
        LoadOptions { config_file: self.config.clone(), service: Service::Command }
    }

    /// As [`Globals::connected`], for a command about one application: this one, that of `APP_ID`, or the only
    /// registered one.
    pub(crate) async fn connected_about<T>(
        &self,
        app: Option<&AppId>,
        work: impl AsyncFnOnce(&Context, &AppId) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let settings = self.settings()?;
        let said = app.or(settings.app_id.as_ref()).cloned();
        connected(&settings, async |context| {
            let app_id = match said {
                Some(app_id) => app_id,
                None => only_application(context).await?,
            };
            work(context, &app_id).await
        })
        .await
    }

    /// Runs `work` with all parts connected, then disconnects in order.
    pub(crate) async fn connected<T>(
        &self,
        work: impl AsyncFnOnce(&Context) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        connected(&self.settings()?, work).await
    }
}

/// Returns who runs this command: the account of the process and the host. No environment variable changes it.
pub(crate) fn operator() -> Actor {
    let uid = Uid::current();
    let account = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let host = gethostname().ok().and_then(|host| host.into_string().ok());
    Actor::operator(account.unwrap_or_else(|| format!("uid {uid}")), host)
}

/// Returns the only registered application. Fails when there is none or more than one.
async fn only_application(context: &Context) -> anyhow::Result<AppId> {
    let mut ids =
        context.applications(&operator(), context.now()).await?.into_iter().map(|known| known.app_id);
    match (ids.next(), ids.next()) {
        (Some(app_id), None) => Ok(app_id),
        (None, _) => Err(CommandError::NotFound(
            "no application is registered; set APP_ID and APP_SECRET, or run `larkauth apps add`".to_owned(),
        )
        .into()),
        (Some(_), Some(_)) => Err(CommandError::Usage(
            "several applications are registered; give --app or set APP_ID (`larkauth apps list` shows the ids)"
                .to_owned(),
        )
        .into()),
    }
}

/// Fails when the data folder has no database. Without `DATABASE_URL` everything is in the data folder, which starts
/// with its keys: a database made without them would look like one that has lost them.
pub(crate) fn data_folder_exists(settings: &Settings) -> Result<(), CommandError> {
    let database = DataDir::new(&settings.data_dir).database();
    if settings.database.url.is_some() || database.exists() {
        return Ok(());
    }
    Err(CommandError::Usage(format!(
        "DATABASE_URL is not set, and there is no database at {}; `larkauth standalone` makes it on its first start, or set \
         DATABASE_URL or DATA_DIR",
        database.display()
    )))
}

/// As [`Globals::connected`], with loaded settings.
pub(crate) async fn connected<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Context) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    data_folder_exists(settings)?;
    let telemetry = larkauth_telemetry::init(&quiet(settings))?;
    let result = async {
        let context = larkauth_runtime::connect(settings, Metrics::new()?, Arc::new(SystemClock)).await?;
        let result = work(&context).await;
        context.close().await;
        result
    };
    let result = Box::pin(result).await;
    telemetry.shutdown().await;
    result
}

/// Returns the telemetry of a command: it reports its own steps, so its parts log failures only, unless `RUST_LOG` is
/// set.
pub(crate) fn quiet(settings: &Settings) -> TelemetryConfig {
    let telemetry = settings.telemetry.clone();
    TelemetryConfig {
        log_format: LogFormat::Pretty,
        filter: Some(telemetry.filter.clone().unwrap_or_else(|| "error".to_owned())),
        ..telemetry
    }
}
