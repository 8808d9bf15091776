//! Whether the stored applications can be read, above all with the encryption keys of this process.

use std::{collections::BTreeMap, time::Duration};

use larkauth_auth::Context;
use larkauth_config::Settings;
use larkauth_models::{Actor, AppId};
use larkauth_storage::Registration;
use larkauth_telemetry::HealthHandle;
use tokio_util::sync::CancellationToken;

use crate::bootstrap;

/// Time between two looks: 10 s, as often as a registration is read for serving it.
const LOOK: Duration = Duration::from_secs(10);

/// Reports which applications cannot be served because their registration cannot be read.
pub(crate) struct Watch {
    part: HealthHandle,
    /// Settings whose application is not registered yet.
    unregistered: Option<Settings>,
    unreadable: BTreeMap<AppId, String>,
}

impl Watch {
    pub(crate) const fn new(part: HealthHandle, unregistered: Option<Settings>) -> Self {
        Self { part, unregistered, unreadable: BTreeMap::new() }
    }

    pub(crate) async fn run(mut self, context: Context, actor: Actor, stopping: CancellationToken) {
        loop {
            self.register(&context).await;
            // The database probe reports a store that does not answer.
            if let Ok(stored) = context.applications(&actor, context.now()).await {
                self.look(stored);
            }
            if stopping.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }

    /// Registers the application of the settings, if the start could not.
    async fn register(&mut self, context: &Context) {
        let Some(settings) = &self.unregistered else { return };
        match bootstrap::register(context, settings).await {
            Ok(true) => self.unregistered = None,
            Ok(false) => {}
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "runtime.registrations.not_registered");
            }
        }
    }

    fn look(&mut self, stored: Vec<Registration>) {
        let enabled: Vec<_> = stored.into_iter().filter(|listed| listed.enabled).collect();
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
        match unreadable.values().next() {
            Some(first) => self.part.set_not_ready(first.clone()),
            None if self.unregistered.is_some() => self.part.set_not_ready(
                "the application of APP_ID is not registered with the present settings: the database takes no writes",
            ),
            None => self.part.set_ready(),
        }
        self.unreadable = unreadable;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larkauth_auth::check_keys_open;
    use larkauth_models::{SystemClock, Timestamp};
    use larkauth_storage::{
        Applications, Store,
        testing::{TestAuthorization, act, cipher_of},
    };
    use larkauth_storage_sqlite::testing::TestSqlite;
    use larkauth_telemetry::{Health, PartState};

    use super::*;

    fn is_failing(health: &Health) -> bool {
        health.report().parts[0].state == PartState::Failing
    }

    #[tokio::test]
    async fn look_reports_one_unreadable_application_and_check_fails_for_all() {
        let database = TestSqlite::create().await;
        let store: Arc<dyn Store> = Arc::new(database.store().await);
        let health = Health::new(Arc::new(SystemClock));
        let mut watch = Watch::new(health.register("registrations"), None);
        check_keys_open(&store.applications().await.unwrap()).unwrap();
        TestAuthorization::new(1).register(&*store).await;
        watch.look(store.applications().await.unwrap());
        assert!(!is_failing(&health));

        // Another process, with other keys, registers a second one.
        let [listed] = store.applications().await.unwrap().try_into().unwrap();
        let first = listed.application.unwrap();
        let other = larkauth_models::Application {
            app_id: AppId::new("cli_aaaaaaaaaaaaaaaa").unwrap(),
            ..first.clone()
        };
        let elsewhere =
            larkauth_storage_sqlite::SqliteStore::open(&database.options(), cipher_of(&[("other", 1)]))
                .await
                .unwrap();
        elsewhere.put_application(&other, &act(Timestamp::UNIX_EPOCH)).await.unwrap();
        watch.look(store.applications().await.unwrap());
        let reason = &watch.unreadable[&other.app_id];
        assert!(reason.contains("`other`"), "{reason}");
        assert!(is_failing(&health));
        check_keys_open(&store.applications().await.unwrap()).unwrap();

        elsewhere.put_application(&first, &act(Timestamp::UNIX_EPOCH)).await.unwrap();
        watch.look(store.applications().await.unwrap());
        let reason = health.report().parts[0].reason.clone().unwrap();
        assert!(reason.contains("`other`"), "{reason}");
        let error = check_keys_open(&store.applications().await.unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("none of the stored applications") && error.contains("ENCRYPTION_KEYS"),
            "{error}"
        );
        check_keys_open(&elsewhere.applications().await.unwrap()).unwrap();

        // A disabled application does not count.
        store.put_application(&first, &act(Timestamp::UNIX_EPOCH)).await.unwrap();
        store.set_application_enabled(&other.app_id, false, &act(Timestamp::UNIX_EPOCH)).await.unwrap();
        watch.look(store.applications().await.unwrap());
        assert!(!is_failing(&health));
    }
}
