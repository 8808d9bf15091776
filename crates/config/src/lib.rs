//! Typed settings, from the environment and an optional TOML file.
//!
//! [`Settings::load`] reads them once, at the start of a process. The first error stops the start with one
//! line ([`ConfigError`]) that names the variable and the cure and never shows a secret. No other code reads a setting.
//!
//! To add a setting: a line in `schema.rs` (name, default, meaning), a field in `settings.rs`, its line in `build.rs`; a rule
//! that involves a second setting goes to `validate.rs`. The reference page is generated ([`reference_markdown`]).

mod build;
mod encryption_keys;
mod error;
mod parse;
mod schema;
mod settings;
mod source;
mod validate;

pub use chrono_tz::Tz;
pub use croner::Cron;
pub use encryption_keys::EncryptionKey;
pub use error::ConfigError;
pub use ipnet::IpNet;
pub use schema::{DefaultValue, SETTINGS, Setting, reference_markdown};
pub use settings::{
    BrokerSettings, DatabaseSettings, DatabaseUrl, EncryptionSettings, HttpSettings, LarkHosts, LarkSettings,
    LoadOptions, OauthSettings, ReauthorizeSettings, Service, SessionSettings, Settings, TokenSettings,
    UserSyncSettings, WebsocketSettings, WorkerSettings,
};
