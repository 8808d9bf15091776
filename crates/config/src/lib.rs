//! Typed settings, from the environment and an optional TOML file.
//!
//! [`Settings::load`] reads them once, at the start of a process. The first thing that is wrong ends the start with one
//! line ([`ConfigError`]) that names the variable and the cure and never shows a secret. No setting is read anywhere else.
//!
//! To add a setting: a line in `table.rs` (name, default, meaning), a field in `settings.rs`, its line in `build.rs`; a rule
//! that involves a second setting goes to `rules.rs`. The reference page follows by itself ([`reference_markdown`]).

mod build;
mod error;
mod keys;
mod parse;
mod rules;
mod settings;
mod source;
mod table;

pub use chrono_tz::Tz;
pub use croner::Cron;
pub use error::ConfigError;
pub use keys::EncryptionKey;
pub use settings::{
    BrokerSettings, DatabaseSettings, DatabaseUrl, EncryptionSettings, HttpSettings, LarkHosts, LarkSettings,
    LoadOptions, OauthSettings, Service, SessionSettings, Settings, TokenSettings, UserSyncSettings,
    WebsocketSettings, WorkerSettings,
};
pub use table::{DefaultValue, SETTINGS, Setting, reference_markdown};
