use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use larkauth_auth::{
    AppRegistry, AuthError, Context, ContextParts, EscrowSpool, LarkSettings, Policy, ReauthorizePolicy,
    RefreshSchedule, SharedRateLimiter, UserSyncPolicy, jobs::Schedule,
};
use larkauth_config::{Service, Settings};
use larkauth_lark::{Endpoints, HttpTimeouts, api::LocalRateLimiter, http_client};
use larkauth_models::{Actor, Brand, Clock, OsEntropy};
use larkauth_storage::InvitationLimit;
use larkauth_telemetry::Metrics;

use crate::{
    Broker,
    stores::{Database, cipher},
};

/// The window of `AUTH_REQUEST_RATE_LIMIT`.
const A_MINUTE: Duration = Duration::from_secs(60);

/// Connects to everything that operations need. Only standalone makes and migrates its own files; nothing else is changed.
///
/// # Errors
/// One line that says which part failed and the cure.
pub async fn connect(
    settings: &Settings,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Context> {
    let standalone = settings.service == Service::Standalone;
    let database = Database::of(settings)?;
    let cipher = cipher(settings)?;
    let store = database.open(settings, standalone, cipher.clone()).await?;
    if standalone && matches!(database, Database::Sqlite(_)) {
        store.migrate().await?;
    }
    let newer = store.check_schema().await?;
    if !newer.is_empty() {
        tracing::warn!(migrations = ?newer, "database schema is of a newer release; this build works beside it until it is replaced");
    }
    let store = store.shared();
    let bus = Broker::of(settings)?.open(settings, metrics.clone()).await?;
    let policy = Policy {
        source: format!("/larkauth/{}", short_name(settings)),
        session_lifetime: settings.sessions.expiry,
        invitation_limit: InvitationLimit { max: settings.sessions.rate_limit_per_minute, window: A_MINUTE },
        card: settings.card.clone(),
        event_relay_url: settings.event_relay_url.clone(),
        refresh: RefreshSchedule {
            policy: settings.tokens.refresh_policy,
            threshold: settings.tokens.refresh_threshold,
            ..Policy::default().refresh
        },
        user_sync: UserSyncPolicy {
            enabled: settings.user_sync.enabled,
            schedule: Schedule::Cron(
                Box::new(settings.user_sync.schedule.clone()),
                settings.user_sync.timezone,
            ),
            ..UserSyncPolicy::default()
        },
        reauthorize: ReauthorizePolicy {
            enabled: settings.tokens.reauthorize.enabled,
            ahead: settings.tokens.reauthorize.ahead,
            timezone: settings.tokens.reauthorize.timezone,
            ..ReauthorizePolicy::default()
        },
        read_tokens: settings.tokens.cache_size,
        session_retention: settings.sessions.retention,
        audit_retention: settings.audit_retention,
        ..Policy::default()
    };
    let rate_limiter = Arc::new(SharedRateLimiter::new(store.clone(), metrics.clone()));
    let lark = LarkSettings { rate_limiter, ..lark_settings(settings)? };
    let apps = AppRegistry::new(store.clone(), lark, clock.clone(), metrics.clone(), &policy);
    Ok(Context::new(ContextParts {
        store,
        bus,
        apps: Arc::new(apps),
        cipher,
        spool: EscrowSpool::new(settings.escrow_spool_dir.clone()),
        clock,
        entropy: Arc::new(OsEntropy),
        metrics,
        policy,
    }))
}

/// How Lark is reached, with a rate limit for the calls of this process only.
///
/// # Errors
/// When the TLS backend of the HTTP client cannot be set up.
pub fn lark_settings(settings: &Settings) -> anyhow::Result<LarkSettings> {
    let endpoints = |brand| {
        let hosts = settings.lark.hosts(brand);
        Endpoints { base_url: hosts.base_url.clone(), accounts_url: hosts.accounts_url.clone() }
    };
    Ok(LarkSettings {
        http: http_client(&HttpTimeouts::default(), &settings.network)
            .context("the HTTP client cannot be set up")?,
        network: settings.network.clone(),
        feishu: endpoints(Brand::Feishu),
        lark: endpoints(Brand::Lark),
        rate_limiter: Arc::new(LocalRateLimiter::default()),
    })
}

/// Returns the service's name without its prefix.
fn short_name(settings: &Settings) -> &'static str {
    settings.service.name().trim_start_matches("larkauth-")
}

/// Returns the service as the actor of what it does on its own.
pub(crate) fn actor(settings: &Settings) -> Actor {
    Actor::service(short_name(settings))
}

/// Registers the application of `APP_ID`. New settings win over what is registered. Returns false when that has to be
/// tried again, because the database takes no writes.
pub(crate) async fn register(context: &Context, settings: &Settings) -> anyhow::Result<bool> {
    let (Some(application), Some(digest)) = (settings.application.clone(), settings.application_digest())
    else {
        return Ok(true);
    };
    let actor = actor(settings);
    let merge = |known| settings.application_over(known);
    match context.bootstrap_application(&actor, context.now(), application, digest, merge).await {
        Ok(()) => Ok(true),
        Err(AuthError::Storage(error)) if error.is_transient() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
