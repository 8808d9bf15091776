//! The application of the settings at the start of processes.

use larkauth_models::{Application, ExposeSecret, SecretString, TokenApi};

use crate::fixture::{ACTOR, Fixture};

const OTHER_APP: &str = "cli_fedcba9876543210";

impl Fixture {
    /// A process starts with these settings.
    async fn start_with(&self, configured: &Application, digest: u8) {
        let (now, settings) = (self.context.now(), configured.clone());
        let merge = |known: Application| Some(Application { enabled: known.enabled, ..settings });
        self.context
            .bootstrap_application(&ACTOR, now, configured.clone(), [digest; 32], merge)
            .await
            .unwrap();
    }

    async fn registered_secret(&self) -> String {
        let app_id = OTHER_APP.parse().unwrap();
        let found = self.context.application(&ACTOR, self.context.now(), &app_id).await.unwrap();
        found.unwrap().app_secret.expose_secret().to_owned()
    }
}

#[tokio::test]
async fn restart_with_applied_settings_keeps_newer_registration() {
    let fixture = Fixture::new().await;
    let with_secret = |secret: &str| Application {
        app_secret: SecretString::from(secret),
        ..fixture.application(OTHER_APP, TokenApi::V2)
    };
    let (first, rotated, second) = (with_secret("first"), with_secret("rotated"), with_secret("second"));

    fixture.start_with(&first, 1).await;
    assert_eq!(fixture.registered_secret().await, "first");
    // An operator rotates the secret; the process starts again with its old settings, also after weeks.
    fixture.context.register_application(&ACTOR, fixture.context.now(), &rotated).await.unwrap();
    let far = fixture.context.now() + chrono::TimeDelta::days(10_000);
    while fixture.parts.store.purge_processed(far, 1000).await.unwrap() > 0 {}
    fixture.start_with(&first, 1).await;
    assert_eq!(fixture.registered_secret().await, "rotated");

    // New settings are applied, once: a process that still has the old ones does not undo them.
    fixture.start_with(&second, 2).await;
    assert_eq!(fixture.registered_secret().await, "second");
    fixture.start_with(&first, 1).await;
    assert_eq!(fixture.registered_secret().await, "second");
    fixture.start_with(&second, 2).await;
    assert_eq!(fixture.registered_secret().await, "second");
}

#[tokio::test]
async fn restart_keeps_disabled_application_disabled() {
    let fixture = Fixture::new().await;
    let application = fixture.application(OTHER_APP, TokenApi::V2);
    fixture.start_with(&application, 1).await;
    let (now, app_id) = (fixture.context.now(), &application.app_id);
    fixture.context.set_application_enabled(&ACTOR, now, app_id, false).await.unwrap();
    for digest in [1, 2] {
        fixture.start_with(&application, digest).await;
        let found = fixture.context.application(&ACTOR, now, app_id).await.unwrap().unwrap();
        assert!(!found.enabled, "{digest}");
    }
}
