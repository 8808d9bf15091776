use async_trait::async_trait;
use larkauth_models::{AppId, Application, Timestamp};
use larkauth_sqlite::BEGIN_WRITING;
use sqlx::{Connection, query, query_as, types::Json};

use larkauth_storage::{
    Applications, AuditEntry, Registration, Result,
    backend::rows::{APPLICATIONS, ApplicationRow, RowSeal, registrations},
};

use crate::{
    audit::{record, recorded},
    columns::{OptionalMicros, Texts, micros},
    store::SqliteStore,
};

/// Selects whole applications. The arguments are the rest of the statement after `from`, and its parameters.
macro_rules! select_applications {
    ($rest:tt $(, $parameter:expr)*) => {
        query_as!(
            ApplicationRow,
            r#"select app_id, app_secret_sealed, verification_token_sealed, encrypt_key_sealed, brand, token_api,
                      redirect_uri, default_scopes as "default_scopes!: Texts", enabled as "enabled!: bool",
                      frozen_since as "frozen_since!: OptionalMicros", frozen_reason
               from applications "# + $rest
            $(, $parameter)*
        )
    };
}

#[async_trait]
impl Applications for SqliteStore {
    async fn application(&self, app_id: &AppId) -> Result<Option<Application>> {
        let row = self
            .read("reading an application", async |db| {
                {
                    let app_id = app_id.as_str();
                    select_applications!("where app_id = ?1", app_id)
                }
                .fetch_optional(db)
                .await
            })
            .await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }

    async fn applications(&self) -> Result<Vec<Registration>> {
        let rows = self
            .read("listing applications", async |db| {
                select_applications!("order by app_id").fetch_all(db).await
            })
            .await?;
        registrations(rows, &self.cipher)
    }

    async fn put_application(&self, application: &Application, audit: &AuditEntry) -> Result<()> {
        let row = RowSeal::new(&self.cipher, APPLICATIONS, application.app_id.to_string());
        let secret = row.seal("app_secret_sealed", &application.app_secret)?;
        let verification_token =
            row.seal_option("verification_token_sealed", application.verification_token.as_ref())?;
        let encrypt_key = row.seal_option("encrypt_key_sealed", application.encrypt_key.as_ref())?;
        self.write("writing an application", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            query!("insert into applications (app_id, app_secret_sealed, verification_token_sealed, encrypt_key_sealed,
                                           brand, token_api, redirect_uri, default_scopes, enabled, created_at, updated_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
                 on conflict (app_id) do update set
                     app_secret_sealed = excluded.app_secret_sealed,
                     verification_token_sealed = excluded.verification_token_sealed,
                     encrypt_key_sealed = excluded.encrypt_key_sealed,
                     brand = excluded.brand,
                     token_api = excluded.token_api,
                     redirect_uri = excluded.redirect_uri,
                     default_scopes = excluded.default_scopes,
                     enabled = excluded.enabled,
                     frozen_since = null,
                     frozen_reason = null,
                     updated_at = excluded.updated_at", application.app_id.as_str(), secret, verification_token, encrypt_key, application.brand.as_str(), application.token_api.as_str(), application.redirect_uri.as_str(), Json(&application.default_scopes), application.enabled, micros(audit.at))
            .execute(&mut *tx)
            .await?;
            record(&mut tx, audit).await?;
            tx.commit().await
        })
        .await
    }

    async fn set_application_enabled(
        &self,
        app_id: &AppId,
        enabled: bool,
        audit: &AuditEntry,
    ) -> Result<bool> {
        self.write("enabling or disabling an application", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let done = query!(
                "update applications set enabled = ?2, updated_at = ?3 where app_id = ?1",
                app_id.as_str(),
                enabled,
                micros(audit.at)
            )
            .execute(&mut *tx)
            .await?;
            recorded(tx, done, audit).await
        })
        .await
    }

    async fn set_application_frozen(
        &self,
        app_id: &AppId,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<bool> {
        self.change("freezing an application", async |db| {
            query!(
                "update applications set
                         frozen_since = case when ?2 is null then null else ?3 end,
                         frozen_reason = ?2,
                         updated_at = ?3
                     where app_id = ?1 and (frozen_since is null) = (?2 is not null)",
                app_id.as_str(),
                reason,
                now.timestamp_micros()
            )
            .execute(db)
            .await
        })
        .await
    }
}
