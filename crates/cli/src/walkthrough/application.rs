//! The application, and its check with Lark.

use anyhow::bail;
use larkauth_auth::LarkSettings;
use larkauth_config::Settings;
use larkauth_lark::{
    ErrorKind, LarkClient,
    long_connection::{ConnectError, discover},
};
use larkauth_models::{AppId, Application, SecretString};

use super::arguments::Arguments;
use crate::{
    doctor::{client, page},
    exit::CommandError,
    prompt, report,
};

/// Id and secret of the application.
pub(super) struct Chosen {
    pub(super) app_id: AppId,
    pub(super) secret: SecretString,
}

impl Chosen {
    /// Reads them from the arguments, the settings, or the person at the terminal.
    pub(super) fn ask(arguments: &Arguments, settings: &Settings) -> anyhow::Result<Self> {
        let set = settings.application.as_ref();
        let app_id = match arguments.app.as_ref().or(settings.app_id.as_ref()) {
            Some(app_id) => app_id.clone(),
            None => {
                report::say("  Both are in the developer console, under Credentials & Basic Info.");
                let typed = prompt::line("  App id (cli_…)")?;
                AppId::new(typed).map_err(|error| CommandError::Usage(error.to_string()))?
            }
        };
        let secret = match (&arguments.secret_file, set.filter(|app| app.app_id == app_id)) {
            (Some(path), _) => prompt::secret_file(path)?,
            (None, Some(app)) => app.app_secret.clone(),
            (None, None) => prompt::secret("  App secret")?,
        };
        report::done("the id has the right form", app_id.as_str());
        Ok(Self { app_id, secret })
    }
}

/// Asks Lark for the application's own token and for the address of its long connection.
pub(super) async fn check(lark: &LarkSettings, app: &Application) -> anyhow::Result<LarkClient> {
    let endpoints = lark.endpoints(app.brand);
    let client = client(lark, app);
    if let Err(error) = client.tenant_access_token().await {
        if error.kind == ErrorKind::App {
            bail!(
                "{error}; check that the application is one of {} (--brand), and see {}",
                app.brand,
                page::CREDENTIALS
            );
        }
        bail!(
            "{error}; check that {} is reachable from here, and see {}",
            endpoints.base_url,
            page::THIS_SIDE
        );
    }
    report::done("Lark accepts id and secret", &format!("brand {}", app.brand));
    match discover(&lark.http, &endpoints.base_url, &app.app_id, &app.app_secret).await {
        Ok(()) => report::done("Lark offers a long connection", ""),
        Err(error @ ConnectError::Rejected { .. }) => bail!("{error}; see {}", page::LONG_CONNECTION),
        Err(error) => bail!("{error}; try again in a minute"),
    }
    Ok(client)
}
