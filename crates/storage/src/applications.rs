use async_trait::async_trait;
use larkauth_models::{AppId, Application, Timestamp};

use crate::Result;

/// An application in the list of all.
#[derive(Debug)]
pub struct Registration {
    /// Which one.
    pub app_id: AppId,
    /// Whether it is switched on.
    pub enabled: bool,
    /// The rest, or why it cannot be read.
    pub application: Result<Application>,
}

/// Registered applications.
#[async_trait]
pub trait Applications {
    /// One application, enabled or not.
    async fn application(&self, app_id: &AppId) -> Result<Option<Application>>;
    /// All of them, ordered by id. One that cannot be read hides no other.
    async fn applications(&self) -> Result<Vec<Registration>>;
    /// Registers or replaces; closes the breaker, since settings may just have been mended.
    async fn put_application(&self, application: &Application, now: Timestamp) -> Result<()>;
    /// Switches serving on or off. False when there is no such application.
    async fn set_application_enabled(&self, app_id: &AppId, enabled: bool, now: Timestamp) -> Result<bool>;
    /// Opens (`Some(reason)`) or closes (`None`) the app-level breaker. True when that changed something.
    async fn set_application_frozen(
        &self,
        app_id: &AppId,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<bool>;
}
