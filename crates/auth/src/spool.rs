use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

/// Files that the spool holds at most. A process has far fewer exchanges under way.
const MAX_FILES: usize = 1000;
/// Largest file, in bytes: two tokens of 8 KB, sealed and encoded, are well below.
const MAX_BYTES: u64 = 64 * 1024;
/// Ending of a complete file.
const COMPLETE: &str = "escrow";
/// Ending of a file that is being written.
const UNFINISHED: &str = "new";
/// Ending of a file that cannot be read.
const BROKEN: &str = "broken";

/// A folder of messages that neither store nor bus took. The folder is created with the first one. A file is complete and
/// on the disk before it has its name.
#[derive(Clone, Debug)]
pub struct EscrowSpool(PathBuf);

impl EscrowSpool {
    /// Names the folder. Nothing is read or created.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Writes a file, or replaces the file of this name with the same content.
    pub(super) async fn keep(&self, name: String, body: impl AsRef<[u8]> + Send + 'static) -> io::Result<()> {
        self.run(move |folder| {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            if complete(folder)?.len() >= MAX_FILES {
                return Err(io::Error::new(ErrorKind::StorageFull, "the spool is full"));
            }
            let path = folder.join(&name);
            let unfinished = path.with_extension(UNFINISHED);
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(body.as_ref())?;
            file.sync_all()?;
            fs::rename(&unfinished, path.with_extension(COMPLETE))?;
            File::open(folder)?.sync_all()
        })
        .await
    }

    /// Returns the names of all files, in no order.
    pub(super) async fn names(&self) -> io::Result<Vec<String>> {
        self.run(complete).await
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
                Some(_) => present(fs::read(path)),
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
        let folder = self.0.clone();
        spawn_blocking(move || work(&folder)).await.map_err(io::Error::other)?
    }
}

/// Returns the names of the complete files.
fn complete(folder: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = present(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|ending| ending == COMPLETE) {
            names.extend(name.into_string());
        }
    }
    Ok(names)
}

/// Maps "not found" to `None`.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn spool_file_is_kept_once_until_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data").join("escrow");
        let spool = EscrowSpool::new(folder.clone());
        assert_eq!(spool.names().await.unwrap(), [""; 0]);
        assert!(!folder.exists(), "looking creates nothing");
        for _ in 0..2 {
            spool.keep("escrow-1".to_owned(), "body").await.unwrap();
        }
        fs::write(folder.join("escrow-2.new"), "half").unwrap();
        assert_eq!(spool.names().await.unwrap(), ["escrow-1.escrow"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("escrow-1.escrow"))), (0o700, 0o600));
        assert_eq!(spool.read("escrow-1.escrow").await.unwrap().as_deref(), Some(&b"body"[..]));
        for _ in 0..2 {
            spool.remove("escrow-1.escrow").await.unwrap();
        }
        assert_eq!(spool.read("escrow-1.escrow").await.unwrap(), None);
        assert_eq!(spool.names().await.unwrap(), [""; 0]);
    }

    #[tokio::test]
    async fn spool_full_folder_refuses_and_set_aside_file_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let spool = EscrowSpool::new(folder.path().to_owned());
        for number in 0..MAX_FILES {
            fs::write(folder.path().join(format!("{number}.escrow")), "").unwrap();
        }
        let refused = spool.keep("one-more".to_owned(), "").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        for _ in 0..2 {
            spool.set_aside("7.escrow").await.unwrap();
        }
        spool.keep("one-more".to_owned(), "").await.unwrap();
        fs::write(folder.path().join("8.escrow"), vec![0; 100_000]).unwrap();
        assert_eq!(spool.read("8.escrow").await.unwrap(), Some(Vec::new()));
    }
}
