//! Transfer of all rows from one database to another: checks, copy, comparison.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};
use larkauth_auth::EscrowSpool;
use larkauth_config::Settings;
use larkauth_messaging_sqlite::EmbeddedBus;
use larkauth_runtime::{AnyStore, DataDir, DataDirLock, Database, cipher_of, no_cipher};
use larkauth_storage::{
    Cipher, MigrationReport, MissingKey, missing_keys,
    transfer::{ComparedTable, TableProgress, TransferredTable, compare, transfer},
};

use super::{
    schema::migrate,
    summary::{Moved, Summary},
};
use crate::{exit::CommandError, report};

pub(super) async fn run(from: &Database, to: &Database, settings: &Settings) -> anyhow::Result<ExitCode> {
    let _locks = lock_folders([from, to], settings)?;
    if let Database::Sqlite(path) = from
        && !path.exists()
    {
        let message = format!("--from: there is no database at {}; correct the path", path.display());
        return Err(CommandError::Usage(message).into());
    }
    if from.is_same(to, settings).await? {
        let message = "--from is the database that everything would be copied to, maybe under another address; name the target \
                       with --to, or with DATABASE_URL"
            .to_owned();
        return Err(CommandError::Usage(message).into());
    }
    let source = from.open(settings, false, no_cipher()?).await.context("the source")?;
    let newer = source.check_schema().await.context("the source; migrate it first")?;
    ensure!(
        newer.is_empty(),
        "the source: migrations {newer:?} are of a newer release, of which this one would copy only what it knows; \
         move with that release"
    );
    if let Database::Sqlite(path) = from {
        nothing_is_queued(path).await?;
    }
    nothing_is_spooled(from, settings).await?;
    keys_open(&source, from, to, settings).await?;
    let (target, migrated) = migrate(to, settings).await.context("the target")?;
    let copied = copy(&source, &target).await?;
    let compared = compared(&source, &target).await?;
    let same = compared.iter().all(ComparedTable::is_same);
    if same {
        report::done(
            "everything is there, and the same",
            "point DATABASE_URL at the target, with the same ENCRYPTION_KEYS",
        );
    }
    report::result(&summary(&migrated, &copied, &compared), || {});
    ensure!(
        same,
        "the target is not the same as the source, and was left as it is; stop all services and run this again. Rows \
         that still differ are older or newer than the source's: keep them if the target has been in use since, else \
         start over with an empty target"
    );
    Ok(ExitCode::SUCCESS)
}

/// Locks the data folders of both databases, so that no standalone process uses them during the transfer.
fn lock_folders(databases: [&Database; 2], settings: &Settings) -> anyhow::Result<Vec<DataDirLock>> {
    // The key is the path without links and dots, because a process cannot lock one folder twice.
    let mut folders = BTreeMap::new();
    let mut add = |folder: DataDir| folder.real_path().map(|path| folders.insert(path, folder));
    add(DataDir::new(&settings.data_dir));
    for database in databases {
        if let Database::Sqlite(path) = database {
            add(DataDir::around(path));
        }
    }
    folders.values().filter_map(|folder| folder.lock_if_used().transpose()).collect()
}

/// Checks that no message is queued. Messages are not transferred, so a queued click, card or code would never be
/// handled.
async fn nothing_is_queued(path: &Path) -> anyhow::Result<()> {
    let backlog = EmbeddedBus::backlog(path).await.context("the source")?;
    ensure!(
        backlog.queued == 0,
        "messages that are still to be handled: {} in {}, and messages do not move; start `larkauth standalone` there \
         once more, give it a minute to finish, stop it, and run this again",
        backlog.queued,
        path.display()
    );
    if backlog.dead > 0 {
        report::warn(&format!(
            "dead letters that stay behind: {} in {}; `larkauth dead-letters` shows, requeues and drops them as long as \
             it works on the source",
            backlog.dead,
            path.display()
        ));
    }
    Ok(())
}

/// Checks that no token pair waits in a spool of this machine. Spools are not transferred: the pair would stay behind, and
/// the refresh token in the database is used up.
async fn nothing_is_spooled(from: &Database, settings: &Settings) -> anyhow::Result<()> {
    let mut folders = BTreeSet::from([settings.escrow_spool_dir.clone()]);
    if let Database::Sqlite(path) = from {
        folders.extend(path.parent().map(|folder| folder.join("escrow")));
    }
    for folder in folders {
        let state = EscrowSpool::new(folder.clone()).state().await;
        let waiting = state.with_context(|| format!("the spool {}", folder.display()))?.waiting;
        ensure!(
            waiting == 0,
            "tokens that the database has not taken yet: {waiting} in the spool {}, and they do not move; start the services \
             (`larkauth standalone`) there once more, give them a minute, stop them, and run this again",
            folder.display()
        );
    }
    Ok(())
}

/// Checks that the keys of the target's services open the sealed values, which are copied unchanged.
async fn keys_open(
    source: &AnyStore,
    from: &Database,
    to: &Database,
    settings: &Settings,
) -> anyhow::Result<()> {
    let cipher = target_cipher(to, settings)?;
    let has_keys = cipher.is_some();
    let cipher = cipher.map_or_else(no_cipher, Ok)?;
    let closed = missing_keys(source.transfer(), &cipher).await.context("the source")?;
    if closed.is_empty() {
        return Ok(());
    }
    if !has_keys {
        return Err(CommandError::Usage(format!(
            "ENCRYPTION_KEYS is not set, and without the source's keys the target cannot open what is stored; set \
             ENCRYPTION_KEYS_FILE={}",
            key_file(from).unwrap_or_else(|| "FILE, with the keys of the source's services in it".to_owned())
        ))
        .into());
    }
    let told = |key: &MissingKey| format!("{} sealed values: {}", key.values, key.reason);
    let reasons = closed.iter().map(told).collect::<Vec<_>>().join("; ");
    bail!("nothing was copied, because the target's keys do not open what is stored. {reasons}");
}

/// Returns the cipher with the keys of the target's services, or `None` when they have no keys.
fn target_cipher(to: &Database, settings: &Settings) -> anyhow::Result<Option<Cipher>> {
    if !settings.encryption.keys.is_empty() {
        return cipher_of(&settings.encryption.keys).map(Some);
    }
    match to {
        Database::Sqlite(path) if DataDir::around(path).key_file().exists() => {
            cipher_of(&DataDir::around(path).encryption_keys()?).map(Some)
        }
        _ => Ok(None),
    }
}

fn key_file(from: &Database) -> Option<String> {
    let Database::Sqlite(path) = from else { return None };
    let file = DataDir::around(path).key_file();
    file.exists().then(|| file.display().to_string())
}

fn summary(migrated: &MigrationReport, copied: &[TransferredTable], compared: &[ComparedTable]) -> Summary {
    let moved = |(copied, compared): (&TransferredTable, &ComparedTable)| Moved {
        table: copied.table.name(),
        rows: copied.read,
        inserted: copied.inserted,
        missing: compared.missing,
        differing: compared.differing,
    };
    // Both lists are in the order of `Table::ALL`.
    Summary { tables: copied.iter().zip(compared).map(moved).collect(), ..Summary::of(migrated) }
}

async fn copy(source: &AnyStore, target: &AnyStore) -> anyhow::Result<Vec<TransferredTable>> {
    let mut bar = report::Progress::new();
    let copied = transfer(source.transfer(), target.transfer(), |now: TableProgress| {
        bar.show(now.table.name(), now.read, now.source);
    })
    .await;
    bar.finish();
    let copied = copied?;
    for table in &copied {
        report::done(table.table.name(), &format!("{} rows, {} of them new", table.read, table.inserted));
    }
    Ok(copied)
}

async fn compared(source: &AnyStore, target: &AnyStore) -> anyhow::Result<Vec<ComparedTable>> {
    let mut bar = report::Progress::new();
    let compared = compare(source.transfer(), target.transfer(), |now: TableProgress| {
        bar.show(&format!("comparing {}", now.table), now.read, now.source);
    })
    .await;
    bar.finish();
    let compared = compared?;
    for table in compared.iter().filter(|table| !table.is_same()) {
        let ComparedTable { missing, differing, first, .. } = table;
        let more = if missing + differing > first.len() as u64 { ", …" } else { "" };
        let detail = format!("{missing} rows are missing, {differing} differ: {}{more}", first.join(", "));
        report::wrong(table.table.name(), &detail);
    }
    Ok(compared)
}
