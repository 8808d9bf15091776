//! `larkauth card`: asking a person for authorization.

use std::{process::ExitCode, time::Duration};

use clap::{
    Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use larkauth_auth::{Context, sessions::Invite};
use larkauth_contracts::rest::SessionView;
use larkauth_models::{AppId, AuthMethod, CardOptions, OpenId, Person, UserId};

use crate::{
    follow,
    globals::{Globals, operator},
    output::{self, Format, time},
    report,
};

/// Wait beyond the expiry of a session: the next round of maintenance closes it some seconds later.
const EXPIRY_GRACE: Duration = Duration::from_secs(15);

/// Send authorization cards
#[derive(Debug, Subcommand)]
pub(crate) enum Card {
    Send(Send),
}

/// Ask a person for their authorization, with a card in the chat
///
/// The card is sent by a running `larkauth standalone` or auth-worker. With --wait the command follows it and ends with
/// 0 when the person has authorized, with 4 when they declined, did not answer in time, or it failed.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("person").required(true),
    after_help = "Examples:\n  larkauth card send --app cli_0123456789abcdef --open-id ou_0123456789abcdef --wait\n  larkauth card send --app cli_0123456789abcdef --user-id 7b3f2a --message 'For the weekly report'"
)]
pub(crate) struct Send {
    /// The application that asks; APP_ID by default, or the only registered one
    #[arg(long, value_name = "APP_ID")]
    app: Option<AppId>,
    /// The person, as this application sees them
    #[arg(long, value_name = "OPEN_ID", group = "person")]
    open_id: Option<OpenId>,
    /// The person, as their company sees them
    #[arg(long, value_name = "USER_ID", group = "person")]
    user_id: Option<UserId>,
    /// How the person authorizes. `device_code` needs no redirect URI and no address that the person's browser reaches
    #[arg(long, value_name = "METHOD", default_value = "websocket_card", value_parser = card_method())]
    auth_method: AuthMethod,
    /// One paragraph of your own on the card, at most 1000 characters
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// The short card, without the description of what is asked for
    #[arg(long)]
    concise: bool,
    /// Scopes to ask for instead of the application's; separated by spaces, or given more than once
    #[arg(long, value_name = "SCOPE", value_delimiter = ' ')]
    scopes: Vec<String>,
    /// Follow the session until it ends; at most so many seconds, by default until it expires
    #[arg(long, value_name = "SECONDS", num_args = 0..=1)]
    wait: Option<Option<u64>>,
}

/// Accepts the methods that show a card.
fn card_method() -> impl TypedValueParser<Value = AuthMethod> {
    let names = AuthMethod::ALL.iter().filter(|method| method.has_card()).map(|method| method.as_str());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<AuthMethod>())
}

pub(crate) async fn run(command: Card, globals: &Globals) -> anyhow::Result<ExitCode> {
    let Card::Send(arguments) = command;
    let format = globals.format();
    let work = async |context: &Context, app_id: &AppId| arguments.run(context, app_id, format).await;
    globals.connected_about(arguments.app.as_ref(), work).await
}

impl Send {
    async fn run(&self, context: &Context, app_id: &AppId, format: Format) -> anyhow::Result<ExitCode> {
        let scopes: Vec<String> = self.scopes.iter().filter(|scope| !scope.is_empty()).cloned().collect();
        let defaults = &context.policy().card;
        let invite = Invite {
            app_id: app_id.clone(),
            person: Person { open_id: self.open_id.clone(), user_id: self.user_id.clone() },
            auth_method: self.auth_method,
            scopes: (!scopes.is_empty()).then_some(scopes),
            card: CardOptions {
                include_description: defaults.include_description && !self.concise,
                custom_message: self.message.clone().or_else(|| defaults.custom_message.clone()),
                ..defaults.clone()
            },
        };
        let invited = context.invite(&operator(), context.now(), invite).await?;
        let text = format == Format::Text;
        if text {
            report::done("the card is on its way", &format!("until {}", time(invited.expires_at)));
            report::say(&format!("session  {}", invited.id));
        }
        let Some(seconds) = self.wait else {
            if !text {
                output::json(&SessionView::from(invited))?;
            }
            return Ok(ExitCode::SUCCESS);
        };
        let at_most = match seconds {
            None => context.policy().session_lifetime + EXPIRY_GRACE,
            Some(seconds) => Duration::from_secs(seconds),
        };
        let seen = |step| {
            if text {
                follow::report_step(step);
            }
        };
        let ended = follow::until_end(context, invited.id, at_most, seen).await?;
        let code = follow::exit_code(&ended);
        match format {
            Format::Text => follow::report_end(&ended),
            Format::Json => output::json(&SessionView::from(ended))?,
        }
        Ok(code)
    }
}
