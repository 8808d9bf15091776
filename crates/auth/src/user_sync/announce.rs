//! The events `user.suspended` and `user.restored`.
//!
//! The store compares what is with what was announced last, so that no transition of any process is missed. A
//! suspension that ends before it was announced is not announced at all.

use larkauth_contracts::message::{CONTENT_TYPE, UserStateChanged};
use larkauth_messaging::{BusError, Offer, Offered};
use larkauth_models::{Actor, Timestamp, UserState};
use larkauth_storage::UnannouncedPerson;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{context::Context, error::AuthError, event_id::event_id, seal};

impl Context {
    /// Announces each suspension and restoration that is not announced. Returns their number. A repeated announcement has
    /// the same event id.
    ///
    /// # Errors
    /// The store's; and the bus's while it is down, which ends the run.
    pub async fn announce_people(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "people.announce");
        let batch = self.policy.sweep_batch;
        let (mut after, mut announced) = (None, 0);
        loop {
            let mut people = self.store.unannounced_people(after.as_ref(), batch).await?;
            for person in &people {
                if stopping.is_cancelled() {
                    return Ok(announced);
                }
                self.announce_person(person).await?;
                announced += 1;
            }
            let is_last = people.len() < batch as usize;
            after = people.pop();
            if is_last {
                return Ok(announced);
            }
        }
    }

    async fn announce_person(&self, person: &UnannouncedPerson) -> Result<(), AuthError> {
        let state = if person.suspended_for.is_some() { UserState::Suspended } else { UserState::Restored };
        let data = UserStateChanged {
            open_id: person.open_id.clone(),
            user_id: person.user_id.clone(),
            state,
            reason: person.suspended_for,
        };
        // The digest keeps the person's id out of what shows event ids.
        let digest =
            seal::digest(&[person.app_id.as_str(), person.open_id.as_str(), &person.earlier.to_string()]);
        let id = event_id("user", &hex::encode(&digest[..16]));
        let message = self.outgoing(id, &person.app_id, data)?;
        let offer = Offer {
            id: message.id,
            routing_key: message.routing_key.to_owned(),
            r#type: message.r#type.to_owned(),
            content_type: CONTENT_TYPE,
            body: message.body,
            headers: message.headers,
            wants_reply: false,
        };
        // That no service listens is no failure.
        match timeout(self.policy.announce_reserve, self.bus.offer(offer)).await {
            Ok(offered) => match offered? {
                Offered::Taken(_) | Offered::NotTaken | Offered::Unsupported => {}
            },
            Err(_) => {
                let message = "the broker did not confirm in time".to_owned();
                return Err(BusError::Unavailable { during: "announcing a person's state", message }.into());
            }
        }
        self.store.record_person_announced(person).await?;
        tracing::info!(app_id = %person.app_id, %state, "auth.person.announced");
        Ok(())
    }
}
