use larkauth_auth::{AuthError, Context};
use larkauth_storage::StorageError;
use larkauth_telemetry::{Health, HealthHandle};

/// Reports whether the database answers, which corrects the clock of the process, and whether this process has the keys of its values, on which readiness depends;
/// and whether it takes writes.
pub(crate) struct DatabaseProbe {
    context: Context,
    answers: HealthHandle,
    writes: HealthHandle,
    keys: HealthHandle,
}

impl DatabaseProbe {
    pub(crate) fn new(context: Context, health: &Health) -> Self {
        Self {
            context,
            answers: health.register_required("database"),
            writes: health.register("database_writes"),
            keys: health.register_required("encryption_keys"),
        }
    }

    pub(crate) async fn look(&self) {
        let answer = self.context.ping_database().await;
        self.context.metrics().database_up(answer.is_ok());
        if let Err(error) = answer {
            self.context.metrics().database_writable(false);
            self.answers.set_not_ready(error.to_string());
            self.writes.set_not_ready("the database does not answer");
            return;
        }
        self.answers.set_ready();
        let writes = self.context.check_database_writes().await;
        self.context.metrics().database_writable(writes.is_ok());
        match writes {
            Ok(()) => self.writes.set_ready(),
            Err(error) => self.writes.set_not_ready(no_writes(&error)),
        }
        self.look_at_keys().await;
    }

    async fn look_at_keys(&self) {
        self.context.note_encryption_key().await;
        match self.context.look_at_encryption_keys().await {
            Ok(missing) if missing.is_empty() => self.keys.set_ready(),
            Ok(missing) => {
                let key_ids = missing.to_vec();
                self.keys.set_not_ready(AuthError::EncryptionKeyMissing { key_ids }.to_string());
            }
            // The database is reported by its own part.
            Err(error) => tracing::debug!(%error, "runtime.encryption_keys"),
        }
    }
}

/// Returns why a database that answers takes no writes, and the cure.
pub fn no_writes(error: &StorageError) -> String {
    let why = match error {
        StorageError::Unavailable { message, .. } => message.clone(),
        error => error.to_string(),
    };
    format!(
        "the database answers and takes no writes ({why}); stored tokens are served, everything else waits: free \
         the disk if it is full, let DATABASE_URL lead to the primary server, promote this standby, or unset \
         default_transaction_read_only"
    )
}
