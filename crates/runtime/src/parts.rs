use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use larkauth_auth::{Context, Directory, LarkSettings, Policy};
use larkauth_config::{Service, Settings};
use larkauth_lark::{Endpoints, HttpTimeouts, http_client};
use larkauth_models::{Brand, Clock, OsEntropy, SystemClock};
use larkauth_storage::InvitationLimit;
use larkauth_telemetry::Metrics;

use crate::{
    Broker,
    stores::{Database, cipher},
};

/// The window of `AUTH_REQUEST_RATE_LIMIT`.
const A_MINUTE: Duration = Duration::from_secs(60);

/// Connects to everything that verbs need. Only standalone makes and migrates its own files; nothing else is changed.
///
/// # Errors
/// One line that says which part failed and the cure.
pub async fn connect(settings: &Settings, metrics: Metrics) -> anyhow::Result<Context> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let standalone = settings.service == Service::Standalone;
    let database = Database::of(settings)?;
    let cipher = cipher(settings)?;
    let store = database.open(settings, standalone, cipher.clone()).await?;
    match &database {
        Database::Sqlite(_) if standalone => drop(store.migrate().await?),
        _ => store.check_schema().await?,
    }
    let store = store.shared();
    let bus = Broker::of(settings)?.open(settings, metrics.clone()).await?;
    let apps = Directory::new(store.clone(), lark_settings(settings)?, clock.clone(), metrics.clone());
    let policy = Policy {
        source: format!("/larkauth/{}", settings.service.name().trim_start_matches("larkauth-")),
        session_lifetime: settings.sessions.expiry,
        invitation_limit: InvitationLimit { max: settings.sessions.rate_limit_per_minute, window: A_MINUTE },
        card: settings.card.clone(),
    };
    Ok(Context {
        store,
        bus,
        apps: Arc::new(apps),
        cipher,
        clock,
        entropy: Arc::new(OsEntropy),
        metrics,
        policy: Arc::new(policy),
    })
}

/// How Lark is reached.
///
/// # Errors
/// When the TLS backend of the HTTP client cannot be set up.
pub fn lark_settings(settings: &Settings) -> anyhow::Result<LarkSettings> {
    let endpoints = |brand| {
        let hosts = settings.lark.hosts(brand);
        Endpoints { base_url: hosts.base_url.clone(), accounts_url: hosts.accounts_url.clone() }
    };
    Ok(LarkSettings {
        http: http_client(&HttpTimeouts::default()).context("the HTTP client cannot be set up")?,
        feishu: endpoints(Brand::Feishu),
        lark: endpoints(Brand::Lark),
    })
}

/// Registers the application of `APP_ID`. What the settings say wins over what is registered.
pub(crate) async fn register(context: &Context, settings: &Settings) -> anyhow::Result<()> {
    let Some(application) = settings.application.clone() else { return Ok(()) };
    let known = match context.store.application(&application.app_id).await {
        // Told by the watch over registrations. Not written over: that would take it from the processes that can read it.
        Err(error) if error.is_of_one_row() => return Ok(()),
        known => known?,
    };
    let application = known.and_then(|known| settings.application_over(known)).unwrap_or(application);
    let enabled = application.enabled;
    context.store.put_application(&application, context.now()).await?;
    tracing::info!(app_id = %application.app_id, enabled, "the application of APP_ID is registered");
    Ok(())
}
