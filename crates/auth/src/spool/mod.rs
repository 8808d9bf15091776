//! Files of token pairs that neither store nor bus took.
//!
//! A full disk refuses the pair in the database first, so the spool needs space that is allocated before: [`reserve`] keeps
//! files of spaces, and a pair that finds no other space is written over one of them.

mod files;
mod reserve;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use tokio::task::spawn_blocking;

use self::files::{COMPLETE, UNFINISHED, ending_in, finish, present};

/// Files that the spool holds at most. A process has far fewer exchanges under way.
const MAX_FILES: usize = 1000;
/// Largest file, in bytes: two tokens of 8 KB, sealed and encoded, are well below.
const MAX_BYTES: u64 = 64 * 1024;
/// Ending of a file that cannot be read.
const BROKEN: &str = "broken";

/// What an incomplete reserve means, and the cure.
pub(crate) const SHORT: &str = "its reserve is not complete, so tokens may be lost when database and broker take none; free \
                                space on this disk, and check ESCROW_SPOOL_DIR";

/// A folder of messages that neither store nor bus took. A file is complete and on the disk before it has its name. Clones
/// share the folder.
#[derive(Clone, Debug)]
pub struct EscrowSpool {
    folder: PathBuf,
    /// The last attempt at the reserve failed, and was logged.
    is_short: Arc<AtomicBool>,
}

/// What is in the folder of a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolState {
    /// Messages that wait for the store.
    pub waiting: usize,
    /// Files that were set aside, because they hold no message.
    pub broken: usize,
    /// Files whose writing was interrupted.
    pub unfinished: usize,
    /// Files that are allocated for messages on a full disk.
    pub reserved: usize,
}

impl SpoolState {
    /// Number of files of a complete reserve.
    pub const RESERVE: usize = reserve::FILES;
}

impl EscrowSpool {
    /// Names the folder. Nothing is read or created.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, is_short: Arc::default() }
    }

    /// Writes a file, or replaces the file of this name with the same content. When the disk is full, or refuses the file
    /// for another reason, one of the reserve is used. A failure leaves no part of a file behind.
    pub(super) async fn keep(&self, name: String, body: impl AsRef<[u8]> + Send + 'static) -> io::Result<()> {
        self.run(move |folder| {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            if ending_in(folder, COMPLETE)?.len() >= MAX_FILES {
                return Err(io::Error::new(ErrorKind::StorageFull, "the spool is full"));
            }
            let Err(refused) = write_new(folder, &name, body.as_ref()) else { return Ok(()) };
            reserve::write(folder, &name, body.as_ref()).map_err(|error| {
                io::Error::new(refused.kind(), format!("{refused}; and its reserve: {error}"))
            })?;
            tracing::warn!(error = %refused, "auth.escrow.spool: no new file could be written, the reserve was used");
            Ok(())
        })
        .await
    }

    /// Allocates what is missing of the reserve. An attempt that fails is logged once, until one succeeds.
    ///
    /// # Errors
    /// When the folder cannot be used, or its disk is full.
    pub(super) async fn fill_reserve(&self) -> io::Result<()> {
        let filled = self.run(reserve::fill).await;
        match &filled {
            Ok(()) => self.is_short.store(false, Ordering::Relaxed),
            Err(error) if !self.is_short.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, folder = %self.folder.display(), "auth.escrow.spool: {SHORT}");
            }
            Err(_) => {}
        }
        filled
    }

    /// Returns what is in the folder. A folder that does not exist is empty.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn state(&self) -> io::Result<SpoolState> {
        self.run(|folder| {
            Ok(SpoolState {
                waiting: ending_in(folder, COMPLETE)?.len(),
                broken: ending_in(folder, BROKEN)?.len(),
                unfinished: ending_in(folder, UNFINISHED)?.len(),
                reserved: reserve::complete(folder)?,
            })
        })
        .await
    }

    /// Returns when the oldest message that waits for the store was written.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn oldest(&self) -> io::Result<Option<SystemTime>> {
        self.run(|folder| {
            let mut oldest: Option<SystemTime> = None;
            for name in ending_in(folder, COMPLETE)? {
                // Another process may have removed it meanwhile.
                let Some(data) = present(fs::metadata(folder.join(name)))? else { continue };
                let written = data.modified()?;
                oldest = Some(oldest.map_or(written, |known| known.min(written)));
            }
            Ok(oldest)
        })
        .await
    }

    /// Returns the names of all files, in no order.
    pub(super) async fn names(&self) -> io::Result<Vec<String>> {
        self.run(|folder| ending_in(folder, COMPLETE)).await
    }

    /// Returns the content of a file; empty when the file is too large to be one of the spool. `None` when another
    /// process has removed the file.
    pub(super) async fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.run(move |folder| {
            let path = folder.join(name);
            let size = present(fs::metadata(&path))?.map(|data| data.len());
            match size {
                None => Ok(None),
                Some(size) if size > MAX_BYTES => Ok(Some(Vec::new())),
                Some(_) => present(fs::read(path)).map(|body| body.map(reserve::trimmed)),
            }
        })
        .await
    }

    /// Removes a file.
    pub(super) async fn remove(&self, name: &str) -> io::Result<()> {
        let name = name.to_owned();
        self.run(move |folder| {
            if present(fs::remove_file(folder.join(name)))?.is_some() {
                File::open(folder)?.sync_all()?;
            }
            Ok(())
        })
        .await
    }

    /// Gives a file that cannot be read another ending, for an operator.
    pub(super) async fn set_aside(&self, name: &str) -> io::Result<()> {
        let name = name.to_owned();
        self.run(move |folder| {
            let path = folder.join(name);
            present(fs::rename(&path, path.with_extension(BROKEN))).map(drop)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let folder = self.folder.clone();
        spawn_blocking(move || work(&folder)).await.map_err(io::Error::other)?
    }
}

/// Writes a file that takes space of its own.
fn write_new(folder: &Path, name: &str, body: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(name).with_extension(UNFINISHED);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(body).and_then(|()| file.sync_all()))
        .and_then(|()| finish(folder, name, &unfinished));
    if written.is_err() {
        // Its name leads to no tokens, and it would take room from the next attempt.
        let _ = fs::remove_file(&unfinished);
    }
    written
}
