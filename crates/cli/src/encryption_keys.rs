//! `larkauth encryption-keys`: the keys that encrypt stored values.

use std::{
    io::IsTerminal,
    ops::ControlFlow,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use clap::Subcommand;
use larkauth_auth::{Context, KeyRotation, ListedKey, Retirement};
use larkauth_models::Timestamp;
use larkauth_storage::{
    KeyValues,
    transfer::{Table, TableProgress},
};
use serde::Serialize;

use crate::{
    exit::CommandError,
    globals::{Globals, operator},
    output::{self, Format, or_dash, time},
    report,
};

/// List, rotate and retire the keys of ENCRYPTION_KEYS
///
/// The key material itself is never shown. See docs/operations/encryption-keys.md for the order of the steps.
#[derive(Debug, Subcommand)]
pub(crate) enum EncryptionKeys {
    /// List the keys that are configured or that stored values need
    #[command(after_help = "Example:\n  larkauth encryption-keys list")]
    List,
    Rotate(Rotate),
    Retire(Retire),
}

/// Encrypt every stored value again with the first key of ENCRYPTION_KEYS
///
/// Every running process must have this key first: a process without it cannot read the values afterwards. The command
/// refuses while a process encrypts with another key. Look at /readyz of every process, too: it names a key that the process lacks.
///
/// Services go on meanwhile. The command may be stopped or killed and started again, and goes on then. At its end it opens
/// every value and says whether one needs another key.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ENCRYPTION_KEYS_FILE=encryption-keys larkauth encryption-keys rotate")]
pub(crate) struct Rotate {
    /// Go on although a process encrypted with another key within the last two minutes
    #[arg(long)]
    force: bool,
}

/// Retire a key that no stored value needs, after which it can be removed from ENCRYPTION_KEYS
///
/// Refuses while a value or a waiting message may need the key, or a running service encrypts with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  larkauth encryption-keys retire main")]
pub(crate) struct Retire {
    /// Id of the key: the part before the colon
    id: String,
}

/// A key for output.
#[derive(Serialize)]
struct KeyView {
    id: String,
    first: bool,
    configured: bool,
    rows: u64,
    values: u64,
    unreadable: u64,
    last_sealed_at: Option<Timestamp>,
}

impl From<ListedKey> for KeyView {
    fn from(key: ListedKey) -> Self {
        let ListedKey { id, is_first, is_configured, sealed_at, values } = key;
        Self {
            id,
            first: is_first,
            configured: is_configured,
            rows: values.rows,
            values: values.values,
            unreadable: values.unreadable(),
            last_sealed_at: sealed_at,
        }
    }
}

impl KeyView {
    fn row(&self) -> Vec<String> {
        let role = match (self.first, self.configured) {
            (true, _) => "encrypts",
            (false, true) => "decrypts",
            (false, false) => "missing",
        };
        vec![
            self.id.clone(),
            role.to_owned(),
            self.rows.to_string(),
            self.values.to_string(),
            self.unreadable.to_string(),
            or_dash(self.last_sealed_at.map(time)),
        ]
    }
}

pub(crate) async fn run(command: EncryptionKeys, globals: &Globals) -> anyhow::Result<ExitCode> {
    let format = globals.format();
    globals
        .connected(async |context| match command {
            EncryptionKeys::List => list(context, format).await,
            EncryptionKeys::Rotate(Rotate { force }) => rotate(context, force, format).await,
            EncryptionKeys::Retire(Retire { id }) => retire(context, &id, format).await,
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context, format: Format) -> anyhow::Result<()> {
    let mut bar = Bar::new("reading");
    let listed = context.encryption_keys(&operator(), context.now(), |step| bar.show(step)).await;
    bar.finish();
    let keys: Vec<KeyView> = listed?.into_iter().map(Into::into).collect();
    let headers = ["ID", "USE", "ROWS", "VALUES", "UNREADABLE", "LAST ENCRYPTED WITH"];
    format.list(&keys, &headers, KeyView::row)
}

async fn rotate(context: &Context, force: bool, format: Format) -> anyhow::Result<()> {
    let first = context.first_encryption_key();
    let others = context.other_keys_in_use().await?;
    if !others.is_empty() {
        let told =
            format!("a process has encrypted with {} within the last two minutes", others.join(" and "));
        if !force {
            anyhow::bail!(
                "{told}, and may not have the key {first}: it could not read the values that are encrypted again. Nothing was \
                 changed. Give every process ENCRYPTION_KEYS with {first} first, restart it, and start this command again \
                 two minutes later; --force goes on all the same"
            );
        }
        report::warn(&format!(
            "{told}; it cannot read the values that are encrypted again if it lacks the key {first}"
        ));
    }
    report::note(&format!(
        "Values are encrypted again with the key {first}. A process without it cannot read them: /readyz of every process must be 200."
    ));
    let stopping = AtomicBool::new(false);
    let mut bar = Bar::new("encrypting again");
    let operator = operator();
    let done = {
        let signal = larkauth_runtime::shutdown_signal();
        let mut rotating = std::pin::pin!(context.rotate_encryption_keys(&operator, context.now(), |step| {
            bar.show(step);
            if stopping.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        tokio::select! {
            done = &mut rotating => done,
            () = signal => {
                // A page that has begun is finished.
                stopping.store(true, Ordering::Relaxed);
                rotating.await
            }
        }
    };
    bar.finish();
    conclude(&done?, format)
}

fn conclude(done: &KeyRotation, format: Format) -> anyhow::Result<()> {
    let KeyRotation { rotated, verified, first_key } = done;
    let keys = verified.iter().flat_map(|survey| &survey.keys);
    let others: Vec<(String, &KeyValues)> = keys
        .filter(|(id, values)| id.as_deref() != Some(first_key.as_str()) || values.unreadable() > 0)
        .map(|(id, values)| (id.clone().unwrap_or_else(|| "malformed".to_owned()), values))
        .collect();
    if format == Format::Json {
        let remaining: Vec<_> = others
            .iter()
            .map(|(id, values)| {
                serde_json::json!({
                    "id": id, "rows": values.rows, "values": values.values, "unreadable": values.unreadable(),
                    "reason": values.reason.as_ref().map(ToString::to_string), "first": values.closed,
                })
            })
            .collect();
        output::json(&serde_json::json!({
            "first_key": first_key, "rows": rotated.read, "encrypted_again": rotated.resealed,
            "verified": done.is_complete(), "stopped": rotated.is_stopped, "remaining": remaining,
        }))?;
    } else {
        let detail = format!("{} of {} rows, with the key {first_key}", rotated.resealed, rotated.read);
        report::done("encrypted again", &detail);
    }
    if rotated.is_stopped {
        anyhow::bail!("stopped before the end; start the command again, and it goes on");
    }
    if done.is_complete() {
        if format == Format::Text {
            report::done("verified", "every value opens, and none needs another key");
            report::say("  Retire the other keys with `larkauth encryption-keys retire ID`.");
        }
        return Ok(());
    }
    let told = |(id, values): &(String, &KeyValues)| match (&values.reason, values.closed.first()) {
        (Some(reason), Some(first)) => {
            format!("key {id}: {} values do not open, first {first}: {reason}", values.unreadable())
        }
        _ => format!("key {id}: {} values in {} rows still need it", values.values, values.rows),
    };
    anyhow::bail!(
        "values remain that need another key or do not open. {}. Values that do not open were left untouched. If a service \
         still encrypts with an older key, give it the new ENCRYPTION_KEYS, restart it, and start this command again",
        others.iter().map(told).collect::<Vec<_>>().join("; ")
    )
}

async fn retire(context: &Context, id: &str, format: Format) -> anyhow::Result<()> {
    let mut bar = Bar::new("reading");
    let retired = context.retire_encryption_key(&operator(), context.now(), id, |step| bar.show(step)).await;
    bar.finish();
    match retired? {
        Retirement::Retired if format == Format::Json => {
            output::json(&serde_json::json!({ "id": id, "retired": true }))
        }
        Retirement::Retired => {
            report::done("retired", &format!("no stored value needs {id}"));
            report::say("  Remove it from ENCRYPTION_KEYS and restart the services. A backup from before still needs it.");
            Ok(())
        }
        Retirement::First => Err(CommandError::Usage(format!(
            "{id} is the first key of ENCRYPTION_KEYS, which encrypts; put another one first"
        ))
        .into()),
        Retirement::Unknown => Err(CommandError::NotFound(format!(
            "no stored value needs {id}, and no service has encrypted with it; `larkauth encryption-keys list` shows the keys"
        ))
        .into()),
        Retirement::Needed(values) => anyhow::bail!(
            "{} rows with {} values need {id}, and without it they are lost; run `larkauth encryption-keys rotate` first",
            values.rows,
            values.values
        ),
        Retirement::StillSealing { ago } => anyhow::bail!(
            "a process has encrypted with {id} within the last {} s; give every service the new ENCRYPTION_KEYS, restart \
             it, wait two minutes, and run `larkauth encryption-keys rotate` again",
            ago.as_secs() + 1
        ),
        Retirement::Waiting { messages } => anyhow::bail!(
            "{messages} messages wait that may hold values encrypted with {id}: messages of clicks, codes and tokens, dead \
             letters, and files of the spool; let the services finish them, and requeue or drop the dead letters"
        ),
    }
}

/// Progress over the tables: a line that is redrawn on a terminal, and elsewhere a line for each table.
struct Bar {
    what: &'static str,
    redrawn: report::Progress,
    on_terminal: bool,
    table: Option<Table>,
}

impl Bar {
    fn new(what: &'static str) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        Self { what, redrawn: report::Progress::new(), on_terminal, table: None }
    }

    fn show(&mut self, step: TableProgress) {
        if self.on_terminal {
            self.redrawn.show(&format!("{} {}", self.what, step.table), step.read, step.source);
        } else if self.table != Some(step.table) {
            self.table = Some(step.table);
            report::note(&format!("{} {}: {} rows", self.what, step.table, step.source));
        }
    }

    fn finish(&mut self) {
        self.redrawn.finish();
    }
}
