//! Ending what nobody ended, mending what a crash left half done, forgetting what is no longer needed.

use chrono::TimeDelta;

use crate::{AuthError, Context, events::AFTER_THE_ANSWER};

/// How many rows one statement touches.
const BATCH: u32 = 200;
/// A card whose session ended this long ago should show it by now.
const CARD_GRACE: TimeDelta = TimeDelta::seconds(60);
/// Lark takes updates of a card for 14 days; after a day nobody looks at it.
const CARD_MENDABLE: TimeDelta = TimeDelta::hours(24);
/// Longer than the 24 hours for which duplicates are promised to be recognised.
const EVENTS_KEPT: TimeDelta = TimeDelta::hours(48);

impl Context {
    /// Expires the sessions whose time is over and announces each. Gives their number.
    ///
    /// # Errors
    /// The store's. A failed announcement is only logged: [`Context::mend_cards`] brings the card up to date later.
    pub async fn expire_sessions(&self) -> Result<usize, AuthError> {
        let mut expired = 0;
        loop {
            let ids = self.store.expire_due_sessions(self.now(), BATCH).await?;
            expired += ids.len();
            for id in &ids {
                if let Err(error) = self.ended(*id, false).await {
                    tracing::warn!(session_id = %id, %error, "auth.session.announce: left to the next round of mending");
                }
            }
            if ids.len() < BATCH as usize {
                return Ok(expired);
            }
        }
    }

    /// Finds ended sessions whose card does not show it (a process died in between) and has them brought up to date;
    /// those that were asked for longest ago first.
    ///
    /// # Errors
    /// The store's or the bus's.
    pub async fn mend_cards(&self) -> Result<usize, AuthError> {
        let now = self.now();
        let due = self.store.take_stale_cards(now, now - CARD_MENDABLE, now - CARD_GRACE, BATCH).await?;
        for (app_id, session_id) in &due {
            self.request_face(app_id, *session_id, AFTER_THE_ANSWER).await?;
        }
        Ok(due.len())
    }

    /// Forgets records of handled events that are too old to be pushed again.
    ///
    /// # Errors
    /// The store's.
    pub async fn purge_events(&self) -> Result<u64, AuthError> {
        Ok(self.store.purge_processed(self.now() - EVENTS_KEPT, 10 * BATCH).await?)
    }

    /// Brings the gauges of sessions and tokens up to date.
    ///
    /// # Errors
    /// The store's.
    pub async fn update_gauges(&self) -> Result<(), AuthError> {
        for counts in self.store.active_counts().await? {
            self.metrics.sessions_active(counts.app_id.as_str(), counts.pending_sessions);
            self.metrics.tokens_active(counts.app_id.as_str(), counts.active_tokens);
        }
        Ok(())
    }
}
