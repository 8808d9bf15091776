//! Keeping a token pair that Lark has just given: in the store, or else on the bus, or else in a file. The sealed pair is
//! the same in all three, and opens in its table, column and row only.
//!
//! To keep a pair of another origin: a variant of [`EscrowPlace`], and what the store does with it in `put_in_store`.

use larkauth_contracts::{
    message::{Envelope, EscrowPlace, SealedText, TokenEscrowed},
    topology::Queue,
};
use larkauth_models::{Actor, AppId, Timestamp, TokenKind};
use larkauth_storage::{RefreshedToken, Sealed, StorageError, open_refreshed};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context, error::AuthError, event_id::event_id, refresh_schedule::Life, seal,
    side_effect::SideEffect,
};

/// What became of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is in the store, or on its way there.
    Yes,
    /// Its place is taken: another caller ended what it belongs to.
    Unwanted,
    /// It is in the memory of this process only.
    Nowhere,
}

impl Context {
    /// Keeps a sealed pair. Each place is tried for [`Policy::escrow_attempt`](crate::Policy::escrow_attempt) at most.
    pub(crate) async fn keep_pair(&self, app_id: &AppId, place: EscrowPlace, pair: &Sealed) -> Kept {
        let attempt = self.policy.escrow_attempt;
        match timeout(attempt, self.put_in_store(app_id, &place, pair)).await {
            Ok(Ok(true)) => return Kept::Yes,
            Ok(Ok(false)) => {
                tracing::warn!("auth.escrow.unwanted: another caller ended what the tokens belong to");
                return Kept::Unwanted;
            }
            Ok(Err(error)) => tracing::warn!(%error, "auth.escrow.store: the tokens go to the bus"),
            Err(_) => tracing::warn!("auth.escrow.store: no answer in time, the tokens go to the bus"),
        }
        let id = event_id("escrow", &name_of(app_id, &place));
        let data = TokenEscrowed { place, pair: SealedText(pair.to_text()) };
        let message = match self.outgoing(id, app_id, data) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(%error, "auth.escrow.encode");
                return Kept::Nowhere;
            }
        };
        let (name, body) = (message.id.to_string(), message.body.clone());
        match timeout(attempt, self.step(SideEffect::PublishPair, self.bus.publish(message))).await {
            Ok(Ok(())) => return Kept::Yes,
            Ok(Err(error)) => tracing::warn!(%error, "auth.escrow.bus: the tokens go to the spool"),
            Err(_) => tracing::warn!("auth.escrow.bus: no answer in time, the tokens go to the spool"),
        }
        match self.step(SideEffect::SpoolPair, self.spool.keep(name, body)).await {
            Ok(()) => Kept::Yes,
            Err(error) => {
                tracing::error!(%error, "auth.escrow.spool: the tokens are in memory only");
                Kept::Nowhere
            }
        }
    }

    /// Moves a pair from the bus to the store, and resumes what it belongs to. While the store does not take it, the
    /// message comes again: with backoff at first, then published anew, so that it never becomes a dead letter.
    pub(crate) async fn take_escrow(
        &self,
        message: &Envelope<TokenEscrowed>,
        attempt: u32,
    ) -> Result<(), AuthError> {
        match self.settle_escrow(message).await {
            Err(error) if attempt >= self.policy.escrow_attempts && is_of_store(&error) => {
                tracing::error!(%error, "auth.escrow.store: the store does not take the tokens, tried again later");
                let TokenEscrowed { place, pair } = message.data.clone();
                let again =
                    self.outgoing(message.id.clone(), &message.appid, TokenEscrowed { place, pair })?;
                Ok(self.bus.publish_later(again, Queue::Escrows, self.policy.escrow_pause).await?)
            }
            result => result,
        }
    }

    /// Moves pairs from the spool of this process to the store, and completes the reserve of the spool. Returns the number
    /// of the pairs.
    ///
    /// # Errors
    /// When the spool cannot be read. A pair that the store does not take stays for the next run.
    pub async fn replay_spool(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "escrow.replay_spool");
        let names = self.spool.names().await?;
        let (mut moved, waiting) = (0, names.len());
        self.metrics.token_spool(i64::try_from(waiting).unwrap_or(i64::MAX));
        for name in names {
            if stopping.is_cancelled() {
                break;
            }
            let Some(body) = self.spool.read(&name).await? else { continue };
            let Ok(message) = Envelope::<TokenEscrowed>::decode(&body) else {
                tracing::error!(name, "auth.escrow.spool: the file holds no tokens, it is set aside");
                self.spool.set_aside(&name).await?;
                continue;
            };
            match self.settle_escrow(&message).await {
                Ok(()) => {
                    self.step(SideEffect::UnspoolPair, self.spool.remove(&name)).await?;
                    moved += 1;
                }
                Err(error) => tracing::warn!(name, %error, "auth.escrow.spool: left to the next run"),
            }
        }
        self.metrics.token_spool(i64::try_from(waiting).unwrap_or(i64::MAX).saturating_sub_unsigned(moved));
        // A failure is logged, and a part of the health document.
        let _ = self.spool.fill_reserve().await;
        Ok(moved)
    }

    /// Puts a pair in its place, and resumes what it belongs to.
    async fn settle_escrow(&self, message: &Envelope<TokenEscrowed>) -> Result<(), AuthError> {
        let TokenEscrowed { place, pair } = &message.data;
        if !self.put_in_store(&message.appid, place, &Sealed::from_text(&pair.0)?).await? {
            tracing::info!("auth.escrow.unwanted: the tokens arrived before, or their session has ended");
            return Ok(());
        }
        if let EscrowPlace::Session { session_id, claim } = place
            && let Err(error) = self.resume_exchange(*session_id, *claim).await
        {
            tracing::warn!(%session_id, %error, "auth.exchange.resume: left to the next run");
        }
        Ok(())
    }

    async fn put_in_store(
        &self,
        app_id: &AppId,
        place: &EscrowPlace,
        pair: &Sealed,
    ) -> Result<bool, StorageError> {
        match place {
            EscrowPlace::Session { session_id, claim } => {
                self.store.escrow_exchange(*session_id, *claim, pair).await
            }
            EscrowPlace::Token { open_id, generation, last_used_at } => {
                let pair = open_refreshed(&self.cipher, app_id, open_id, pair)?;
                let now = self.now();
                let (failures, next_attempt_at) = if pair.has_access_token() {
                    let life = Life::of_new(&pair, now, *last_used_at);
                    (0, self.policy.refresh.next(&life, now, self.entropy.fraction()))
                } else {
                    // The login is kept. Lark is asked for an access token again after the pause of a failure.
                    let stored = self.store.token(app_id, open_id, TokenKind::User).await?;
                    let failures = stored.map_or(0, |stored| stored.failures).saturating_add(1);
                    (failures, Some(now + self.pause_after(failures)))
                };
                let (app_id, open_id) = (app_id.clone(), open_id.clone());
                let generation = *generation;
                let refreshed =
                    RefreshedToken { app_id, open_id, generation, pair, failures, next_attempt_at, now };
                let done = self.step(SideEffect::StorePair, self.store.complete_refresh(&refreshed)).await;
                self.reads.tokens.forget(refreshed.open_id.as_str());
                done
            }
        }
    }
}

/// Returns the name of a place, the same for the same pair.
fn name_of(app_id: &AppId, place: &EscrowPlace) -> String {
    match place {
        EscrowPlace::Session { claim, .. } => claim.to_string(),
        // The digest keeps the person's id out of the names of files.
        EscrowPlace::Token { open_id, generation, .. } => {
            let digest = seal::digest(&[app_id.as_str(), open_id.as_str(), &generation.to_string()]);
            hex::encode(&digest[..16])
        }
    }
}

const fn is_of_store(error: &AuthError) -> bool {
    matches!(error, AuthError::Storage(_))
}
