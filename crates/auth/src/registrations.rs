//! Operations on registered applications.

use std::sync::Arc;

use larkauth_models::{
    Actor, AppId, Application, AuditAction, EventId, ExposeSecret, SecretString, Timestamp,
};
use larkauth_storage::Registration;

use crate::{apps::App, context::Context, error::AuthError};

/// Name under which applied settings are remembered.
const BOOTSTRAP: &str = "bootstrap";
/// The time of that record: 1 January 9999. A retention of processed events never reaches it.
const KEPT: Timestamp = match Timestamp::from_timestamp(253_370_764_800, 0) {
    Some(time) => time,
    None => Timestamp::MAX_UTC,
};

/// Returns whether two registrations of one application have the same settings.
fn is_equal(one: &Application, other: &Application) -> bool {
    let secrets = |app: &Application| {
        let optional = |secret: &Option<SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        [
            Some(app.app_secret.expose_secret().to_owned()),
            optional(&app.verification_token),
            optional(&app.encrypt_key),
        ]
    };
    (one.brand, one.token_api, &one.redirect_uri, &one.default_scopes, secrets(one))
        == (other.brand, other.token_api, &other.redirect_uri, &other.default_scopes, secrets(other))
}

/// Returns a warning when a registration changes the token endpoint: a refresh token is accepted by the endpoint that gave
/// it only.
fn warning_of_token_api(known: &Application, new: &Application) -> Option<String> {
    (known.token_api != new.token_api).then(|| {
        format!(
            "the token API of the application changes from {} to {}: its existing logins end at their next refresh, and \
             their people have to consent again; register it with {} again to keep them",
            known.token_api, new.token_api, known.token_api
        )
    })
}

impl Context {
    /// Returns the registered applications that the actor sees, ordered by id. One that cannot be read hides no other.
    ///
    /// # Errors
    /// The store's.
    pub async fn applications(&self, actor: &Actor, now: Timestamp) -> Result<Vec<Registration>, AuthError> {
        let visible = |known: Vec<Registration>| {
            known.into_iter().filter(|known| actor.may_use_app(&known.app_id)).collect()
        };
        let applications = self.store.applications().await.map(visible).map_err(AuthError::from);
        self.settle_read(actor, self.act(actor, now, AuditAction::AppList), applications)
    }

    /// Returns one application with its secrets, enabled or not, if it is registered.
    ///
    /// # Errors
    /// The store's.
    pub async fn application(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
    ) -> Result<Option<Application>, AuthError> {
        let application = self.store.application(app_id).await.map_err(AuthError::from);
        self.settle_read(actor, self.act(actor, now, AuditAction::AppShow).app(app_id), application)
    }

    /// Returns one enabled application with its client. The answer may be as old as
    /// [`Policy::app_cache_ttl`](crate::Policy::app_cache_ttl).
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], [`AuthError::AppDisabled`], or the store's.
    pub async fn enabled_app(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
    ) -> Result<Arc<App>, AuthError> {
        self.note_operation(actor, now, "app.use");
        self.apps.get_enabled(app_id).await
    }

    /// Returns one application with its client, enabled or not, as [`Context::enabled_app`] does.
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], or the store's.
    pub async fn any_app(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
    ) -> Result<Arc<App>, AuthError> {
        self.note_operation(actor, now, "app.use");
        self.apps.get(app_id).await
    }

    /// Registers an application, or replaces its registration. The breaker closes, since the registration may just have
    /// been corrected.
    ///
    /// # Errors
    /// [`AuthError::EncryptionKeyMissing`] while a running process encrypts with a key that this one lacks; the store's.
    pub async fn register_application(
        &self,
        actor: &Actor,
        now: Timestamp,
        application: &Application,
    ) -> Result<(), AuthError> {
        if let Err(error) = self.check_keys_of_processes().await {
            let act = self.act(actor, now, AuditAction::AppRegister).app(&application.app_id);
            return self.settle_change(act, Err(error), |()| true);
        }
        self.put_application(actor, now, AuditAction::AppRegister, application).await
    }

    async fn put_application(
        &self,
        actor: &Actor,
        now: Timestamp,
        action: AuditAction,
        application: &Application,
    ) -> Result<(), AuthError> {
        let act = self.act(actor, now, action).app(&application.app_id);
        if let Ok(Some(known)) = self.store.application(&application.app_id).await
            && let Some(warning) = warning_of_token_api(&known, application)
        {
            tracing::warn!(app_id = %application.app_id, "{warning}");
        }
        let stored = async {
            self.store.note_key_use(self.cipher.first_key()).await?;
            Ok::<_, AuthError>(self.store.put_application(application, &act).await?)
        };
        let stored = stored.await;
        self.settle_change(act, stored, |()| true)?;
        self.apps.invalidate(&application.app_id).await;
        self.reads.applications.clear();
        Ok(())
    }

    /// Registers the application of the settings at the start of a process. `merge` puts the settings over what is
    /// registered. A registration that cannot be read stays as it is: replacing it would take it from the processes that
    /// can read it.
    ///
    /// Settings are applied to a registration once, by `digest`. Applied again at each start, they would undo what an
    /// operator, or a process with newer settings, registered since.
    ///
    /// # Errors
    /// The store's.
    pub async fn bootstrap_application(
        &self,
        actor: &Actor,
        now: Timestamp,
        configured: Application,
        digest: [u8; 32],
        merge: impl FnOnce(Application) -> Option<Application> + Send,
    ) -> Result<(), AuthError> {
        let known = match self.store.application(&configured.app_id).await {
            // The watch over registrations reports it.
            Err(error) if error.is_of_one_row() => return Ok(()),
            known => known?,
        };
        let applied =
            EventId::new(hex::encode(digest)).map_err(|error| AuthError::Invalid(error.to_string()))?;
        if let Some(known) = &known
            && self.store.is_processed(BOOTSTRAP, &applied).await?
        {
            let (app_id, enabled) = (&known.app_id, known.enabled);
            // A restart often follows a correction in the developer console.
            if known.frozen_since.is_some() {
                self.store.set_application_frozen(app_id, None, now).await?;
                self.apps.invalidate(app_id).await;
            }
            match merge(known.clone()) {
                Some(merged) if !is_equal(known, &merged) => tracing::warn!(
                    %app_id, enabled,
                    "the registration of APP_ID was changed after these settings had been applied, and stays; `larkauth apps \
                     add` with them applies them again"
                ),
                _ => tracing::info!(%app_id, enabled, "the application of APP_ID is registered"),
            }
            return Ok(());
        }
        let application = known.and_then(merge).unwrap_or(configured);
        self.put_application(actor, now, AuditAction::AppBootstrap, &application).await?;
        self.store.mark_processed(BOOTSTRAP, &applied, KEPT).await?;
        let (app_id, enabled) = (&application.app_id, application.enabled);
        tracing::info!(%app_id, enabled, "the application of APP_ID is registered with its settings");
        Ok(())
    }

    /// Enables or disables an application.
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], [`AuthError::Forbidden`] for an application that the actor does not see, or the store's.
    pub async fn set_application_enabled(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        enabled: bool,
    ) -> Result<(), AuthError> {
        let action = if enabled { AuditAction::AppEnable } else { AuditAction::AppDisable };
        let act = self.act(actor, now, action).app(app_id);
        let done = async {
            Self::check_app(actor, app_id)?;
            match self.store.set_application_enabled(app_id, enabled, &act).await? {
                true => Ok(()),
                false => Err(AuthError::AppNotFound(app_id.clone())),
            }
        };
        let done = done.await;
        self.settle_change(act, done, |()| true)?;
        self.apps.invalidate(app_id).await;
        self.reads.applications.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use larkauth_models::{Brand, TokenApi};

    use super::*;

    #[test]
    fn warning_of_token_api_when_it_changes_names_both_and_what_ends() {
        let with = |token_api| Application {
            app_id: AppId::new("cli_0123456789abcdef").unwrap(),
            app_secret: SecretString::from("secret"),
            verification_token: None,
            encrypt_key: None,
            brand: Brand::Feishu,
            token_api,
            redirect_uri: "http://127.0.0.1/oauth/callback".parse().unwrap(),
            default_scopes: Vec::new(),
            enabled: true,
            frozen_since: None,
            frozen_reason: None,
        };
        let (v1, v2) = (with(TokenApi::V1), with(TokenApi::V2));
        assert_eq!(warning_of_token_api(&v2, &v2), None);
        let warning = warning_of_token_api(&v2, &v1).unwrap();
        assert!(warning.contains("from v2 to v1") && warning.contains("logins end"), "{warning}");
    }
}
