//! Encryption keys: which the stored values need, sealing the values again with another key, and retiring a key.

use std::{collections::BTreeSet, ops::ControlFlow, time::Duration};

use larkauth_contracts::topology::Queue;
use larkauth_models::{Actor, AuditAction, Timestamp};
use larkauth_storage::{KeySurvey, KeyUse, KeyValues, Rotated, rotate, transfer::TableProgress};

use crate::{context::Context, error::AuthError, key_use::check_keys_open};

/// How long after its last note a key counts as used for encryption: 2 min. A running service notes its key every 30 s.
const STILL_SEALING: Duration = Duration::from_secs(120);
/// Runs over all rows of one rotation. A row that others change all the time is sealed anew by them.
const RUNS: u32 = 3;

/// An encryption key in a list. Shows nothing of the key itself.
#[derive(Clone, Debug)]
pub struct ListedKey {
    /// Its id.
    pub id: String,
    /// It encrypts new values of this process.
    pub is_first: bool,
    /// This process has it.
    pub is_configured: bool,
    /// Last time at which a running process said that it encrypts with it.
    pub sealed_at: Option<Timestamp>,
    /// The stored values that need it.
    pub values: KeyValues,
}

/// Result of [`Context::rotate_encryption_keys`].
#[derive(Clone, Debug)]
pub struct KeyRotation {
    /// What was sealed again.
    pub rotated: Rotated,
    /// The check of all values afterwards; `None` when the rotation was stopped.
    pub verified: Option<KeySurvey>,
    /// Id of the key that encrypts.
    pub first_key: String,
}

impl KeyRotation {
    /// Returns whether every value opens and needs the first key only.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.verified.as_ref().is_some_and(|survey| {
            survey.keys.iter().all(|(id, values)| {
                id.as_deref() == Some(self.first_key.as_str()) && values.unreadable() == 0
            })
        })
    }
}

/// Result of [`Context::retire_encryption_key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// No stored value needs the key, and no process waits for it. It may be removed from the settings.
    Retired,
    /// Values need it.
    Needed(KeyValues),
    /// A process has said a short time ago that it encrypts with it.
    StillSealing {
        /// How long ago.
        ago: Duration,
    },
    /// It is the first key of this process.
    First,
    /// Messages wait that may hold values sealed with it.
    Waiting {
        /// Their number.
        messages: u64,
    },
    /// The key is neither noted nor named by a value.
    Unknown,
}

impl Context {
    /// Lists the keys of this process and those that stored values need. Reads every sealed value.
    ///
    /// # Errors
    /// The store's.
    pub async fn encryption_keys(
        &self,
        actor: &Actor,
        now: Timestamp,
        progress: impl FnMut(TableProgress) + Send,
    ) -> Result<Vec<ListedKey>, AuthError> {
        let listed = async {
            let uses = self.store.key_uses().await?;
            let survey = KeySurvey::of(&*self.store, &self.cipher, progress).await?;
            Ok(self.listed(&uses, &survey))
        };
        let listed = listed.await;
        self.settle_read(actor, self.act(actor, now, AuditAction::EncryptionKeyList), listed)
    }

    fn listed(&self, uses: &[KeyUse], survey: &KeySurvey) -> Vec<ListedKey> {
        let mut ids: BTreeSet<&str> = self.cipher.key_ids().collect();
        ids.extend(uses.iter().map(|known| known.key_id.as_str()));
        ids.extend(survey.keys.keys().flatten().map(String::as_str));
        let listed = ids.into_iter().map(|id| ListedKey {
            id: id.to_owned(),
            is_first: id == self.cipher.first_key(),
            is_configured: self.cipher.has_key(id),
            sealed_at: uses.iter().find(|known| known.key_id == id).and_then(|known| known.sealed_at),
            values: survey.of_key(id),
        });
        listed.collect()
    }

    /// Returns the id of the key that this process encrypts with.
    #[must_use]
    pub fn first_encryption_key(&self) -> &str {
        self.cipher.first_key()
    }

    /// Returns the ids of the other keys with which a running process has encrypted in the last two minutes. Such a process
    /// may lack the first key of this one.
    ///
    /// # Errors
    /// The store's.
    pub async fn other_keys_in_use(&self) -> Result<Vec<String>, AuthError> {
        let is_in_use = |known: &KeyUse| {
            known.key_id != self.cipher.first_key() && known.sealed_ago.is_some_and(|ago| ago < STILL_SEALING)
        };
        Ok(self.store.key_uses().await?.into_iter().filter(is_in_use).map(|known| known.key_id).collect())
    }

    /// Seals every stored value again that is sealed with another key than the first, then opens all values. May run beside
    /// all services, and more than once at a time. A rotation that was stopped or killed goes on when it is started again.
    /// `progress` stops it by [`ControlFlow::Break`].
    ///
    /// # Errors
    /// [`AuthError::ForeignEncryptionKeys`], with nothing changed; the store's. What is sealed again stays so.
    pub async fn rotate_encryption_keys(
        &self,
        actor: &Actor,
        now: Timestamp,
        mut progress: impl FnMut(TableProgress) -> ControlFlow<()> + Send,
    ) -> Result<KeyRotation, AuthError> {
        let first_key = self.cipher.first_key().to_owned();
        let act = self.act(actor, now, AuditAction::EncryptionKeyRotate).encryption_key(&first_key);
        let rotated = async {
            check_keys_open(&self.store.applications().await?)?;
            self.store.note_key_use(&first_key).await?;
            // Before the first change: a rotation that is killed is recorded too.
            self.store.append_audit(std::slice::from_ref(&act)).await?;
            let mut all = Rotated::default();
            for _ in 0..RUNS {
                let run = rotate(&*self.store, &self.cipher, &mut progress).await?;
                all = Rotated { resealed: all.resealed + run.resealed, ..run };
                if run.left == 0 || run.is_stopped {
                    break;
                }
            }
            Ok::<_, AuthError>(all)
        };
        let rotated = rotated.await;
        let rotated = self.settle_change(act, rotated, |_| true)?;
        let verified = if rotated.is_stopped {
            None
        } else {
            Some(
                KeySurvey::of(&*self.store, &self.cipher, |step| {
                    let _ = progress(step);
                })
                .await?,
            )
        };
        Ok(KeyRotation { rotated, verified, first_key })
    }

    /// Retires a key that no stored value needs, so that processes without it are ready. Looks at every sealed value.
    ///
    /// # Errors
    /// The store's and the bus's.
    pub async fn retire_encryption_key(
        &self,
        actor: &Actor,
        now: Timestamp,
        id: &str,
        progress: impl FnMut(TableProgress) + Send,
    ) -> Result<Retirement, AuthError> {
        let act = self.act(actor, now, AuditAction::EncryptionKeyRetire).encryption_key(id);
        let retired = async {
            if id == self.cipher.first_key() {
                return Ok(Retirement::First);
            }
            let known = self.store.key_uses().await?.into_iter().find(|known| known.key_id == id);
            if let Some(ago) = known.as_ref().and_then(|known| known.sealed_ago)
                && ago < STILL_SEALING
            {
                return Ok(Retirement::StillSealing { ago });
            }
            let values = KeySurvey::of(&*self.store, &self.cipher, progress).await?.of_key(id);
            if values.values > 0 {
                return Ok(Retirement::Needed(values));
            }
            let messages = self.sealed_messages().await?;
            if messages > 0 {
                return Ok(Retirement::Waiting { messages });
            }
            let Some(known) = known else { return Ok(Retirement::Unknown) };
            let is_forgotten = self.store.forget_key_use(&known, &act).await?;
            Ok::<_, AuthError>(match is_forgotten {
                true => Retirement::Retired,
                // A process noted it while the values were read.
                false => Retirement::StillSealing { ago: Duration::ZERO },
            })
        };
        let retired = retired.await;
        match &retired {
            Ok(refused) if *refused != Retirement::Retired && *refused != Retirement::Unknown => {
                self.note_refused(act, "encryption_key_in_use");
                retired
            }
            _ => self.settle_change(act, retired, |retired| *retired == Retirement::Retired),
        }
    }

    /// Returns the number of messages that may hold sealed values: those of the queues with such messages, dead letters, and
    /// files of the spool of this process.
    async fn sealed_messages(&self) -> Result<u64, AuthError> {
        let mut messages = self.bus.dead_letter_depth().await? + self.spool.names().await?.len() as u64;
        for queue in [Queue::CardActions, Queue::OauthRedirects, Queue::Escrows] {
            messages += self.bus.depth(queue).await?;
        }
        Ok(messages)
    }
}
