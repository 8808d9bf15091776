//! Whether what is stored about applications can be read, above all with the encryption keys that there are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use larkauth_models::AppId;
use larkauth_storage::{StorageError, Store};
use larkauth_telemetry::HealthHandle;
use tokio_util::sync::CancellationToken;

/// How often it is looked at; as often as a registration is read for serving it.
const LOOK: Duration = Duration::from_secs(10);

/// Stops a start with the keys of another database, under which everything would fail one by one.
pub(crate) async fn check(store: &dyn Store) -> anyhow::Result<()> {
    let stored = store.applications().await?;
    let closed: Vec<_> = stored
        .iter()
        .filter_map(|listed| listed.application.as_ref().err())
        .filter(|error| matches!(error, StorageError::Undecryptable { .. }))
        .collect();
    if let Some(first) = closed.first().filter(|_| closed.len() == stored.len()) {
        anyhow::bail!(
            "the encryption keys open none of the stored applications ({first}); use the ENCRYPTION_KEYS of this \
             database, or the DATABASE_URL of these keys"
        );
    }
    Ok(())
}

/// Tells which applications cannot be served because their registration cannot be read; not ready when none can.
pub(crate) struct Watch {
    store: Arc<dyn Store>,
    part: HealthHandle,
    unreadable: BTreeMap<AppId, String>,
}

impl Watch {
    pub(crate) const fn new(store: Arc<dyn Store>, part: HealthHandle) -> Self {
        Self { store, part, unreadable: BTreeMap::new() }
    }

    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        loop {
            self.look().await;
            if stopping.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&mut self) {
        // A store that does not answer is told by its own part.
        let Ok(stored) = self.store.applications().await else { return };
        let enabled: Vec<_> = stored.into_iter().filter(|listed| listed.enabled).collect();
        let is_one_readable = enabled.iter().any(|listed| listed.application.is_ok());
        let unreadable: BTreeMap<AppId, String> = enabled
            .into_iter()
            .filter_map(|listed| Some((listed.app_id, listed.application.err()?.to_string())))
            .collect();
        for (app_id, error) in unreadable.iter().filter(|(app_id, _)| !self.unreadable.contains_key(*app_id))
        {
            tracing::error!(
                %app_id, error,
                "runtime.registrations.unreadable: this application is not served until the keys that encrypted it \
                 are back in ENCRYPTION_KEYS, or `larkauth apps add` registers it anew"
            );
        }
        match unreadable.values().next().filter(|_| !is_one_readable) {
            Some(first) => self.part.set_not_ready(first.clone()),
            None => self.part.set_ready(),
        }
        self.unreadable = unreadable;
    }
}

#[cfg(test)]
mod tests {
    use larkauth_models::Timestamp;
    use larkauth_storage::{
        Applications,
        testing::{TestAuthorization, TestSqlite, cipher_of},
    };
    use larkauth_telemetry::Health;

    use super::*;

    #[tokio::test]
    async fn one_unreadable_application_is_told_and_two_of_two_stop_the_start() {
        let database = TestSqlite::create().await;
        let store: Arc<dyn Store> = Arc::new(database.store().await);
        let health = Health::new();
        let mut watch = Watch::new(store.clone(), health.register("registrations"));
        check(&*store).await.unwrap();
        TestAuthorization::new(1).register(&*store).await;
        watch.look().await;
        assert!(health.report().ready);

        // Another process, with other keys, registers a second one.
        let [listed] = store.applications().await.unwrap().try_into().unwrap();
        let first = listed.application.unwrap();
        let other = larkauth_models::Application {
            app_id: AppId::new("cli_aaaaaaaaaaaaaaaa").unwrap(),
            ..first.clone()
        };
        let elsewhere = larkauth_storage::SqliteStore::open(&database.options(), cipher_of(&[("other", 1)]))
            .await
            .unwrap();
        elsewhere.put_application(&other, Timestamp::UNIX_EPOCH).await.unwrap();
        watch.look().await;
        let reason = &watch.unreadable[&other.app_id];
        assert!(reason.contains("`other`"), "{reason}");
        assert!(health.report().ready, "the first one is served");
        check(&*store).await.unwrap();

        elsewhere.put_application(&first, Timestamp::UNIX_EPOCH).await.unwrap();
        watch.look().await;
        let reason = health.report().parts[0].reason.clone().unwrap();
        assert!(reason.contains("`other`"), "{reason}");
        let error = check(&*store).await.unwrap_err().to_string();
        assert!(
            error.contains("none of the stored applications") && error.contains("ENCRYPTION_KEYS"),
            "{error}"
        );
        check(&elsewhere).await.unwrap();

        // One that is switched off is missed by nobody.
        store.put_application(&first, Timestamp::UNIX_EPOCH).await.unwrap();
        store.set_application_enabled(&other.app_id, false, Timestamp::UNIX_EPOCH).await.unwrap();
        watch.look().await;
        assert!(health.report().ready);
    }
}
