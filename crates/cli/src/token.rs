//! `larkauth token`: stored tokens of a person.

use std::{io::IsTerminal, process::ExitCode};

use clap::Subcommand;
use larkauth_auth::Context;
use larkauth_models::{AppId, ExposeSecret, OpenId, StoredToken, Timestamp, TokenStatus};
use serde::Serialize;

use crate::{
    globals::{Globals, operator},
    no_token::no_token,
    output::{self, Format, or_dash, time},
    report, token_status,
};

/// Show and revoke stored tokens
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Show the token of a person; masked unless --reveal
    #[command(
        after_help = "Examples:\n  larkauth token show --app cli_0123456789abcdef --open-id ou_0123456789abcdef\n  larkauth token show --app cli_0123456789abcdef --open-id ou_0123456789abcdef --reveal --json | jq -r .access_token"
    )]
    Show {
        #[command(flatten)]
        owner: Owner,
        /// Show the access token itself; its holder can act as this person
        #[arg(long)]
        reveal: bool,
    },
    /// Show everything about the token of a person but its secrets: status, expiry, next refresh, lease, last use
    #[command(
        after_help = "Example:\n  larkauth token status --app-id cli_0123456789abcdef --open-id ou_0123456789abcdef"
    )]
    Status {
        #[command(flatten)]
        owner: Owner,
    },
    /// Revoke the token of a person: its secrets are erased, and services no longer receive it
    #[command(
        after_help = "Example:\n  larkauth token revoke --app cli_0123456789abcdef --open-id ou_0123456789abcdef"
    )]
    Revoke {
        #[command(flatten)]
        owner: Owner,
    },
}

/// Owner of the token.
#[derive(Debug, clap::Args)]
pub(crate) struct Owner {
    /// The application; APP_ID by default, or the only registered one
    #[arg(long, visible_alias = "app-id", value_name = "APP_ID")]
    app: Option<AppId>,
    /// The person, as this application sees them
    #[arg(long, value_name = "OPEN_ID")]
    open_id: OpenId,
}

/// A token for output. The access token is masked, and left out when it cannot be read, unless `--reveal` is given.
#[derive(Serialize)]
struct TokenView {
    app_id: AppId,
    open_id: OpenId,
    status: TokenStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    /// Under another name, so that no program takes it for the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token_hint: Option<String>,
    access_expires_at: Timestamp,
    has_refresh_token: bool,
    refresh_expires_at: Option<Timestamp>,
    scopes: Vec<String>,
    generation: i64,
    issued_at: Timestamp,
    granted_at: Timestamp,
}

pub(crate) async fn run(command: Token, globals: &Globals) -> anyhow::Result<ExitCode> {
    let format = globals.format();
    let (Token::Show { owner, .. } | Token::Status { owner } | Token::Revoke { owner }) = &command;
    let work = async |context: &Context, app_id: &AppId| match &command {
        Token::Show { owner, reveal } => show(context, app_id, &owner.open_id, *reveal, format).await,
        Token::Status { owner } => token_status::show(context, app_id, &owner.open_id, format).await,
        Token::Revoke { owner } => revoke(context, app_id, &owner.open_id, format).await,
    };
    globals.connected_about(owner.app.as_ref(), work).await?;
    Ok(ExitCode::SUCCESS)
}

fn view(token: StoredToken, reveal: bool) -> TokenView {
    let secret = token.pair.access_token.readable().map(ExposeSecret::expose_secret);
    TokenView {
        access_token: secret.filter(|_| reveal).map(str::to_owned),
        access_token_hint: secret.filter(|_| !reveal).map(report::masked),
        app_id: token.app_id,
        open_id: token.open_id,
        status: token.status,
        access_expires_at: token.pair.access_expires_at,
        has_refresh_token: token.pair.refresh_token.is_some(),
        refresh_expires_at: token.pair.refresh_expires_at,
        scopes: token.pair.scopes,
        generation: token.generation,
        issued_at: token.issued_at,
        granted_at: token.granted_at,
    }
}

async fn show(
    context: &Context,
    app_id: &AppId,
    open_id: &OpenId,
    reveal: bool,
    format: Format,
) -> anyhow::Result<()> {
    let now = context.now();
    let token = context.stored_token(&operator(), now, app_id, open_id).await?;
    let Some(token) = token else { return Err(no_token(context, app_id, open_id).await) };
    if let Some(why) = token.pair.unreadable() {
        report::warn(&format!("{} cannot be read: {}", why.column.trim_end_matches("_sealed"), why.reason));
    }
    let token = view(token, reveal);
    if reveal && std::io::stdout().is_terminal() {
        report::warn(
            "the holder of this token can act as this person; make sure that only you see this screen",
        );
    }
    let ends = |at: Timestamp| if at <= now { format!("{} (expired)", time(at)) } else { time(at) };
    let refresh_ends = match (token.has_refresh_token, token.refresh_expires_at) {
        (true, at) => or_dash(at.map(ends)),
        (false, _) => "there is no refresh token: the scope offline_access was not granted".to_owned(),
    };
    let fields = [
        ("app_id", token.app_id.to_string()),
        ("open_id", token.open_id.to_string()),
        ("status", token.status.to_string()),
        ("access_token", or_dash(token.access_token.as_ref().or(token.access_token_hint.as_ref()))),
        ("access_expires", ends(token.access_expires_at)),
        ("refresh_expires", refresh_ends),
        ("scopes", token.scopes.join(" ")),
        ("generation", token.generation.to_string()),
        ("issued", time(token.issued_at)),
        ("granted", time(token.granted_at)),
    ];
    format.one(&token, &fields)
}

async fn revoke(context: &Context, app_id: &AppId, open_id: &OpenId, format: Format) -> anyhow::Result<()> {
    if !context.revoke_token(&operator(), context.now(), app_id, open_id).await? {
        return Err(no_token(context, app_id, open_id).await);
    }
    if format == Format::Json {
        let revoked = serde_json::json!({ "app_id": app_id, "open_id": open_id, "status": "revoked" });
        return output::json(&revoked);
    }
    report::done(
        "the token is revoked here",
        "Lark itself accepts the access token until it expires, at most two hours",
    );
    Ok(())
}
