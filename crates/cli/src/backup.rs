//! `larkauth backup`: a consistent copy of the SQLite file, while everything runs.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use larkauth_config::Settings;
use larkauth_models::{ExposeSecret, SecretString};
use larkauth_runtime::{AnyStore, DataDir, Database, no_cipher, shutdown_signal};
use serde::Serialize;
use url::Url;

use crate::{
    exit::CommandError,
    globals::{Globals, connected, operator},
    report,
};

/// Files that SQLite would read together with a database of this name.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Copy the database into a new file, while everything runs
///
/// The copy is the state of one moment: applications, people, tokens, and the queues of the embedded bus. It is read again and
/// verified before it gets its name. The encryption keys are not in it, and without them no token in it can be read: keep both,
/// never in one place. PostgreSQL has its own tools: the command then says which one to run, and ends with 2. What a restored
/// backup means for the people in it: docs/operations/backup.md.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth backup /var/backups/larkauth-$(date +%F).db\n  DATA_DIR=/srv/larkauth larkauth backup larkauth.db --json"
)]
pub(crate) struct Arguments {
    /// The file to create, with mode 0600; an existing one is never replaced
    file: PathBuf,
}

/// The result for output.
#[derive(Serialize)]
struct BackupView<'a> {
    file: &'a Path,
    bytes: u64,
    schema_version: i64,
    /// Ids of the keys that this command was given.
    encryption_keys: Vec<String>,
    /// The file with the keys, unless they are a setting.
    encryption_keys_file: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments, globals: &Globals) -> anyhow::Result<ExitCode> {
    let settings = globals.settings()?;
    let database = Database::of(&settings)?;
    if let Database::Postgres(url) = &database {
        return Err(CommandError::Usage(pg_dump(url, &arguments.file)).into());
    }
    let target = &arguments.file;
    refuse_companion(target)?;
    refuse_existing(target)?;
    let stopped = shutdown_signal();
    let work = Box::pin(connected(&settings, async |context| {
        if let Err(error) = context.note_backup(&operator(), context.now()).await {
            // A full disk takes no record; the backup may go to another one.
            report::warn(&format!("the backup is not in the audit log: {error}"));
        }
        copy(&database, &settings, target).await
    }));
    let backup = tokio::select! {
        copied = work => copied?,
        () = stopped => bail!("stopped; there is no backup at {}", target.display()),
    };
    let keys = keys(&settings)?;
    report::done("copied and verified", &format!("{}, {} bytes", target.display(), backup.bytes));
    report::say(&format!(
        "Without the encryption keys ({}) no token in it can be read: keep {}, in another place than the backup.",
        keys.ids.join(", "),
        keys.file.as_ref().map_or_else(|| "ENCRYPTION_KEYS".to_owned(), |file| file.display().to_string()),
    ));
    let view = BackupView {
        file: target,
        bytes: backup.bytes,
        schema_version: backup.version,
        encryption_keys: keys.ids,
        encryption_keys_file: keys.file,
    };
    report::result(&view, || {});
    Ok(ExitCode::SUCCESS)
}

/// Fails when SQLite would take the file for a part of a database: it deletes, overwrites or replays such a file when that
/// database is opened.
fn refuse_companion(target: &Path) -> Result<(), CommandError> {
    let name = target.file_name().unwrap_or_default().as_encoded_bytes();
    match COMPANIONS.iter().find(|suffix| name.ends_with(suffix.as_bytes())) {
        Some(suffix) => Err(CommandError::Usage(format!(
            "{} ends with {suffix}: SQLite takes such a file for a part of a database and deletes it; give another name",
            target.display()
        ))),
        None => Ok(()),
    }
}

/// Fails when the file exists, or a file that SQLite would read with it.
fn refuse_existing(target: &Path) -> Result<(), CommandError> {
    let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
    let mut found = exists(target).then(|| target.to_owned());
    for suffix in COMPANIONS {
        let mut beside = target.as_os_str().to_owned();
        beside.push(suffix);
        found = found.or_else(|| exists(Path::new(&beside)).then(|| PathBuf::from(beside)));
    }
    found.map_or(Ok(()), |found| {
        Err(CommandError::Usage(format!("{} exists; give the name of a new file", found.display())))
    })
}

/// Size and schema of a copy.
struct Copied {
    bytes: u64,
    version: i64,
}

/// Copies into a file that has no name of a backup until it is complete, verified and on the disk.
async fn copy(database: &Database, settings: &Settings, target: &Path) -> anyhow::Result<Copied> {
    let AnyStore::Sqlite(store) = database.open(settings, false, no_cipher()?).await? else {
        bail!("DATABASE_URL is not an SQLite database");
    };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unwritten = || format!("the folder {} cannot be written to", folder.display());
    // Created with mode 0600, and removed unless it gets its name.
    let file = tempfile::Builder::new()
        .prefix(".larkauth-backup-")
        .tempfile_in(folder)
        .with_context(unwritten)?
        .into_temp_path();
    let copied = store.backup(&file).await;
    AnyStore::Sqlite(store).shared().close().await;
    let copied = copied?;
    file.persist_noclobber(target).map_err(|failed| match failed.error.kind() {
        io::ErrorKind::AlreadyExists => {
            CommandError::Usage(format!("{} exists; give the name of a new file", target.display())).into()
        }
        _ => anyhow::Error::from(failed.error).context(unwritten()),
    })?;
    // The name survives a power failure, too.
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(unwritten)?;
    Ok(Copied { bytes: copied.bytes, version: copied.version })
}

/// The keys that the backup needs.
struct Keys {
    ids: Vec<String>,
    file: Option<PathBuf>,
}

fn keys(settings: &Settings) -> anyhow::Result<Keys> {
    let ids = larkauth_runtime::cipher(settings)?.key_ids().map(str::to_owned).collect();
    let is_set = !settings.encryption.keys.is_empty();
    Ok(Keys { ids, file: (!is_set).then(|| DataDir::new(&settings.data_dir).key_file()) })
}

/// Returns the command that copies a PostgreSQL database. The password is not in it: arguments are seen by other users.
fn pg_dump(url: &SecretString, file: &Path) -> String {
    let address = Url::parse(url.expose_secret()).ok().and_then(|mut url| {
        url.set_password(None).ok()?;
        let others: Vec<_> = url
            .query_pairs()
            .filter(|(name, _)| name != "password")
            .map(|(n, v)| (n.into_owned(), v.into_owned()))
            .collect();
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(others);
        }
        Some(url.to_string())
    });
    format!(
        "DATABASE_URL is a PostgreSQL database, which has its own tool; run `(umask 077 && pg_dump --format=custom --no-owner \
         --no-privileges --file={} --dbname={})` with the password in PGPASSWORD or ~/.pgpass, and keep ENCRYPTION_KEYS in \
         another place",
        quoted(&file.display().to_string()),
        quoted(&address.unwrap_or_else(|| "DATABASE_URL".to_owned())),
    )
}

/// Quotes a word for a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pg_dump_command_shows_no_password() {
        for url in [
            "postgres://larkauth:s3cret@db:5433/larkauth?sslmode=require",
            "postgres://larkauth@db:5433/larkauth?sslmode=require&password=s3cret",
        ] {
            let said = pg_dump(&SecretString::from(url), Path::new("it's.dump"));
            assert!(
                said.contains("--dbname='postgres://larkauth@db:5433/larkauth?sslmode=require'"),
                "{said}"
            );
            assert!(said.contains(r"--file='it'\''s.dump'") && !said.contains("s3cret"), "{said}");
        }
    }
}
