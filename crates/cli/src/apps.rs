//! `larkauth apps`: the applications that larkauth serves.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use larkauth_auth::{AuthError, Context, Policy};
use larkauth_config::Settings;
use larkauth_models::{AppId, Application, Brand, ExposeSecret, SecretString, Timestamp, TokenApi};
use serde::Serialize;
use url::Url;

use crate::{
    doctor,
    exit::CommandError,
    globals::{Globals, connected, operator},
    output::{Format, or_dash, time},
    prompt, report,
};

/// Register, list and switch applications
#[derive(Debug, Subcommand)]
pub(crate) enum Apps {
    Add(Add),
    /// List the registered applications
    #[command(after_help = "Example:\n  larkauth apps list --json")]
    List,
    /// Show one application, without its secrets
    #[command(after_help = "Example:\n  larkauth apps show cli_0123456789abcdef")]
    Show {
        /// The application
        app_id: AppId,
    },
    /// Stop serving an application: no invitations, no tokens; what is stored stays
    #[command(after_help = "Example:\n  larkauth apps disable cli_0123456789abcdef")]
    Disable {
        /// The application
        app_id: AppId,
    },
    /// Serve an application again
    #[command(after_help = "Example:\n  larkauth apps enable cli_0123456789abcdef")]
    Enable {
        /// The application
        app_id: AppId,
    },
}

/// Register an application, or change a registered one
///
/// The secret comes from --secret-file, from APP_SECRET, or is asked for; never from an argument, which other users of
/// the machine could see. What is not given keeps its registered value, or the setting's (docs/settings.md) when the
/// application is new.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth apps add cli_0123456789abcdef\n  larkauth apps add cli_0123456789abcdef --secret-file /run/secrets/app --redirect-uri https://auth.example.com/oauth/callback"
)]
pub(crate) struct Add {
    /// The application's id, as the developer console shows it
    app_id: AppId,
    /// A file that holds the secret; `-` for standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// A file that holds the verification token, for HTTP callbacks
    #[arg(long, value_name = "FILE")]
    verification_token_file: Option<PathBuf>,
    /// A file that holds the encrypt key, for HTTP callbacks
    #[arg(long, value_name = "FILE")]
    encrypt_key_file: Option<PathBuf>,
    /// The cloud of the application: `feishu` or `lark`
    #[arg(long)]
    brand: Option<Brand>,
    /// Where the browser comes back to; must be registered in the developer console
    #[arg(long, value_name = "URI")]
    redirect_uri: Option<Url>,
    /// Scopes to ask for when an invitation names none; separated by spaces, or given more than once
    #[arg(long, value_name = "SCOPE", value_delimiter = ' ')]
    scopes: Vec<String>,
    /// The token endpoint it uses: `v2` or `v1`
    #[arg(long, value_name = "VERSION")]
    token_api: Option<TokenApi>,
}

/// An application without its secrets.
#[derive(Serialize)]
struct AppView {
    app_id: AppId,
    brand: Brand,
    token_api: TokenApi,
    redirect_uri: Url,
    default_scopes: Vec<String>,
    enabled: bool,
    has_verification_token: bool,
    has_encrypt_key: bool,
    frozen_since: Option<Timestamp>,
    frozen_reason: Option<String>,
}

impl From<Application> for AppView {
    fn from(app: Application) -> Self {
        Self {
            app_id: app.app_id,
            brand: app.brand,
            token_api: app.token_api,
            redirect_uri: app.redirect_uri,
            default_scopes: app.default_scopes,
            enabled: app.enabled,
            has_verification_token: app.verification_token.is_some(),
            has_encrypt_key: app.encrypt_key.is_some(),
            frozen_since: app.frozen_since,
            frozen_reason: app.frozen_reason,
        }
    }
}

impl AppView {
    fn state(&self) -> &'static str {
        match (self.enabled, self.frozen_since) {
            (false, _) => "disabled",
            (true, Some(_)) => "refused by Lark",
            (true, None) => "enabled",
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.app_id.to_string(),
            self.brand.to_string(),
            self.state().to_owned(),
            self.default_scopes.join(" "),
            self.redirect_uri.to_string(),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let known = |there: bool| if there { "stored, not shown" } else { "-" }.to_owned();
        let mut fields = vec![
            ("app_id", self.app_id.to_string()),
            ("state", self.state().to_owned()),
            ("brand", self.brand.to_string()),
            ("token_api", self.token_api.to_string()),
            ("redirect_uri", self.redirect_uri.to_string()),
            ("default_scopes", self.default_scopes.join(" ")),
            ("app_secret", known(true)),
            ("verification_token", known(self.has_verification_token)),
            ("encrypt_key", known(self.has_encrypt_key)),
        ];
        if let Some(since) = self.frozen_since {
            fields.push(("refused_since", time(since)));
            fields.push(("refused_because", or_dash(self.frozen_reason.as_deref())));
        }
        fields
    }
}

pub(crate) async fn run(command: Apps, globals: &Globals) -> anyhow::Result<ExitCode> {
    let format = globals.format();
    match command {
        Apps::Add(arguments) => {
            let settings = globals.settings_about(Some(&arguments.app_id))?;
            connected(&settings, async |context| arguments.run(context, &settings, format).await).await?;
        }
        Apps::List => globals.connected(async |context| list(context, format).await).await?,
        Apps::Show { app_id } => {
            globals.connected(async |context| show(context, &app_id, format).await).await?;
        }
        Apps::Disable { app_id } => {
            globals.connected(async |context| switch(context, &app_id, false, format).await).await?;
        }
        Apps::Enable { app_id } => {
            globals.connected(async |context| switch(context, &app_id, true, format).await).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context, format: Format) -> anyhow::Result<()> {
    let (mut apps, mut unreadable) = (Vec::new(), Vec::new());
    for listed in context.applications(&operator(), context.now()).await? {
        match listed.application {
            Ok(app) => apps.push(AppView::from(app)),
            Err(error) => unreadable.push(error),
        }
    }
    format.list(&apps, &["APP", "BRAND", "STATE", "SCOPES", "REDIRECT URI"], AppView::row)?;
    for error in unreadable {
        report::warn(&format!("not listed: {error}; or register it again with `larkauth apps add`"));
    }
    Ok(())
}

async fn show(context: &Context, app_id: &AppId, format: Format) -> anyhow::Result<()> {
    let app = context.application(&operator(), context.now(), app_id).await?;
    let app = AppView::from(app.ok_or_else(|| AuthError::AppNotFound(app_id.clone()))?);
    format.one(&app, &app.fields())
}

/// Returns when running processes follow a switch, as their caches say.
fn follows(enabled: bool) -> String {
    let Policy { read_staleness, app_cache_ttl, .. } = Policy::default();
    let (tokens, rest) = (read_staleness.as_secs(), app_cache_ttl.as_secs());
    if enabled {
        format!(
            "tokens are served within {tokens} s; invitations, callbacks and refreshes follow within {rest} s"
        )
    } else {
        format!(
            "tokens are served for {tokens} s more at most; invitations, callbacks and refreshes end within {rest} s"
        )
    }
}

async fn switch(context: &Context, app_id: &AppId, enabled: bool, format: Format) -> anyhow::Result<()> {
    context.set_application_enabled(&operator(), context.now(), app_id, enabled).await?;
    if format == Format::Json {
        return show(context, app_id, format).await;
    }
    let word = if enabled { "enabled" } else { "disabled" };
    report::done(&format!("{app_id} is {word}"), &follows(enabled));
    Ok(())
}

impl Add {
    async fn run(&self, context: &Context, settings: &Settings, format: Format) -> anyhow::Result<()> {
        let actor = operator();
        let known = match context.application(&actor, context.now(), &self.app_id).await {
            Err(AuthError::Storage(error)) if error.is_of_one_row() => {
                report::note(&format!("{error}. The application is registered again; check every value."));
                None
            }
            known => known?,
        };
        let is_new = known.is_none();
        let application = self.application(known, settings)?;
        context.register_application(&actor, context.now(), &application).await?;
        if let Some(finding) = doctor::unencrypted(&application) {
            finding.warn();
        }
        if format == Format::Json {
            return show(context, &self.app_id, format).await;
        }
        let did = if is_new { "is registered" } else { "is changed; every process follows within 10 s" };
        report::done(&format!("{} {did}", self.app_id), &format!("brand {}", application.brand));
        report::say(&format!(
            "  In the developer console, under Security Settings, this must be a redirect URL:\n    {}",
            application.redirect_uri
        ));
        report::say("  `larkauth doctor` checks the rest.");
        Ok(())
    }

    /// Returns the application from the flags, then the settings of this application, then what is registered, then the
    /// defaults.
    fn application(&self, known: Option<Application>, settings: &Settings) -> anyhow::Result<Application> {
        let enabled = known.as_ref().is_none_or(|known| known.enabled);
        let described = settings.application.clone().filter(|app| app.app_id == self.app_id);
        let base = match (described, known) {
            (Some(_), Some(known)) => settings.application_over(known),
            (described, known) => described.or(known),
        };
        let app_secret = match (&self.secret_file, &base) {
            (Some(path), _) => prompt::secret_file(path)?,
            (None, Some(base)) => base.app_secret.clone(),
            (None, None) => prompt::secret(&format!("App secret of {}", self.app_id))?,
        };
        let base = base.unwrap_or_else(|| Application {
            app_id: self.app_id.clone(),
            app_secret: SecretString::default(),
            verification_token: None,
            encrypt_key: None,
            brand: settings.lark.brand,
            token_api: settings.lark.token_api,
            redirect_uri: settings.oauth.redirect_uri.clone(),
            default_scopes: settings.oauth.scopes.clone(),
            enabled,
            frozen_since: None,
            frozen_reason: None,
        });
        let file = |path: &Option<PathBuf>, otherwise: Option<SecretString>| match path {
            Some(path) => prompt::secret_file(path).map(Some),
            None => Ok(otherwise),
        };
        let application = Application {
            app_secret,
            verification_token: file(&self.verification_token_file, base.verification_token)?,
            encrypt_key: file(&self.encrypt_key_file, base.encrypt_key)?,
            brand: self.brand.unwrap_or(base.brand),
            token_api: self.token_api.unwrap_or(base.token_api),
            redirect_uri: self.redirect_uri.clone().unwrap_or(base.redirect_uri),
            default_scopes: if self.scopes.is_empty() { base.default_scopes } else { scopes(&self.scopes) },
            enabled,
            frozen_since: None,
            frozen_reason: None,
            app_id: base.app_id,
        };
        check(&application)?;
        Ok(application)
    }
}

fn scopes(given: &[String]) -> Vec<String> {
    given.iter().filter(|scope| !scope.is_empty()).cloned().collect()
}

fn check(application: &Application) -> Result<(), CommandError> {
    let uri = &application.redirect_uri;
    if !matches!(uri.scheme(), "http" | "https") || uri.host().is_none() || uri.fragment().is_some() {
        return Err(CommandError::Usage(format!(
            "--redirect-uri {uri}: must be an http or https address without a fragment, like https://auth.example.com/oauth/callback"
        )));
    }
    if application.app_secret.expose_secret().chars().any(char::is_whitespace) {
        return Err(CommandError::Usage(
            "the app secret contains blanks; copy it again from the developer console, under Credentials"
                .to_owned(),
        ));
    }
    Ok(())
}
