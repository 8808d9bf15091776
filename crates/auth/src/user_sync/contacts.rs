//! One batch of people in the company's directory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use larkauth_lark::{
    api::{AccountStatus, Contact},
    error::ErrorKind,
};
use larkauth_models::{Actor, Lane, OpenId, SuspensionReason, Timestamp};
use tokio::time::sleep;

use super::pass::PASS;
use crate::{apps::App, context::Context, error::AuthError};

impl Context {
    /// Looks people up, and stores and does what follows. An id that Lark does not take makes it refuse the whole batch: the
    /// batch is halved then, until that id is alone.
    pub(super) async fn look_up(
        &self,
        actor: &Actor,
        app: &Arc<App>,
        people: &[OpenId],
        pass: Timestamp,
    ) -> Result<(), AuthError> {
        let app_id = &app.application.app_id;
        let mut parts = vec![people];
        while let Some(part) = parts.pop() {
            match (app.client.in_lane(Lane::Background).contacts(part).await, part) {
                (Ok(contacts), _) => self.take_contacts(actor, app, part, contacts, pass).await?,
                (Err(error), [_]) if is_of_an_id(&error.kind) => {
                    tracing::warn!(%app_id, %error, "auth.people.sync: Lark does not take the id of a person");
                    self.metrics.user_synced(app_id.as_str(), "refused", 1);
                    self.store.store_synced(app_id, &[], part, self.now()).await?;
                }
                (Err(error), _) if is_of_an_id(&error.kind) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                    sleep(self.policy.user_sync.pause).await;
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn take_contacts(
        &self,
        actor: &Actor,
        app: &Arc<App>,
        people: &[OpenId],
        mut contacts: Vec<Contact>,
        pass: Timestamp,
    ) -> Result<(), AuthError> {
        let app_id = &app.application.app_id;
        let asked: HashSet<&OpenId> = people.iter().collect();
        contacts.retain(|contact| asked.contains(&contact.profile.open_id));
        let suspended: HashMap<_, _> = self.store.suspended(app_id, people).await?.into_iter().collect();
        for Contact { profile, status } in &contacts {
            let open_id = &profile.open_id;
            match (status.and_then(|status| reason_of(&status)), suspended.get(open_id)) {
                // The state of the account says why Lark refused the person: it also says when that is over.
                (Some(reason), None | Some(SuspensionReason::Refused)) => {
                    self.suspend_person(actor, app_id, open_id, reason).await?;
                }
                (None, Some(SuspensionReason::Refused)) if status.is_some() => {
                    self.restore_refused(actor, app, open_id).await?;
                }
                (None, Some(_)) if status.is_some() => {
                    self.restore_person(actor, app_id, open_id, false).await?;
                }
                _ => {}
            }
        }
        if !contacts.is_empty() && contacts.iter().all(|contact| contact.status.is_none()) {
            self.tell_of_missing_status(app, pass).await?;
        }
        let found: HashSet<&OpenId> = contacts.iter().map(|contact| &contact.profile.open_id).collect();
        // People outside of the application's contact scope.
        let missing: Vec<OpenId> = people.iter().filter(|person| !found.contains(person)).cloned().collect();
        self.metrics.user_synced(app_id.as_str(), "found", contacts.len() as u64);
        self.metrics.user_synced(app_id.as_str(), "missing", missing.len() as u64);
        let profiles: Vec<_> = contacts.into_iter().map(|contact| contact.profile).collect();
        Ok(self.store.store_synced(app_id, &profiles, &missing, self.now()).await?)
    }

    /// Tells operators, once in a pass, that Lark does not say who has left.
    async fn tell_of_missing_status(&self, app: &App, pass: Timestamp) -> Result<(), AuthError> {
        let app_id = &app.application.app_id;
        if self.store.claim_tick(&format!("{PASS}/{app_id}/status"), pass, self.now()).await? {
            tracing::error!(
                %app_id,
                "auth.people.sync: Lark does not tell the state of accounts, and people who left are not noticed; add the \
                 permission contact:user.employee:readonly in the developer console and publish a version"
            );
        }
        Ok(())
    }
}

/// Returns whether one id of a batch may be the reason of a refusal.
const fn is_of_an_id(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::User | ErrorKind::InvalidRequest)
}

/// Returns why a person with this account is not served. A person who has not joined yet is no reason: the person consented.
const fn reason_of(status: &AccountStatus) -> Option<SuspensionReason> {
    if status.is_resigned {
        Some(SuspensionReason::Resigned)
    } else if status.is_exited {
        Some(SuspensionReason::Exited)
    } else if status.is_frozen {
        Some(SuspensionReason::Frozen)
    } else {
        None
    }
}
