//! The typed settings, by concern.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use larkauth_models::{AppId, Application, Brand, CardOptions, SecretString, TokenApi};
use larkauth_telemetry::TelemetryConfig;
use url::Url;

use crate::{ConfigError, Cron, EncryptionKey, Tz, schema};

/// Which process reads the settings: decides what is required, and some defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Long connections, HTTP callbacks, REST API.
    Gateway,
    /// Cards and code exchange.
    AuthWorker,
    /// Refreshing, expiry, synchronisation.
    TokenRefresher,
    /// All of them in one process, with nothing installed.
    Standalone,
    /// A command of the command line; it asks for what it needs.
    Command,
}

impl Service {
    /// `service.name` in telemetry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "larkauth-gateway",
            Self::AuthWorker => "larkauth-auth-worker",
            Self::TokenRefresher => "larkauth-token-refresher",
            Self::Standalone | Self::Command => "larkauth",
        }
    }
    /// Whether it runs beside others, over a shared database and broker.
    pub(crate) const fn is_distributed(self) -> bool {
        matches!(self, Self::Gateway | Self::AuthWorker | Self::TokenRefresher)
    }
}

/// What [`Settings::load`] needs to know.
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
    /// How an invitation looks when it says nothing else.
    pub card: CardOptions,
    /// Invitations.
    pub sessions: SessionSettings,
    /// Keeping tokens alive.
    pub tokens: TokenSettings,
    /// Synchronisation of user information.
    pub user_sync: UserSyncSettings,
    /// Where standalone keeps everything.
    pub data_dir: PathBuf,
    /// The database.
    pub database: DatabaseSettings,
    /// The broker.
    pub broker: BrokerSettings,
    /// Handling of messages.
    pub worker: WorkerSettings,
    /// The process's HTTP server.
    pub http: HttpSettings,
    /// The platform.
    pub lark: LarkSettings,
    /// Defaults of consent.
    pub oauth: OauthSettings,
    /// `APP_ID`, which commands take also without its secret.
    pub app_id: Option<AppId>,
    /// The application to register at start.
    pub application: Option<Application>,
    /// What of it was left to a default.
    pub(crate) left_open: LeftOpen,
    /// Encryption at rest.
    pub encryption: EncryptionSettings,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Time to finish what is in hand after a stop signal.
    pub shutdown_grace: Duration,
    /// What looks like a mistake but stops nothing; one line each, without secrets, to be logged.
    pub warnings: Vec<String>,
}

/// The parts of an application that the settings say nothing of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftOpen {
    pub(crate) brand: bool,
    pub(crate) token_api: bool,
    pub(crate) redirect_uri: bool,
    pub(crate) scopes: bool,
}

impl Settings {
    /// The application of `APP_ID` where it is registered already: what the settings say wins, what they leave open stays
    /// as it is known, and so does the switch. Services that are told different parts do not undo each other.
    #[must_use]
    pub fn application_over(&self, known: Application) -> Option<Application> {
        let ours = self.application.clone()?;
        let open = self.left_open;
        Some(Application {
            enabled: known.enabled,
            brand: if open.brand { known.brand } else { ours.brand },
            token_api: if open.token_api { known.token_api } else { ours.token_api },
            redirect_uri: if open.redirect_uri { known.redirect_uri } else { ours.redirect_uri },
            default_scopes: if open.scopes { known.default_scopes } else { ours.default_scopes },
            verification_token: ours.verification_token.or(known.verification_token),
            encrypt_key: ours.encrypt_key.or(known.encrypt_key),
            ..ours
        })
    }
}

/// The long connection.
#[derive(Clone, Debug)]
pub struct WebsocketSettings {
    /// Failures in a row before falling back.
    pub max_reconnect_retries: u32,
    /// Time between pings; a shorter one given by the server wins.
    pub heartbeat_interval: Duration,
    /// Accept HTTP callbacks once the long connection is given up.
    pub fallback_to_http: bool,
}

/// Invitations.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Life of an invitation.
    pub expiry: Duration,
    /// Invitations per user per minute.
    pub rate_limit_per_minute: u32,
}

/// Keeping tokens alive.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// Part of a token's life (0.5 to 0.95) after which it is refreshed on schedule.
    pub refresh_threshold: f64,
}

/// Synchronisation of user information.
#[derive(Clone, Debug)]
pub struct UserSyncSettings {
    /// Whether it runs at all.
    pub enabled: bool,
    /// When.
    pub schedule: Cron,
    /// In which time zone.
    pub timezone: Tz,
}

/// Address of a database, by kind. It holds a password.
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
    /// Where it is; `None` (standalone only): a file in the data folder.
    pub url: Option<DatabaseUrl>,
    /// Most connections that this process opens.
    pub max_connections: u32,
}

impl DatabaseSettings {
    /// The address, for what cannot do without.
    ///
    /// # Errors
    /// When `DATABASE_URL` is not set.
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
    /// Where RabbitMQ is; `None` (standalone only): the embedded bus.
    pub url: Option<SecretString>,
    /// First part of the names of exchanges and queues.
    pub prefix: String,
}

impl BrokerSettings {
    /// The address, for what cannot do without.
    ///
    /// # Errors
    /// When `AMQP_URL` is not set.
    pub fn required_url(&self) -> Result<&SecretString, ConfigError> {
        self.url.as_ref().ok_or_else(|| ConfigError::Missing {
            name: schema::AMQP_URL.name,
            cure: "give the address of a RabbitMQ broker, like `amqp://user:password@host/vhost`".into(),
        })
    }
}

/// Handling of messages.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Messages that this process handles at once.
    pub concurrency: u16,
}

/// The process's HTTP server.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Accept HTTP callbacks always (true) or only as fallback (false).
    pub callback_enabled: bool,
    /// A first API key with every scope.
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
    /// Cloud of an application that names none.
    pub brand: Brand,
    /// Token endpoint of an application that names none.
    pub token_api: TokenApi,
    pub(crate) feishu: LarkHosts,
    pub(crate) lark: LarkHosts,
}

impl LarkSettings {
    /// The hosts to use for applications of this brand.
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
    /// Where the browser comes back to.
    pub redirect_uri: Url,
    /// Asked for when an invitation names none.
    pub scopes: Vec<String>,
}

/// Encryption at rest.
#[derive(Clone, Debug)]
pub struct EncryptionSettings {
    /// The first encrypts, all decrypt. Empty (standalone and commands only): none given.
    pub keys: Vec<EncryptionKey>,
}

impl EncryptionSettings {
    /// The keys, for what cannot do without.
    ///
    /// # Errors
    /// When `ENCRYPTION_KEYS` is not set.
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
