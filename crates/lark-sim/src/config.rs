use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use larkauth_models::{AppId, Clock, Entropy, OsEntropy, SecretString, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::users::{Behaviour, SimUser};

/// Configuration of the simulated platform.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Address to listen on. Port 0 takes a free port.
    pub addr: SocketAddr,
    /// Permits an address other than loopback. Refused by default, because the control API has no authentication.
    pub allow_non_loopback: bool,
    /// Address under which clients reach the platform, without a slash at the end. `None`: the one that it listens on.
    pub base_url: Option<String>,
    /// The applications of the developer console.
    pub apps: Vec<SimApp>,
    /// The people of the company.
    pub users: Vec<SimUser>,
    /// Lifetimes of everything that the platform issues.
    pub lifetimes: Lifetimes,
    /// Limits of an application per second and minute.
    pub limits: Limits,
    /// Settings of the long connection.
    pub socket: Socket,
    /// Reaction of people to a new card, unless their own entry overrides it.
    pub behaviour: Behaviour,
    /// Delay before people act without being driven.
    pub reaction: Duration,
    /// Whether a poll with a device code gives the pair again whose answer was lost. Lark does not say what it does.
    pub device_pair_repeats: bool,
    /// Card templates by id; `${name}` is replaced by the template variable.
    pub templates: BTreeMap<String, Value>,
    /// Wall time: expiries and rate limits.
    pub clock: Arc<dyn Clock>,
    /// Randomness: tokens, ids, choice of connection.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            allow_non_loopback: false,
            base_url: None,
            apps: Vec::new(),
            users: Vec::new(),
            lifetimes: Lifetimes::default(),
            limits: Limits::default(),
            socket: Socket::default(),
            behaviour: Behaviour::Manual,
            reaction: Duration::from_millis(300),
            device_pair_repeats: false,
            templates: BTreeMap::new(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
        }
    }
}

impl SimConfig {
    /// Returns a configuration with one application with random credentials and three people.
    #[must_use]
    pub fn demo() -> Self {
        let mut config = Self::default();
        let (mut id, mut secret) = ([0; 8], [0; 16]);
        config.entropy.fill(&mut id);
        config.entropy.fill(&mut secret);
        config.apps = vec![SimApp::new(format!("cli_{}", hex::encode(id)), hex::encode(secret))];
        config.users = (1..=3).map(SimUser::numbered).collect();
        config
    }

    /// Adds an application.
    #[must_use]
    pub fn with_app(mut self, app: SimApp) -> Self {
        self.apps.push(app);
        self
    }

    /// Adds `count` generated people.
    #[must_use]
    pub fn with_users(mut self, count: u32) -> Self {
        let first = u32::try_from(self.users.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.users.extend((first..first.saturating_add(count)).map(SimUser::numbered));
        self
    }

    /// Uses this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// Settings of one application, as on its page in the developer console.
#[derive(Clone, Debug)]
pub struct SimApp {
    /// `cli_` and 16 to 32 letters or digits.
    pub app_id: String,
    /// App secret, also the OAuth client secret.
    pub secret: SecretString,
    /// Shown on the consent page.
    pub app_name: String,
    /// Registered redirect URIs; one must match exactly.
    pub redirect_uris: Vec<String>,
    /// Sent in the header of every callback.
    pub verification_token: Option<SecretString>,
    /// When set, HTTP callbacks are signed and encrypted.
    pub encrypt_key: Option<SecretString>,
    /// Address of HTTP callbacks.
    pub callback_url: Option<String>,
    /// Transport of callbacks.
    pub delivery: Delivery,
    /// The console's switch "refresh user_access_token".
    pub refresh_enabled: bool,
    /// Disabled applications are refused everywhere.
    pub enabled: bool,
}

impl SimApp {
    /// Returns an application with a redirect URI on port 8080 of this machine and no HTTP callback.
    #[must_use]
    pub fn new(app_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            app_id: app_id.into(),
            secret: SecretString::from(secret.into()),
            app_name: "Demo Bot".to_owned(),
            redirect_uris: vec!["http://127.0.0.1:8080/oauth/callback".to_owned()],
            verification_token: None,
            encrypt_key: None,
            callback_url: None,
            delivery: Delivery::Auto,
            refresh_enabled: true,
            enabled: true,
        }
    }

    /// Registers one more redirect URI.
    #[must_use]
    pub fn with_redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uris.push(uri.into());
        self
    }

    /// Sets the verification token and the encrypt key.
    #[must_use]
    pub fn with_callback_secrets(mut self, verification_token: &str, encrypt_key: &str) -> Self {
        self.verification_token = Some(SecretString::from(verification_token));
        self.encrypt_key = Some(SecretString::from(encrypt_key));
        self
    }

    /// Sets the address of HTTP callbacks.
    #[must_use]
    pub fn with_callback_url(mut self, url: impl Into<String>) -> Self {
        self.callback_url = Some(url.into());
        self
    }

    pub(crate) fn check(&self) -> Result<(), larkauth_models::IdError> {
        AppId::new(self.app_id.clone()).map(drop)
    }
}

/// Transport of an application's callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Over a long connection if one is open, otherwise to the callback URL.
    #[default]
    Auto,
    /// Only over long connections.
    WebSocket,
    /// Only to the callback URL.
    Http,
}

/// Lifetimes by the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Authorization code.
    pub code: Duration,
    /// User access token.
    pub access: Duration,
    /// Refresh token of the current token endpoint.
    pub refresh: Duration,
    /// Refresh token of the historical token endpoint.
    pub refresh_v1: Duration,
    /// How long the old access token stays valid after a refresh. `None`: to its own expiry.
    pub old_access_grace: Option<Duration>,
    /// Age of a consent after which refreshing is refused and the person must consent again.
    pub consent: Duration,
    /// Tenant and app access tokens.
    pub tenant: Duration,
    /// Remaining lifetime below which a tenant token is replaced by a new one.
    pub tenant_renewal: Duration,
    /// Device code.
    pub device: Duration,
    /// Minimum interval between two polls of a device code.
    pub device_interval: Duration,
    /// Ticket in the WebSocket URL.
    pub ticket: Duration,
    /// Token of a card callback, for delayed updates.
    pub card_token: Duration,
    /// Age of a message up to which its card can be clicked.
    pub card_interaction: Duration,
    /// Age of a message up to which it can be updated.
    pub message_update: Duration,
    /// How long a message uuid prevents a second message.
    pub message_uuid: Duration,
}

const DAY: u64 = 86_400;

impl Default for Lifetimes {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            code: secs(300),
            access: secs(7200),
            refresh: secs(7 * DAY),
            refresh_v1: secs(30 * DAY),
            old_access_grace: Some(secs(60)),
            consent: secs(365 * DAY),
            tenant: secs(7200),
            tenant_renewal: secs(1800),
            device: secs(240),
            device_interval: secs(5),
            ticket: secs(60),
            card_token: secs(1800),
            card_interaction: secs(30 * DAY),
            message_update: secs(14 * DAY),
            message_uuid: secs(3600),
        }
    }
}

/// Rate limits of an application.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls per second, per application and endpoint group.
    pub per_second: usize,
    /// Calls per minute, per application and endpoint group.
    pub per_minute: usize,
    /// Messages per second to one person.
    pub messages_per_user: usize,
    /// Updates per second of one message.
    pub updates_per_message: usize,
    /// Long connections per application.
    pub connections: usize,
    /// Maximum size of one card, in bytes.
    pub card_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_second: 50,
            per_minute: 1000,
            messages_per_user: 5,
            updates_per_message: 5,
            connections: 50,
            card_bytes: 30 * 1024,
        }
    }
}

/// The long connection.
#[derive(Clone, Debug)]
pub struct Socket {
    /// Interval of pings that the client is given, in whole seconds.
    pub ping_interval: Duration,
    /// Number of reconnection attempts that the client is given. -1: unlimited.
    pub reconnect_count: i32,
    /// Interval of reconnection attempts that the client is given, in whole seconds.
    pub reconnect_interval: Duration,
    /// Maximum random wait before the client's first attempt, in whole seconds.
    pub reconnect_nonce: Duration,
    /// Number of silent ping intervals after which a connection is closed.
    pub missed_pings: u32,
    /// Deadline of an answer to a push.
    pub answer_deadline: Duration,
    /// Waits before an unanswered event is pushed again.
    pub event_retries: Vec<Duration>,
}

impl Default for Socket {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            ping_interval: secs(120),
            reconnect_count: -1,
            reconnect_interval: secs(120),
            reconnect_nonce: secs(30),
            missed_pings: 3,
            answer_deadline: secs(3),
            event_retries: vec![secs(15), secs(300), secs(3600), secs(6 * 3600)],
        }
    }
}
