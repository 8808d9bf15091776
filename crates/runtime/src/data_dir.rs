//! The folder that standalone keeps everything in.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use larkauth_config::{ConfigError, EncryptionKey};
use larkauth_models::{Entropy, ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Its database.
const DATABASE: &str = "larkauth.db";
/// Its encryption keys, in the form of `ENCRYPTION_KEYS`.
const KEYS: &str = "encryption-keys";
/// Locked while a process works on the folder.
const LOCK: &str = "lock";

/// A data folder. Looking at it changes nothing.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

/// Keeps other processes from working on the folder. Gone with the process, however that ends.
#[derive(Debug)]
#[must_use = "the folder is free again when this is dropped"]
pub struct DataDirLock(#[expect(dead_code, reason = "held, not used")] File);

impl DataDir {
    /// This folder, whether it exists or not.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where the database is.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.0.join(DATABASE)
    }

    /// The folder that this database file is in.
    #[must_use]
    pub fn around(database: &Path) -> Self {
        let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self::new(folder.unwrap_or(Path::new(".")))
    }

    /// Its path without links and dots, if it is there.
    #[must_use]
    pub fn real_path(&self) -> Option<PathBuf> {
        fs::canonicalize(&self.0).ok()
    }

    /// Where its encryption keys are.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.0.join(KEYS)
    }

    /// Locks the folder, as [`DataDir::lock`] does, if a process ever locked it. Otherwise no process uses the folder, and
    /// nothing is created.
    ///
    /// # Errors
    /// As [`DataDir::lock`].
    pub fn lock_if_used(&self) -> anyhow::Result<Option<DataDirLock>> {
        if self.0.join(LOCK).exists() { self.lock().map(Some) } else { Ok(None) }
    }

    /// Makes the folder if it is not there, and takes it for this process.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written to.
    pub fn lock(&self) -> anyhow::Result<DataDirLock> {
        let folder = self.0.display();
        let unusable = |verb: &str, cure: &str, error: io::Error| ConfigError::Invalid {
            name: "DATA_DIR".to_owned(),
            problem: format!("the folder `{folder}` cannot be {verb} ({error})"),
            cure: cure.to_owned(),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|error| unusable("made", "choose another one", error))?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(self.0.join(LOCK))
            .map_err(|error| {
                unusable("written to", "correct its owner or mode, or choose another one", error)
            })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only for the message; the lock itself is what counts.
                let _ = file.read_to_string(&mut owner);
                let owner = owner.trim();
                let by = if owner.is_empty() { String::new() } else { format!(" (process {owner})") };
                bail!(
                    "another larkauth{by} is working on the data folder {folder}; stop it, or choose another folder with DATA_DIR"
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("the data folder {folder} cannot be locked"));
            }
        }
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(DataDirLock(file))
    }

    /// The folder's keys.
    ///
    /// # Errors
    /// When there are none, or they cannot be used.
    pub fn encryption_keys(&self) -> anyhow::Result<Vec<EncryptionKey>> {
        let path = self.key_file();
        let shown = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "there are no encryption keys at {shown}; put the file back, set ENCRYPTION_KEYS, or run `larkauth standalone` there first if nothing is stored yet"
            ),
            Err(error) => return Err(error).with_context(|| format!("{shown} cannot be read")),
        };
        let mode = fs::metadata(&path)?.permissions().mode();
        ensure!(mode & 0o077 == 0, "{shown} can be read by other users; run `chmod 600 {shown}`");
        EncryptionKey::read_list(text.trim()).with_context(|| shown.to_string())
    }

    /// The folder's keys, made now if this is a new folder.
    ///
    /// # Errors
    /// As [`DataDir::encryption_keys`], and when there is a database without its keys: new ones could not open it.
    pub fn encryption_keys_or_new(&self, entropy: &dyn Entropy) -> anyhow::Result<Vec<EncryptionKey>> {
        let path = self.key_file();
        if !path.exists() {
            ensure!(
                !self.database().exists(),
                "the database {} is there, but its encryption keys {} are not; put the key file back, nothing else opens the stored tokens",
                self.database().display(),
                path.display()
            );
            self.make_keys(&path, entropy)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            tracing::info!(path = %path.display(), "new encryption keys; keep a copy where the database's backups are not");
        }
        self.encryption_keys()
    }

    fn make_keys(&self, path: &Path, entropy: &dyn Entropy) -> io::Result<()> {
        // Never half a file under the final name, whenever the process is killed.
        let unfinished = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let key = base64_of(&entropy.secret_token());
        writeln!(file, "{}", Zeroizing::new(format!("main:{}", key.expose_secret())).as_str())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(&self.0)?.sync_all()
    }
}

/// A secret token is base64url of 32 bytes without padding; settings want the ordinary alphabet.
fn base64_of(token: &SecretString) -> SecretString {
    SecretString::from(format!("{}=", token.expose_secret().replace('-', "+").replace('_', "/")))
}

#[cfg(test)]
mod tests {
    use larkauth_models::SeededEntropy;

    use super::*;

    fn folder() -> (tempfile::TempDir, DataDir) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataDir::new(&temporary.path().join("data"));
        (temporary, folder)
    }

    #[test]
    fn lock_of_locked_folder_is_refused() {
        let (_temporary, folder) = folder();
        let lock = folder.lock().unwrap();
        let refused = folder.lock().unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())) && refused.contains("DATA_DIR"),
            "{refused}"
        );
        let around = DataDir::around(&folder.database());
        assert!(around.lock_if_used().is_err());
        drop(lock);
        drop(folder.lock().unwrap());
        assert!(around.lock_if_used().unwrap().is_some());
    }

    #[test]
    fn lock_if_used_of_unused_folder_creates_nothing() {
        let (_temporary, folder) = folder();
        assert!(folder.lock_if_used().unwrap().is_none());
        assert!(!folder.0.exists());
        assert_eq!(DataDir::around(Path::new("larkauth.db")).0, Path::new("."));
    }

    #[test]
    fn encryption_keys_are_created_once_with_mode_0600() {
        let (_temporary, folder) = folder();
        let _lock = folder.lock().unwrap();
        assert!(folder.encryption_keys().unwrap_err().to_string().contains("larkauth standalone"));
        let made = folder.encryption_keys_or_new(&SeededEntropy::new(1)).unwrap();
        let again = folder.encryption_keys_or_new(&SeededEntropy::new(2)).unwrap();
        assert_eq!(made[0].bytes(), again[0].bytes());
        let path = folder.key_file();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(folder.encryption_keys().unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn encryption_keys_or_new_with_database_but_no_keys_fails() {
        let (_temporary, folder) = folder();
        let _lock = folder.lock().unwrap();
        fs::write(folder.database(), "").unwrap();
        assert!(
            folder
                .encryption_keys_or_new(&SeededEntropy::new(1))
                .unwrap_err()
                .to_string()
                .contains("put the key file back")
        );
    }
}
