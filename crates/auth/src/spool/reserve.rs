//! Space that is allocated before it is needed: files of spaces, as long as a message at most is. A message is written over
//! the beginning of one, which allocates nothing, and the rest stays: JSON permits spaces at its end.
//!
//! A file system that never writes in place (Btrfs, ZFS) allocates for this, too, so there the reserve holds nothing back.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::files::{UNFINISHED, ending_in, finish, present};

/// Files of the reserve: as many pairs fit a full disk.
pub(super) const FILES: usize = 64;
/// Size of each, in bytes: two tokens of 8 KB, sealed and encoded, fit.
pub(super) const BYTES: usize = 32 * 1024;
/// Ending of a file of the reserve.
const RESERVE: &str = "reserve";
/// File that is being allocated, by the process that has locked the folder.
const FILLING: &str = "filling.tmp";
/// Length of a name of the reserve. None is shorter than the name of a message, so that the folder does not grow when a
/// file is renamed.
const NAME_LENGTH: usize = 60;

/// Writes a message over a file of the reserve.
///
/// # Errors
/// [`ErrorKind::StorageFull`] when the message is too large, or the reserve is used up.
pub(super) fn write(folder: &Path, name: &str, message: &[u8]) -> io::Result<()> {
    if message.len() > BYTES {
        return Err(io::Error::new(
            ErrorKind::StorageFull,
            "the message is larger than a file of the reserve",
        ));
    }
    let unfinished = folder.join(name).with_extension(UNFINISHED);
    for reserved in ending_in(folder, RESERVE)? {
        // Only one writer renames it.
        if present(fs::rename(folder.join(reserved), &unfinished))?.is_none() {
            continue;
        }
        let written = OpenOptions::new()
            .write(true)
            .open(&unfinished)
            .and_then(|mut file| file.write_all(message).and_then(|()| file.sync_all()))
            .and_then(|()| finish(folder, name, &unfinished));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        return written;
    }
    Err(io::Error::new(ErrorKind::StorageFull, "it is used up"))
}

/// Returns the message without the spaces that follow it.
pub(super) fn trimmed(mut content: Vec<u8>) -> Vec<u8> {
    content.truncate(content.trim_ascii_end().len());
    content
}

/// Returns the number of files of the reserve.
pub(super) fn complete(folder: &Path) -> io::Result<usize> {
    Ok(ending_in(folder, RESERVE)?.len())
}

/// Allocates the missing files, unless another process does at this moment.
pub(super) fn fill(folder: &Path) -> io::Result<()> {
    if complete(folder)? >= FILES {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let filling = folder.join(FILLING);
    let lock = File::open(folder)?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    for number in 0..FILES {
        let reserved = folder.join(format!("{number:0NAME_LENGTH$}")).with_extension(RESERVE);
        if reserved.exists() {
            continue;
        }
        let allocated = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&filling)
            .and_then(|mut file| file.write_all(&[b' '; BYTES]).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&filling, &reserved));
        if let Err(error) = allocated {
            let _ = fs::remove_file(&filling);
            return Err(error);
        }
    }
    lock.sync_all()
}
