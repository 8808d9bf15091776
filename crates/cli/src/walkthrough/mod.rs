//! `larkauth try`: one whole authorization with a real application, step by step, with what to do when a step fails.
//!
//! `application` determines the application and checks it with Lark, `person` determines the person, this module runs
//! the steps.

mod application;
mod arguments;
mod person;

pub(crate) use self::arguments::Arguments;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use larkauth_auth::{Context, sessions::Invite};
use larkauth_config::{LoadOptions, Service, Settings};
use larkauth_models::{AppId, Application, AuthMethod, ExposeSecret, OpenId, Person, SessionState};
use larkauth_net::Network;
use larkauth_runtime::ServiceHandle;
use larkauth_telemetry::HealthPart;
use tokio::time::Instant;
use url::Url;

use self::application::Chosen;
use crate::{
    doctor::{page, redirect_uri},
    exit,
    follow::{self, Step},
    globals::{Globals, operator, quiet},
    output::time,
    prompt, report, standalone,
};

/// Deadline of the first long connection.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) async fn run(arguments: Arguments, globals: &Globals) -> anyhow::Result<ExitCode> {
    heading(1, "The application");
    let chosen = Chosen::ask(&arguments, &globals.settings_about(arguments.app.as_ref())?)?;
    let settings = service_settings(globals, &arguments, &chosen)?;
    let telemetry = larkauth_telemetry::init(&quiet(&settings))?;
    let outcome = Box::pin(run_steps(&arguments, &settings)).await;
    telemetry.shutdown().await;
    outcome
}

async fn run_steps(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let Some(app) = &settings.application else { bail!("APP_ID is not set") };
    let lark = larkauth_runtime::lark_settings(settings)?;
    let client = application::check(&lark, app).await?;

    heading(2, "The services");
    let standalone = standalone::start(settings, larkauth_runtime::database_clock()).await?;
    let address = standalone.running.addr;
    report::done("gateway, auth-worker and token-refresher are running", &format!("http://{address}"));
    let asked = async {
        ready(&standalone.running, &app.app_id).await?;
        // After the connection is up: the console offers the persistent connection only while one is open.
        console(&lark.network, app, arguments.yes).await?;
        heading(4, "The person");
        let open_id = person::ask(arguments, &client).await?;
        let context = standalone.running.context.clone();
        authorize(&context, &app.app_id, open_id, Duration::from_secs(arguments.wait)).await
    };
    let outcome = tokio::select! {
        outcome = asked => outcome,
        () = larkauth_runtime::shutdown_signal() => Err(anyhow::anyhow!("stopped; an open session expires by itself")),
    };
    standalone.running.stop();
    let stopped = standalone.running.wait().await;
    let code = outcome?;
    stopped?;
    Ok(code)
}

/// Lists the settings of the developer console, which only a person can check.
async fn console(network: &Network, app: &Application, is_done: bool) -> anyhow::Result<()> {
    heading(3, "The developer console");
    report::say("  Under Security Settings, this must be one of the redirect URLs:");
    report::say(&format!("    {}", app.redirect_uri));
    report::say("  Under Events & Callbacks, both events and callbacks must use the persistent connection.");
    report::say("  The bot must be switched on, with the permission im:message:send_as_bot,");
    report::say("  and a version that has all this must be published.");
    for finding in redirect_uri(network, app).await.iter().filter(|finding| !finding.is_ok()) {
        finding.print();
    }
    if !is_done && prompt::is_possible() {
        prompt::meanwhile(|| prompt::pause("Press Enter when this is done")).await?;
    }
    Ok(())
}

/// Waits until the long connection is up.
async fn ready(running: &ServiceHandle, app_id: &AppId) -> anyhow::Result<()> {
    let until = Instant::now() + READY_TIMEOUT;
    let mut line = report::Progress::new();
    let started = Instant::now();
    loop {
        let connection = format!("websocket:{app_id}");
        let mut parts = running.health.report().parts;
        // Connections of other applications are not needed.
        parts.retain(|part| !part.name.starts_with("websocket:") || part.name == connection);
        if parts.iter().any(|part| part.name == connection) && parts.iter().all(HealthPart::is_ok) {
            line.finish();
            report::done("the long connection is up", "clicks will arrive here");
            return Ok(());
        }
        if Instant::now() >= until {
            line.finish();
            let reasons = parts.into_iter().filter(|part| !part.is_ok());
            let reasons: Vec<String> =
                reasons.map(|part| format!("{}: {}", part.name, part.reason.unwrap_or_default())).collect();
            bail!(
                "not ready after {} s: {}; see {}",
                READY_TIMEOUT.as_secs(),
                reasons.join("; "),
                page::LONG_CONNECTION
            );
        }
        line.wait("waiting for the long connection", started.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn authorize(
    context: &Context,
    app_id: &AppId,
    open_id: OpenId,
    at_most: Duration,
) -> anyhow::Result<ExitCode> {
    heading(5, "The card");
    let invite = Invite {
        app_id: app_id.clone(),
        person: Person { open_id: Some(open_id.clone()), user_id: None },
        auth_method: AuthMethod::WebsocketCard,
        scopes: None,
        card: context.policy().card.clone(),
    };
    let invited =
        context.invite(&operator(), context.now(), invite).await.context("the card was not sent")?;
    let seen = |step: Step| {
        follow::report_step(step);
        if step == Step::Sent {
            report::say("  Now open the chat with the bot and click Authorize.");
            report::say(&format!("  If a click has no effect, see {}", page::LONG_CONNECTION));
            report::say(&format!("  If the consent page shows an error, see {}", page::REDIRECT_URI));
        }
    };
    let ended = follow::until_end(context, invited.id, at_most, seen).await?;
    follow::report_end(&ended);
    if ended.state == SessionState::Pending {
        report::say(&format!(
            "  Clicks were taken by this process, which ends now: start `larkauth standalone` on the same data, and the card works until {}.",
            time(ended.expires_at)
        ));
    }
    if ended.state != SessionState::Completed {
        report::say(&format!("  See also {} and `larkauth doctor`.", page::PERMISSIONS));
        return Ok(ExitCode::from(exit::NOT_AUTHORIZED));
    }

    heading(6, "The token");
    let token = context.stored_token(&operator(), context.now(), app_id, &open_id).await?;
    let token = token.context("the session is completed, but its token is not stored")?;
    let secret =
        token.pair.access_token.readable().context("the token cannot be read with these ENCRYPTION_KEYS")?;
    report::done("access token", &report::masked(secret.expose_secret()));
    report::done("valid until", &time(token.pair.access_expires_at));
    match token.pair.refresh_expires_at {
        Some(at) if token.pair.refresh_token.is_some() => {
            report::done("the login is kept alive", &format!("at least until {}", time(at)));
        }
        _ => report::doubtful(
            "it cannot be refreshed",
            &format!("the permission offline_access is missing; see {}", page::PERMISSIONS),
        ),
    }
    report::done("scopes", &token.pair.scopes.join(" "));
    report::say(
        "\nFrom here: `larkauth standalone` hands this token out and refreshes it, `larkauth keys create` lets a service ask for it.",
    );
    Ok(ExitCode::SUCCESS)
}

/// Returns the settings of the services, with the arguments in place of the environment's values.
fn service_settings(globals: &Globals, arguments: &Arguments, chosen: &Chosen) -> anyhow::Result<Settings> {
    let flags = [
        ("APP_ID", Some(chosen.app_id.to_string())),
        ("APP_SECRET", Some(chosen.secret.expose_secret().to_owned())),
        ("LARK_BRAND", arguments.brand.map(|brand| brand.to_string())),
        ("OAUTH_REDIRECT_URI", arguments.redirect_uri.as_ref().map(Url::to_string)),
        ("DATA_DIR", arguments.data_dir.as_ref().map(|path| path.display().to_string())),
    ];
    let mut environment = Settings::environment()?;
    environment.retain(|(name, _)| name != "APP_SECRET_FILE");
    for (name, value) in flags {
        if let Some(value) = value {
            environment.retain(|(known, _)| known != name);
            environment.push((name.to_owned(), value));
        }
    }
    let options = LoadOptions { config_file: globals.config.clone(), service: Service::Standalone };
    Ok(Settings::from_pairs(&options, environment)?)
}

fn heading(number: u8, what: &str) {
    report::say(&format!("\n{number}. {what}"));
}
