//! `larkauth keys`: the keys of the REST API.

use std::{num::NonZeroU32, process::ExitCode, time::Duration};

use chrono::TimeDelta;
use clap::{
    Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use larkauth_auth::{
    Context, Policy,
    api_keys::{self, CreatedApiKey, NewApiKey},
};
use larkauth_models::{AppId, ExposeSecret, KeyScope, Timestamp};
use larkauth_storage::ApiKey;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    exit::CommandError,
    globals::{Globals, operator},
    output::{self, Format, or_dash, time},
    registered::check_registered,
    report,
};

/// Create, list, rotate and revoke keys of the REST API
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    Create(Create),
    /// List the keys; the keys themselves are not stored and cannot be shown
    #[command(after_help = "Example:\n  larkauth keys list")]
    List,
    Rotate(Rotate),
    /// Refuse a key from now on
    #[command(after_help = "Example:\n  larkauth keys revoke 0198c5a0-0000-7000-8000-000000000000")]
    Revoke {
        /// The key's id, as `larkauth keys list` shows it
        #[arg(value_parser = key_id)]
        id: Uuid,
    },
}

/// Create a key like another one, which then works for a while longer
///
/// Callers have until the end of the overlap to change over to the new key. The new key alone goes to standard output.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  larkauth keys rotate 0198c5a0-0000-7000-8000-000000000000 --overlap 2d")]
pub(crate) struct Rotate {
    /// The key's id, as `larkauth keys list` shows it
    #[arg(value_parser = key_id)]
    id: Uuid,
    /// How long the old key works, like 30m, 24h or 7d
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = humantime::parse_duration)]
    overlap: Duration,
}

fn key_id(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "not the id of a key; `larkauth keys list` shows the ids")
}

/// Create a key and show it, this once
///
/// Only a hash of it is stored. The key alone goes to standard output, so that it can be taken from there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth keys create --name crm --scope tokens:read --for-app cli_0123456789abcdef --expires-in 90d\n  API_KEY=$(larkauth keys create --name deploy --scope '*')"
)]
pub(crate) struct Create {
    /// What the key is for
    #[arg(long)]
    name: String,
    /// What it may do; separated by commas, or given more than once
    #[arg(long, required = true, value_name = "SCOPE", value_delimiter = ',', value_parser = key_scope())]
    scope: Vec<KeyScope>,
    /// The only application that it sees; separated by commas, or given more than once
    #[arg(long = "for-app", value_name = "APP_ID", value_delimiter = ',')]
    app: Vec<AppId>,
    /// The only scope of Lark that it may ask people for, beside offline_access; separated by commas, or given more than once
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    lark_scope: Vec<String>,
    /// Its life, like 90d; without it the key has no end
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
    /// Most requests in a minute, counted by each gateway
    #[arg(long, value_name = "NUMBER")]
    requests_per_minute: Option<NonZeroU32>,
}

/// Parses a scope by its name. The help lists the scopes with what they allow.
fn key_scope() -> impl TypedValueParser<Value = KeyScope> {
    let help = |scope| match scope {
        KeyScope::SessionsRead => "Look at sessions",
        KeyScope::SessionsWrite => "Invite people",
        KeyScope::TokensRead => "Take tokens, and invite the person whose token is missing",
        KeyScope::Proxy => "Make calls to Lark as a person (for a later version; no endpoint needs it yet)",
        KeyScope::AppsAdmin => "See and switch applications in the operator console",
        KeyScope::AuditRead => "Read the audit log",
        KeyScope::Everything => "Everything",
    };
    let named = |scope: &KeyScope| PossibleValue::new(scope.as_str()).help(help(*scope));
    PossibleValuesParser::new(KeyScope::ALL.iter().map(named)).try_map(|name| name.parse::<KeyScope>())
}

#[derive(Serialize)]
struct KeyView {
    id: Uuid,
    name: String,
    scopes: Vec<String>,
    app_ids: Vec<String>,
    lark_scopes: Vec<String>,
    requests_per_minute: Option<NonZeroU32>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            app_ids: key.access.app_ids,
            lark_scopes: key.access.lark_scopes,
            requests_per_minute: key.requests_per_minute,
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            revoked_at: key.revoked_at,
        }
    }
}

impl KeyView {
    fn row(&self, now: Timestamp) -> Vec<String> {
        let state = match (self.revoked_at, self.expires_at) {
            (Some(at), _) => format!("revoked {}", time(at)),
            (None, Some(end)) if end <= now => format!("expired {}", time(end)),
            (None, Some(end)) => format!("active until {}", time(end)),
            (None, None) => "active".to_owned(),
        };
        let apps = if self.app_ids.is_empty() { "all".to_owned() } else { self.app_ids.join(" ") };
        let used = or_dash(self.last_used_at.map(time));
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.scopes.join(" "),
            apps,
            time(self.created_at),
            used,
            state,
        ]
    }
}

/// A new key. It is shown only once.
#[derive(Serialize)]
struct NewKey<'a> {
    id: Uuid,
    name: &'a str,
    scopes: &'a [String],
    expires_at: Option<Timestamp>,
    key: &'a str,
}

pub(crate) async fn run(command: Keys, globals: &Globals) -> anyhow::Result<ExitCode> {
    let format = globals.format();
    match command {
        Keys::Create(arguments) => {
            arguments.check()?;
            globals.connected(async |context| arguments.run(context, format).await).await?;
        }
        Keys::List => globals.connected(async |context| list(context, format).await).await?,
        Keys::Rotate(arguments) => {
            globals.connected(async |context| arguments.run(context, format).await).await?;
        }
        Keys::Revoke { id } => globals.connected(async |context| revoke(context, id, format).await).await?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Create {
    fn check(&self) -> Result<(), CommandError> {
        if !api_keys::is_valid_name(&self.name) {
            return Err(CommandError::Usage(format!(
                "--name: 1 to {} characters on one line that say what the key is for",
                api_keys::MAX_NAME
            )));
        }
        Ok(())
    }

    async fn run(&self, context: &Context, format: Format) -> anyhow::Result<()> {
        let now = context.now();
        check_registered(context, &self.app).await?;
        let new = NewApiKey {
            name: self.name.clone(),
            scopes: self.scope.clone(),
            app_ids: self.app.clone(),
            lark_scopes: self.lark_scope.clone(),
            requests_per_minute: self.requests_per_minute,
            expires_at: self.expires_in.map(|life| after(now, life)).transpose()?,
        };
        show(&context.create_api_key(&operator(), now, new).await?, format)
    }
}

impl Rotate {
    async fn run(&self, context: &Context, format: Format) -> anyhow::Result<()> {
        let now = context.now();
        let until = after(now, self.overlap)?;
        let Some(created) = context.rotate_api_key(&operator(), now, self.id, until).await? else {
            return Err(no_such_key(self.id).into());
        };
        report::note(&format!("key {} works until {} at the latest", self.id, time(until)));
        show(&created, format)
    }
}

fn after(now: Timestamp, time: Duration) -> Result<Timestamp, CommandError> {
    let end = TimeDelta::from_std(time).ok().and_then(|time| now.checked_add_signed(time));
    end.ok_or_else(|| CommandError::Usage("the time is too long".to_owned()))
}

fn show(created: &CreatedApiKey, format: Format) -> anyhow::Result<()> {
    let (key, secret) = (&created.key, &created.secret);
    match format {
        Format::Json => output::json(&NewKey {
            id: key.id,
            name: &key.name,
            scopes: &key.scopes,
            expires_at: key.expires_at,
            key: secret.expose_secret(),
        }),
        Format::Text => {
            report::note(&format!("key {} for {}: {}", key.id, key.name, key.scopes.join(" ")));
            report::note("This is the only time that the key is shown; keep it like a password.");
            output::text_out(&format!("{}\n", secret.expose_secret()))
        }
    }
}

fn no_such_key(id: Uuid) -> CommandError {
    CommandError::NotFound(format!("there is no active key {id}; `larkauth keys list` shows all keys"))
}

async fn list(context: &Context, format: Format) -> anyhow::Result<()> {
    let keys: Vec<KeyView> =
        context.api_keys(&operator(), context.now()).await?.into_iter().map(KeyView::from).collect();
    let now = context.now();
    format.list(&keys, &["ID", "NAME", "SCOPES", "APPLICATIONS", "CREATED", "LAST USED", "STATE"], |key| {
        key.row(now)
    })
}

async fn revoke(context: &Context, id: Uuid, format: Format) -> anyhow::Result<()> {
    let now = context.now();
    if !context.revoke_api_key(&operator(), now, id).await? {
        return Err(no_such_key(id).into());
    }
    if format == Format::Json {
        return output::json(&serde_json::json!({ "id": id, "revoked_at": now }));
    }
    let within = Policy::default().read_staleness.as_secs();
    report::done(&format!("key {id} is revoked"), &format!("every gateway refuses it within {within} s"));
    Ok(())
}
