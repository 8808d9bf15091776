use async_trait::async_trait;
use larkauth_models::{AppId, Application, Timestamp};

use crate::{AuditEntry, Result};

/// An entry in the list of applications.
#[derive(Debug)]
pub struct Registration {
    /// Id of the application.
    pub app_id: AppId,
    /// Whether the application is enabled.
    pub enabled: bool,
    /// The application, or the reason why its row cannot be read.
    pub application: Result<Application>,
}

/// Registered applications. A call that takes an [`AuditEntry`] writes it in the same transaction, if it changes something.
#[async_trait]
pub trait Applications {
    /// Returns one application, enabled or not.
    async fn application(&self, app_id: &AppId) -> Result<Option<Application>>;
    /// Lists all applications, ordered by id. A row that cannot be read does not hide the other rows.
    async fn applications(&self) -> Result<Vec<Registration>>;
    /// Registers or replaces an application, and closes its circuit breaker: the new settings may have removed the
    /// cause.
    async fn put_application(&self, application: &Application, audit: &AuditEntry) -> Result<()>;
    /// Enables or disables an application. Returns false when there is no such application.
    async fn set_application_enabled(
        &self,
        app_id: &AppId,
        enabled: bool,
        audit: &AuditEntry,
    ) -> Result<bool>;
    /// Opens (`Some(reason)`) or closes (`None`) the application's circuit breaker. Returns true when the state
    /// changed.
    async fn set_application_frozen(
        &self,
        app_id: &AppId,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<bool>;
}
