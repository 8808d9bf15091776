use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use larkauth_auth::{Context, Directory, LarkSettings, Policy};
use larkauth_config::{DatabaseSettings, DatabaseUrl, Settings};
use larkauth_lark::{Endpoints, HttpTimeouts, http_client};
use larkauth_messaging::{Bus, RabbitMq, RabbitMqOptions};
use larkauth_models::{Application, Brand, Clock, Entropy, OsEntropy, SystemClock};
use larkauth_storage::{Cipher, EncryptionKey, InvitationLimit, PgOptions, PgStore, ScratchSchema, Store};
use larkauth_telemetry::Metrics;

/// How long a start waits for the database and the broker.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one statement may take.
const STATEMENT: Duration = Duration::from_secs(5);
/// The window of `AUTH_REQUEST_RATE_LIMIT`.
const A_MINUTE: Duration = Duration::from_secs(60);

/// Connects to everything that verbs need, and changes nothing.
///
/// # Errors
/// One line that says which part failed and the cure.
pub async fn connect(settings: &Settings, metrics: Metrics) -> anyhow::Result<Context> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let cipher = cipher(settings, entropy.clone())?;
    let store = open_store(settings, cipher.clone()).await?;
    store.check_schema().await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let bus: Arc<dyn Bus> = Arc::new(RabbitMq::connect(broker_options(settings, metrics.clone())?).await?);
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
        entropy,
        metrics,
        policy: Arc::new(policy),
    })
}

/// Connects to `DATABASE_URL` for work on the schema, which needs no encryption key: sealed values stay sealed.
///
/// # Errors
/// When a setting is missing or the database does not answer.
pub async fn connect_schema(settings: &Settings) -> anyhow::Result<PgStore> {
    let mut key = zeroize::Zeroizing::new([0; 32]);
    OsEntropy.fill(&mut *key);
    let nobodys = Cipher::new(vec![EncryptionKey { id: "none".to_owned(), key }], Arc::new(OsEntropy))?;
    open_store(settings, nobodys).await
}

/// Makes an empty schema of its own in the database of `DATABASE_URL`, migrated.
///
/// # Errors
/// When a setting is missing or the database does not answer.
pub async fn scratch_schema(settings: &Settings, name: &str) -> anyhow::Result<ScratchSchema> {
    let DatabaseUrl::Postgres(url) = settings.database.required_url()? else {
        anyhow::bail!("DATABASE_URL must be a postgres:// address for this command");
    };
    let schema = ScratchSchema::create(url.clone(), name).await?;
    let inside = DatabaseSettings { url: Some(DatabaseUrl::Postgres(schema.url())), ..settings.database.clone() };
    let store = connect_schema(&Settings { database: inside, ..settings.clone() }).await?;
    store.migrate().await?;
    store.close().await;
    Ok(schema)
}

async fn open_store(settings: &Settings, cipher: Cipher) -> anyhow::Result<PgStore> {
    let DatabaseUrl::Postgres(url) = settings.database.required_url()? else {
        anyhow::bail!("DATABASE_URL must be a postgres:// address for this command");
    };
    let options = PgOptions {
        url: url.clone(),
        max_connections: settings.database.max_connections,
        connect_deadline: CONNECT,
        statement_deadline: STATEMENT,
        application_name: settings.service.name().to_owned(),
    };
    Ok(PgStore::connect(&options, cipher).await?)
}

/// How the broker is reached.
///
/// # Errors
/// When `AMQP_URL` is missing.
pub fn broker_options(settings: &Settings, metrics: Metrics) -> anyhow::Result<RabbitMqOptions> {
    let url = settings.broker.required_url()?.clone();
    Ok(RabbitMqOptions {
        prefix: settings.broker.prefix.clone(),
        connect_deadline: CONNECT,
        ..RabbitMqOptions::new(url, settings.service.name(), metrics)
    })
}

/// The cipher of `ENCRYPTION_KEYS`.
fn cipher(settings: &Settings, entropy: Arc<dyn Entropy>) -> anyhow::Result<Cipher> {
    let keys = settings.encryption.required_keys()?.iter().map(|key| EncryptionKey {
        id: key.id().to_owned(),
        key: zeroize::Zeroizing::new(*key.bytes()),
    });
    Cipher::new(keys.collect(), entropy).context("ENCRYPTION_KEYS")
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

/// Registers the application of `APP_ID`. The settings win over what is registered, except for the switch an operator may have thrown.
pub(crate) async fn register(context: &Context, settings: &Settings) -> anyhow::Result<()> {
    let Some(application) = settings.application.clone() else { return Ok(()) };
    let known = context.store.application(&application.app_id).await?;
    let enabled = known.is_none_or(|known| known.enabled);
    let application = Application { enabled, ..application };
    context.store.put_application(&application, context.now()).await?;
    tracing::info!(app_id = %application.app_id, enabled, "the application of APP_ID is registered");
    Ok(())
}
