//! The typed settings, by concern.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use larkauth_models::{
    AppId, Application, Brand, CardOptions, ExposeSecret, RefreshPolicy, SecretString, TokenApi,
};
use larkauth_net::{Network, Trust};
use larkauth_telemetry::TelemetryConfig;
use sha2::{Digest, Sha256};
use url::Url;
use zeroize::Zeroizing;

use crate::{ConfigError, Cron, EncryptionKey, IpNet, Tz, schema};

/// The process that reads the settings. Determines the required settings and some defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Long connections, HTTP callbacks, REST API.
    Gateway,
    /// Cards and code exchange.
    AuthWorker,
    /// Refreshing, expiry, synchronisation.
    TokenRefresher,
    /// All services in one process, without PostgreSQL and RabbitMQ.
    Standalone,
    /// A command of the command line, which checks its required settings itself.
    Command,
}

impl Service {
    /// Returns the `service.name` of telemetry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "larkauth-gateway",
            Self::AuthWorker => "larkauth-auth-worker",
            Self::TokenRefresher => "larkauth-token-refresher",
            Self::Standalone | Self::Command => "larkauth",
        }
    }
    /// Returns true for a service that shares database and broker with others.
    pub(crate) const fn is_distributed(self) -> bool {
        matches!(self, Self::Gateway | Self::AuthWorker | Self::TokenRefresher)
    }
}

/// Arguments of [`Settings::load`].
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The TOML file of `--config`.
    pub config_file: Option<PathBuf>,
    /// The process.
    pub service: Service,
}

/// All settings of one process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The process.
    pub service: Service,
    /// The long connection.
    pub websocket: WebsocketSettings,
    /// Default content options of a card.
    pub card: CardOptions,
    /// Authorization sessions.
    pub sessions: SessionSettings,
    /// Time for which audit records are kept.
    pub audit_retention: Duration,
    /// Token refresh.
    pub tokens: TokenSettings,
    /// Synchronisation of user information.
    pub user_sync: UserSyncSettings,
    /// Folder of `standalone` for all its data.
    pub data_dir: PathBuf,
    /// Folder for tokens that neither database nor broker takes.
    pub escrow_spool_dir: PathBuf,
    /// The database.
    pub database: DatabaseSettings,
    /// The broker.
    pub broker: BrokerSettings,
    /// Handling of messages.
    pub worker: WorkerSettings,
    /// The process's HTTP server.
    pub http: HttpSettings,
    /// Trust and proxies of HTTP and WebSocket.
    pub network: Network,
    /// Where events that are not larkauth's are posted.
    pub event_relay_url: Option<Url>,
    /// The platform.
    pub lark: LarkSettings,
    /// Defaults of consent.
    pub oauth: OauthSettings,
    /// `APP_ID`, which commands accept without a secret.
    pub app_id: Option<AppId>,
    /// The application to register at start.
    pub application: Option<Application>,
    /// Settings of the application that were not given.
    pub(crate) unset: Unset,
    /// Encryption at rest.
    pub encryption: EncryptionSettings,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Time to finish running work after a stop signal.
    pub shutdown_grace: Duration,
    /// Probable mistakes that do not stop the start; one line each, without secrets, to be logged.
    pub warnings: Vec<String>,
}

/// The settings of an application that were not given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unset {
    pub(crate) brand: bool,
    pub(crate) token_api: bool,
    pub(crate) redirect_uri: bool,
    pub(crate) scopes: bool,
}

impl Settings {
    /// Returns the application of `APP_ID` merged into its registration. A given setting overrides the registration; a
    /// setting that was not given keeps it, as does `enabled`. So services with different settings do not undo each other.
    #[must_use]
    pub fn application_over(&self, registered: Application) -> Option<Application> {
        let ours = self.application.clone()?;
        let unset = self.unset;
        Some(Application {
            enabled: registered.enabled,
            brand: if unset.brand { registered.brand } else { ours.brand },
            token_api: if unset.token_api { registered.token_api } else { ours.token_api },
            redirect_uri: if unset.redirect_uri { registered.redirect_uri } else { ours.redirect_uri },
            default_scopes: if unset.scopes { registered.default_scopes } else { ours.default_scopes },
            verification_token: ours.verification_token.or(registered.verification_token),
            encrypt_key: ours.encrypt_key.or(registered.encrypt_key),
            ..ours
        })
    }
}

impl Settings {
    /// Returns a digest of the given settings of `APP_ID`: equal for equal settings, and different after any change of
    /// them. `None` without an application.
    #[must_use]
    pub fn application_digest(&self) -> Option<[u8; 32]> {
        let app = self.application.as_ref()?;
        let secret = |secret: &Option<SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        let unset = self.unset;
        let parts = [
            Some(app.app_id.to_string()),
            Some(app.app_secret.expose_secret().to_owned()),
            secret(&app.verification_token),
            secret(&app.encrypt_key),
            (!unset.brand).then(|| app.brand.to_string()),
            (!unset.token_api).then(|| app.token_api.to_string()),
            (!unset.redirect_uri).then(|| app.redirect_uri.to_string()),
            (!unset.scopes).then(|| app.default_scopes.join(" ")),
        ];
        let mut digest = Sha256::new();
        for part in parts.map(Zeroizing::new) {
            digest.update([u8::from(part.is_some())]);
            let part = part.as_deref().unwrap_or_default();
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Some(digest.finalize().into())
    }
}

/// The long connection.
#[derive(Clone, Debug)]
pub struct WebsocketSettings {
    /// Consecutive failures before the HTTP fallback.
    pub max_reconnect_retries: u32,
    /// Time between pings; a shorter interval of the server has priority.
    pub heartbeat_interval: Duration,
    /// Accept HTTP callbacks after that number of failures.
    pub fallback_to_http: bool,
}

/// Authorization sessions.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Lifetime of a session.
    pub expiry: Duration,
    /// Sessions per user per minute.
    pub rate_limit_per_minute: u32,
    /// Time for which an ended session is kept.
    pub retention: Duration,
}

/// Keeping tokens alive.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// Fraction of a token's lifetime (0.5 to 0.95) after which it is refreshed on schedule.
    pub refresh_threshold: f64,
    /// Most decrypted tokens that a gateway keeps in memory.
    pub cache_size: usize,
    /// Whose tokens are refreshed ahead.
    pub refresh_policy: RefreshPolicy,
    /// Asking people again.
    pub reauthorize: ReauthorizeSettings,
}

/// Asking people again whose login has ended, or ends soon.
#[derive(Clone, Debug)]
pub struct ReauthorizeSettings {
    /// True when larkauth asks by itself.
    pub enabled: bool,
    /// How long before the 365-day end of a consent its person is asked.
    pub ahead: Duration,
    /// Time zone of the working hours.
    pub timezone: Tz,
}

/// Synchronisation of user information.
#[derive(Clone, Debug)]
pub struct UserSyncSettings {
    /// True when the synchronization runs.
    pub enabled: bool,
    /// Schedule.
    pub schedule: Cron,
    /// Time zone of the schedule.
    pub timezone: Tz,
}

/// Address of a database, by kind. Contains a password.
#[derive(Clone, Debug)]
pub enum DatabaseUrl {
    /// `postgres://…`
    Postgres(SecretString),
    /// `sqlite:…`
    Sqlite(SecretString),
}

/// The database.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// Address; `None` (standalone only) means a file in the data folder.
    pub url: Option<DatabaseUrl>,
    /// Authorities for the server's certificate.
    pub trust: Trust,
    /// Maximum number of connections of this process.
    pub max_connections: u32,
}

impl DatabaseSettings {
    /// Returns the address.
    ///
    /// # Errors
    /// Fails when `DATABASE_URL` is not set.
    pub fn required_url(&self) -> Result<&DatabaseUrl, ConfigError> {
        self.url.as_ref().ok_or_else(|| ConfigError::Missing {
            name: schema::DATABASE_URL.name,
            cure: "give the address of a PostgreSQL database, like `postgres://user:password@host/database`"
                .into(),
        })
    }
}

/// The broker.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// Address of RabbitMQ; `None` (standalone only) means the embedded bus.
    pub url: Option<SecretString>,
    /// Authorities for the server's certificate.
    pub trust: Trust,
    /// Prefix of the names of exchanges and queues.
    pub prefix: String,
}

impl BrokerSettings {
    /// Returns the address.
    ///
    /// # Errors
    /// Fails when `AMQP_URL` is not set.
    pub fn required_url(&self) -> Result<&SecretString, ConfigError> {
        self.url.as_ref().ok_or_else(|| ConfigError::Missing {
            name: schema::AMQP_URL.name,
            cure: "give the address of a RabbitMQ broker, like `amqps://user:password@host/vhost`".into(),
        })
    }
}

/// Handling of messages.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Messages that this process handles concurrently.
    pub concurrency: u16,
}

/// The process's HTTP server.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Address to listen on.
    pub addr: SocketAddr,
    /// Address of the second listener, for browsers and Lark. `None` when the first one serves them, and for services
    /// that serve nothing to them.
    pub public_addr: Option<SocketAddr>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Refuse to start when HTTP callbacks of the application cannot be verified.
    pub callback_enabled: bool,
    /// Accept HTTP callbacks of an application without encrypt key.
    pub callback_allow_unsigned: bool,
    /// Bootstrap API key with every scope.
    pub api_key: Option<SecretString>,
}

/// The two hosts of one cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LarkHosts {
    /// API.
    pub base_url: Url,
    /// Consent pages.
    pub accounts_url: Url,
}

/// The platform.
#[derive(Clone, Debug)]
pub struct LarkSettings {
    /// Cloud of an application that does not specify one.
    pub brand: Brand,
    /// Token endpoint of an application that does not specify one.
    pub token_api: TokenApi,
    pub(crate) feishu: LarkHosts,
    pub(crate) lark: LarkHosts,
}

impl LarkSettings {
    /// Returns the hosts for applications of this brand.
    #[must_use]
    pub const fn hosts(&self, brand: Brand) -> &LarkHosts {
        match brand {
            Brand::Feishu => &self.feishu,
            Brand::Lark => &self.lark,
        }
    }
}

/// Defaults of consent.
#[derive(Clone, Debug)]
pub struct OauthSettings {
    /// Redirect address after consent.
    pub redirect_uri: Url,
    /// Scopes of a session that names none.
    pub scopes: Vec<String>,
}

/// Encryption at rest.
#[derive(Clone, Debug)]
pub struct EncryptionSettings {
    /// The first key encrypts, all keys decrypt. Empty only for standalone and commands.
    pub keys: Vec<EncryptionKey>,
}

impl EncryptionSettings {
    /// Returns the keys.
    ///
    /// # Errors
    /// Fails when `ENCRYPTION_KEYS` is not set.
    pub fn required_keys(&self) -> Result<&[EncryptionKey], ConfigError> {
        if self.keys.is_empty() {
            return Err(ConfigError::Missing {
                name: schema::ENCRYPTION_KEYS.name,
                cure: "give `id:base64-of-32-bytes` (`openssl rand -base64 32` makes one), or its path as ENCRYPTION_KEYS_FILE"
                    .into(),
            });
        }
        Ok(&self.keys)
    }
}
