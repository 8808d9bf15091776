//! `larkauth keys`: the keys of the REST API.

use std::process::ExitCode;

use clap::{
    Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use larkauth_auth::{Context, api_keys};
use larkauth_models::{ExposeSecret, KeyScope, Timestamp};
use larkauth_storage::ApiKey;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    exit::CommandError,
    globals::{Globals, operator},
    output::{self, Format, time},
    report,
};

/// Create, list and revoke keys of the REST API
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    Create(Create),
    /// List the keys; the keys themselves are not stored and cannot be shown
    #[command(after_help = "Example:\n  larkauth keys list")]
    List,
    /// Refuse a key from now on
    #[command(after_help = "Example:\n  larkauth keys revoke 0198c5a0-0000-7000-8000-000000000000")]
    Revoke {
        /// The key's id, as `larkauth keys list` shows it
        #[arg(value_parser = key_id)]
        id: Uuid,
    },
}

fn key_id(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "not the id of a key; `larkauth keys list` shows the ids")
}

/// Create a key and show it, this once
///
/// Only a hash of it is stored. The key alone goes to standard output, so that it can be taken from there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth keys create --name crm --scope tokens:read\n  API_KEY=$(larkauth keys create --name deploy --scope '*')"
)]
pub(crate) struct Create {
    /// What the key is for
    #[arg(long)]
    name: String,
    /// What it may do; may be given more than once
    #[arg(long, required = true, value_name = "SCOPE", value_parser = key_scope())]
    scope: Vec<KeyScope>,
}

/// Parses a scope by its name. The help lists the scopes with what they allow.
fn key_scope() -> impl TypedValueParser<Value = KeyScope> {
    let help = |scope| match scope {
        KeyScope::SessionsRead => "Look at sessions",
        KeyScope::SessionsWrite => "Invite people",
        KeyScope::TokensRead => "Take tokens, and invite the person whose token is missing",
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
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        }
    }
}

impl KeyView {
    fn row(&self) -> Vec<String> {
        let state = self.revoked_at.map_or("active".to_owned(), |at| format!("revoked {}", time(at)));
        vec![self.id.to_string(), self.name.clone(), self.scopes.join(" "), time(self.created_at), state]
    }
}

/// A new key. It is shown only once.
#[derive(Serialize)]
struct NewKey<'a> {
    id: Uuid,
    name: &'a str,
    scopes: &'a [String],
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
        let created =
            context.create_api_key(&operator(), context.now(), &self.name, self.scope.clone()).await?;
        let (key, secret) = (created.key, created.secret);
        match format {
            Format::Json => output::json(&NewKey {
                id: key.id,
                name: &key.name,
                scopes: &key.scopes,
                key: secret.expose_secret(),
            }),
            Format::Text => {
                report::note(&format!("key {} for {}: {}", key.id, key.name, key.scopes.join(" ")));
                report::note("This is the only time that the key is shown; keep it like a password.");
                output::text_out(&format!("{}\n", secret.expose_secret()))
            }
        }
    }
}

async fn list(context: &Context, format: Format) -> anyhow::Result<()> {
    let keys: Vec<KeyView> =
        context.api_keys(&operator(), context.now()).await?.into_iter().map(KeyView::from).collect();
    format.list(&keys, &["ID", "NAME", "SCOPES", "CREATED", "STATE"], KeyView::row)
}

async fn revoke(context: &Context, id: Uuid, format: Format) -> anyhow::Result<()> {
    let now = context.now();
    if !context.revoke_api_key(&operator(), now, id).await? {
        return Err(CommandError::NotFound(format!(
            "there is no active key {id}; `larkauth keys list` shows all keys"
        ))
        .into());
    }
    if format == Format::Json {
        return output::json(&serde_json::json!({ "id": id, "revoked_at": now }));
    }
    report::done(&format!("key {id} is revoked"), "every gateway refuses it within 10 s");
    Ok(())
}
