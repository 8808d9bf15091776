//! This side. Opens each part alone, so that one broken part hides no other.

use larkauth_auth::{EscrowSpool, SpoolState, check_writes};
use larkauth_config::Settings;
use larkauth_contracts::topology::Queue;
use larkauth_models::{Application, Clock, SystemClock};
use larkauth_runtime::{Broker, Database, cipher, no_cipher, no_writes};
use larkauth_storage::{Cipher, KeyUse, Registration};
use larkauth_telemetry::Metrics;

use super::{
    deadline::with_deadline,
    finding::{Finding, page},
};
use crate::output::time;

/// Returns the warnings of the settings. Unreadable settings end the command before this check.
pub(super) fn settings(settings: &Settings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = settings
        .warnings
        .iter()
        .map(|warning| Finding::doubtful("settings", warning.clone()).page(page::THIS_SIDE))
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok("settings", "complete and readable"));
    }
    findings
}

/// Checks the database, the encryption keys and the API keys. Returns the stored applications, if they can be read.
pub(super) async fn store(settings: &Settings) -> (Option<Vec<Application>>, Vec<Finding>) {
    let database = match Database::of(settings) {
        Ok(database) => database,
        Err(error) => return (None, vec![wrong("database", &error)]),
    };
    if let Database::Sqlite(path) = &database
        && !path.exists()
    {
        let none = format!("there is none yet at {}", path.display());
        let finding = Finding::doubtful("database", none)
            .cure("`larkauth standalone` makes it on its first start, or set DATABASE_URL", page::THIS_SIDE);
        return (Some(Vec::new()), vec![finding]);
    }
    let shown = match &database {
        Database::Postgres(_) => "PostgreSQL answers".to_owned(),
        Database::Sqlite(path) => format!("{} can be opened", path.display()),
    };
    let schema = with_deadline(async {
        let store = database.open(settings, false, no_cipher()?).await?;
        let checked = store.check_schema().await;
        store.shared().close().await;
        checked
    });
    let schema = match schema.await {
        Ok(newer) if newer.is_empty() => "its schema is up to date".to_owned(),
        Ok(newer) => {
            format!("its schema has migrations {newer:?} of a newer release, beside which this one works")
        }
        Err(error) => return (None, vec![wrong("database", &error)]),
    };
    let mut findings = vec![Finding::ok("database", format!("{shown}, {schema}"))];
    let cipher = match cipher(settings) {
        Ok(cipher) => cipher,
        Err(error) => {
            findings.push(wrong("encryption keys", &error));
            return (None, findings);
        }
    };
    let contents = with_deadline(async {
        let store = database.open(settings, false, cipher.clone()).await?.shared();
        let contents = (
            check_writes(&*store, SystemClock.now()).await,
            store.applications().await,
            store.api_keys().await,
            store.key_uses().await,
        );
        store.close().await;
        Ok(contents)
    });
    match contents.await {
        Err(error) => findings.push(wrong("database", &error)),
        Ok((writes, apps, api_keys, key_uses)) => {
            match key_uses {
                Ok(uses) => findings.extend(missing_keys(&cipher, &uses)),
                Err(error) => findings.push(wrong("encryption keys", &error.into())),
            }
            if let Err(error) = writes {
                findings.push(Finding::wrong("database writes", no_writes(&error)).page(page::HEALTH));
            }
            match api_keys {
                Ok(keys) => findings
                    .push(api_keys_of(settings, keys.iter().filter(|k| k.revoked_at.is_none()).count())),
                Err(error) => findings.push(wrong("API keys", &error.into())),
            }
            match apps {
                Ok(stored) => {
                    let (apps, of_keys) = opened(stored);
                    findings.splice(1..1, of_keys);
                    findings.extend(apps.iter().flatten().filter_map(breaker));
                    return (apps, findings);
                }
                Err(error) => findings.push(wrong("applications", &error.into())),
            }
        }
    }
    (None, findings)
}

/// Returns the applications that the keys decrypt, and a finding for each other one. `None` when the keys decrypt none
/// of several.
fn opened(stored: Vec<Registration>) -> (Option<Vec<Application>>, Vec<Finding>) {
    let (mut apps, mut findings) = (Vec::new(), Vec::new());
    for Registration { application, .. } in stored {
        match application {
            Ok(app) => apps.push(app),
            Err(error) => findings.push(Finding::wrong("encryption keys", error.to_string()).cure(
                "restore the keys that encrypted it, nothing else decrypts it; or register the application again with \
                 `larkauth apps add`",
                page::THIS_SIDE,
            )),
        }
    }
    if apps.is_empty() && !findings.is_empty() {
        return (None, findings);
    }
    if findings.is_empty() {
        let detail = match apps.len() {
            0 => "readable; nothing is stored yet that they could decrypt".to_owned(),
            1 => "they decrypt the stored application".to_owned(),
            n => format!("they decrypt the {n} stored applications"),
        };
        findings.push(Finding::ok("encryption keys", detail));
    }
    (Some(apps), findings)
}

/// Returns a finding for each key that stored values may need and the settings lack.
fn missing_keys(cipher: &Cipher, uses: &[KeyUse]) -> Vec<Finding> {
    let missing = uses.iter().filter(|known| !cipher.has_key(&known.key_id));
    let finding = |known: &KeyUse| {
        let detail = format!("stored values may need the key {}, which is not among them", known.key_id);
        Finding::wrong("encryption keys", detail).cure(
            "put it back into ENCRYPTION_KEYS; `larkauth encryption-keys list` shows how many values need it, and \
             `larkauth encryption-keys retire` retires it when none does",
            page::ENCRYPTION_KEYS,
        )
    };
    missing.map(finding).collect()
}

/// Returns a finding for an application whose breaker is open.
fn breaker(app: &Application) -> Option<Finding> {
    let (since, reason) = (app.frozen_since?, app.frozen_reason.as_deref().unwrap_or_default());
    let detail = format!(
        "open since {}: {reason}; it invites no person, and its tokens are not refreshed",
        time(since)
    );
    Some(Finding::doubtful(format!("{} breaker", app.app_id), detail).cure(
        "correct the application in Lark's console; one call tries again every five minutes, and `larkauth apps add` closes \
         the breaker at once. `larkauth horizon` lists who loses access meanwhile",
        page::CREDENTIALS,
    ))
}

fn api_keys_of(settings: &Settings, active: usize) -> Finding {
    match (active, &settings.http.api_key) {
        (0, None) => Finding::doubtful("API keys", "there is none, so the REST API refuses every request")
            .cure("run `larkauth keys create`, or set API_KEY", page::THIS_SIDE),
        (0, Some(_)) => Finding::ok("API keys", "API_KEY"),
        (active, Some(_)) => Finding::ok("API keys", format!("{active} active, and API_KEY")),
        (active, None) => Finding::ok("API keys", format!("{active} active")),
    }
}

/// Checks the broker with its queues, and reports waiting dead letters.
pub(super) async fn broker(settings: &Settings) -> Vec<Finding> {
    const CURE: &str =
        "`larkauth standalone` makes its own on its first start; separate services need AMQP_URL";
    let broker = match Broker::of(settings) {
        Ok(broker) => broker,
        Err(_) => {
            return vec![Finding::doubtful("broker", "AMQP_URL is not set").cure(CURE, page::THIS_SIDE)];
        }
    };
    let name = match &broker {
        Broker::RabbitMq(_) => "RabbitMQ",
        Broker::Embedded(path) if !path.exists() => {
            let none = "AMQP_URL is not set, and there is no embedded bus yet";
            return vec![Finding::doubtful("broker", none).cure(CURE, page::THIS_SIDE)];
        }
        Broker::Embedded(_) => "the bus in the database file",
    };
    let looked = with_deadline(async {
        let bus = broker.open(settings, Metrics::new()?).await?;
        let mut waiting = 0;
        for queue in Queue::ALL {
            waiting += bus.depth(*queue).await?;
        }
        let dead = bus.dead_letter_depth().await?;
        bus.close().await;
        Ok((waiting, dead))
    });
    match looked.await {
        Err(error) => vec![wrong("broker", &error)],
        Ok((waiting, dead)) => {
            let detail = format!("{name} answers, its queues are in place; messages waiting: {waiting}");
            let mut findings = vec![Finding::ok("broker", detail)];
            if dead > 0 {
                let finding =
                    Finding::doubtful("dead letters", format!("messages that could not be handled: {dead}"));
                findings
                    .push(finding.cure("look at them with `larkauth dead-letters list`", page::THIS_SIDE));
            }
            findings
        }
    }
}

/// Reports what is in the folder for tokens that neither database nor broker takes, and how many more it holds on a full
/// disk.
pub(super) async fn spool(settings: &Settings) -> Finding {
    let folder = settings.escrow_spool_dir.display();
    let spool = EscrowSpool::new(settings.escrow_spool_dir.clone());
    let looked = async { Ok((spool.state().await?, spool.oldest().await?)) };
    let (state, oldest) = match looked.await {
        Ok(looked) => looked,
        Err::<_, std::io::Error>(error) => {
            return Finding::wrong("escrow spool", format!("{folder} cannot be read: {error}")).cure(
                "let the account that runs larkauth read and write it, or change ESCROW_SPOOL_DIR",
                page::THIS_SIDE,
            );
        }
    };
    if state == SpoolState::default() {
        let detail = format!("{folder} is empty; each service makes its reserve after its start");
        return Finding::ok("escrow spool", detail);
    }
    let SpoolState { waiting, broken, unfinished, reserved } = state;
    let since = oldest.map_or_else(String::new, |at| format!(" since {}", time(at.into())));
    let detail = format!(
        "{folder}: {waiting} pairs of tokens wait for the database{since}, {broken} files are unreadable, {unfinished} are \
         unfinished, {reserved} of {} are reserved for a full disk",
        SpoolState::RESERVE
    );
    let cure = if waiting > 0 {
        "a running service stores them as soon as the database takes them: keep the folder, and correct the database"
    } else if broken + unfinished > 0 {
        "keep them until the people concerned are known, from the log; they have to consent again"
    } else if reserved < SpoolState::RESERVE {
        "free space on this disk; a running service completes the reserve"
    } else {
        return Finding::ok("escrow spool", detail);
    };
    Finding::doubtful("escrow spool", detail).cure(cure, page::THIS_SIDE)
}

/// Errors of this project's parts name the cure themselves.
fn wrong(check: &str, error: &anyhow::Error) -> Finding {
    Finding::wrong(check, format!("{error:#}")).page(page::THIS_SIDE)
}
