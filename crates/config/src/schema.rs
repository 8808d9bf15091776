//! Name, default and meaning of every setting, for the parser and for the reference page.

use std::fmt::Write;

/// Default of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// Nothing.
    None,
    /// This text, parsed like a given value.
    Fixed(&'static str),
    /// Depends on other settings or the service, as described.
    Varies(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Environment variable. The settings file has the same name, in any case.
    pub name: &'static str,
    /// Heading in the reference page.
    pub group: &'static str,
    /// Default.
    pub default: DefaultValue,
    /// Meaning.
    pub meaning: &'static str,
    /// True for a secret: never shown, and can also be given as the path of a file by the name with the suffix `_FILE`.
    pub secret: bool,
}

impl Setting {
    /// Returns the meaning and the default.
    #[must_use]
    pub fn help(&self) -> String {
        match self.default {
            None => self.meaning.to_owned(),
            Fixed(text) | Varies(text) => {
                format!("{} [default: {}]", self.meaning, text.replace('`', ""))
            }
        }
    }
}

macro_rules! settings {
    ($($group:literal: $($name:ident $(($secret:ident))? = $default:expr, $meaning:literal;)+)+) => {
        $($(#[doc = $meaning] pub(crate) const $name: Setting = Setting {
            name: stringify!($name), group: $group, default: $default, meaning: $meaning, secret: settings!(@secret $($secret)?),
        };)+)+
        /// Every setting, in the order of the reference page.
        pub const SETTINGS: &[Setting] = &[$($($name),+),+];
    };
    (@secret secret) => { true };
    (@secret) => { false };
}

use self::DefaultValue::{Fixed, None, Varies};

settings! {
    "Long connection":
    WEBSOCKET_MAX_RECONNECT_RETRIES = Fixed("10"), "Consecutive failures before the HTTP fallback.";
    WEBSOCKET_HEARTBEAT_INTERVAL = Fixed("30"), "Seconds between pings; a shorter interval given by the server wins.";
    WEBSOCKET_FALLBACK_TO_HTTP = Fixed("true"), "Count on HTTP callbacks after that number of failures: the long connection is tried less often, and `/health` is not degraded.";

    "Sessions":
    AUTH_CARD_INCLUDE_DESCRIPTION = Fixed("true"), "`true` for the detailed card, `false` for the concise one.";
    AUTH_CARD_TEMPLATE_ID = None, "Use this card template instead of the built-in card.";
    AUTH_CARD_APP_NAME = None, "Name of the application on its cards. By default Lark is asked for it.";
    AUTH_SESSION_EXPIRY_SECONDS = Fixed("600"), "Lifetime of a session, in seconds.";
    AUTH_REQUEST_RATE_LIMIT = Fixed("5"), "Sessions per user per minute.";
    SESSION_RETENTION_DAYS = Fixed("90"), "Days for which an ended session is kept, counted from its creation. The token is kept longer.";

    "Audit":
    AUDIT_RETENTION_DAYS = Fixed("365"), "Days for which audit records are kept.";

    "Tokens":
    AUTH_TOKEN_REFRESH_THRESHOLD = Fixed("0.8"), "Fraction of a token's lifetime after which it is refreshed on schedule (0.5 to 0.95). A read refreshes by itself once less than a tenth is left.";
    TOKEN_REFRESH_POLICY = Fixed("adaptive"), "Whose tokens are refreshed ahead: `eager` (every access token is kept valid), `adaptive` (those used within a day; of the others the refresh token is kept valid) or `on_demand` (none; a login that is not used for seven days ends).";
    TOKEN_CACHE_SIZE = Fixed("10000"), "Most decrypted tokens that a gateway keeps in memory, about 3 KB each; what it serves is at most one second old. 0 reads each one from the database.";

    REAUTHORIZE_ENABLED = Fixed("true"), "Send a card by itself when Lark has ended a login that was not revoked here, and ahead of the end that Lark sets 365 days after a consent. `false`: people are asked only when a caller does.";
    REAUTHORIZE_DAYS_AHEAD = Fixed("14"), "Days before the 365-day end at which the person is asked (0 to 90).";
    REAUTHORIZE_TIMEZONE = Fixed("Asia/Shanghai"), "Time zone of the working hours, Monday to Friday from 9 to 18 o'clock, in which people are asked whose token is not in use.";

    "User information":
    USER_INFO_SYNC_ENABLED = Fixed("false"), "Look people up at Lark on the schedule below, and one after a refresh of the token that is the first in a day: profiles are renewed, and people who were frozen or have left are not served any more. The application needs the permissions `contact:contact.base:readonly` and `contact:user.employee:readonly`.";
    USER_INFO_SYNC_SCHEDULE = Fixed("0 2 * * *"), "When all people are looked up, as a cron expression of five fields (minute, hour, day, month, weekday).";
    USER_INFO_SYNC_TIMEZONE = Fixed("UTC"), "Time zone of the schedule, for example `Asia/Shanghai`.";

    "Database and broker":
    DATA_DIR = Fixed("data"), "Folder of `larkauth standalone` for the database and the encryption keys.";
    ESCROW_SPOOL_DIR = Varies("`escrow` in the data folder"), "Folder for tokens that neither database nor broker takes when Lark gives them, encrypted; on a disk that survives a restart, best another one than the database's. 2 MiB in each folder are reserved, for 64 pairs on a full disk; processes with the same folder share them.";
    DATABASE_URL (secret) = Varies("standalone: an SQLite file in the data folder"), "`postgres://user:password@host/database`, or `sqlite:path` for standalone. Another machine than this one is reached over verified TLS, unless `?sslmode=…` says otherwise; `disable` is plain text.";
    DATABASE_CA_FILE = None, "PEM file of authorities that are trusted for the certificate of PostgreSQL, besides the bundled ones and those of the operating system.";
    DATABASE_MAX_CONNECTIONS = Fixed("10"), "Maximum number of database connections of one process.";
    AMQP_URL (secret) = Varies("standalone: the embedded bus"), "`amqps://user:password@host/vhost`, or `amqp://…` for RabbitMQ on this machine.";
    AMQP_CA_FILE = None, "PEM file of authorities that are trusted for the certificate of RabbitMQ, besides the bundled ones and those of the operating system.";
    AMQP_ALLOW_PLAINTEXT = Fixed("false"), "Accept an `amqp://` address of another machine: messages and the password travel unencrypted there.";
    AMQP_PREFIX = Fixed("larkauth"), "Prefix of the names of exchanges and queues.";
    WORKER_CONCURRENCY = Fixed("32"), "Messages that one process handles concurrently.";

    "HTTP":
    HTTP_ADDR = Varies("`127.0.0.1:8080` (gateway), `:8081` (auth-worker), `:8082` (token-refresher)"), "Address to listen on: `/healthz`, `/readyz`, `/health`, `/metrics`, and for the gateway all other routes.";
    PUBLIC_HTTP_ADDR = None, "Second address of the gateway, for browsers and Lark: `/oauth`, `/lark` and `/healthz` only. `HTTP_ADDR` then serves everything but `/oauth` and `/lark`.";
    TRUSTED_PROXIES = None, "Addresses or networks of the proxies in front of the gateway, separated by spaces. Only from these is `X-Forwarded-For` believed; audit records name the client by it.";
    HTTP_CALLBACK_ENABLED = Fixed("false"), "Callbacks of APP_ID come by HTTP: refuse to start when they cannot be verified. Verified callbacks are accepted in any case.";
    HTTP_CALLBACK_ALLOW_UNSIGNED = Fixed("false"), "Accept HTTP callbacks of an application without encrypt key. The verification token inside them is then all that proves their origin.";
    API_KEY (secret) = None, "Bootstrap API key with every scope, at least 16 characters.";
    SHUTDOWN_GRACE_SECONDS = Fixed("25"), "Seconds to finish running work after a stop signal; a message takes at most 24.";

    "Network":
    LARK_CA_FILE = None, "PEM file of authorities that are trusted for HTTPS and WebSocket, besides the bundled ones and those of the operating system: of a proxy that inspects TLS, of EVENT_RELAY_URL, of the collector.";
    HTTPS_PROXY (secret) = Varies("`ALL_PROXY`"), "HTTP proxy for `https` and `wss`, `http://user:password@host:port`. This and the next three are also read in lower case. This machine is never reached through a proxy.";
    HTTP_PROXY (secret) = Varies("`ALL_PROXY`"), "HTTP proxy for `http` and `ws`.";
    ALL_PROXY (secret) = None, "HTTP proxy for what has none of its own.";
    NO_PROXY = None, "Hosts that are reached without a proxy, separated by commas: names with everything below them, addresses, networks (`10.0.0.0/8`), or `*`.";

    "Other events of the application":
    EVENT_RELAY_URL = None, "Post the application's events that are not larkauth's to this address, as Lark's webhook would. With RabbitMQ they are published as `lark.event.#` and `lark.card.action` in any case.";
    EVENT_RELAY_ALLOW_HTTP = Fixed("false"), "Accept an `http` address of another machine in EVENT_RELAY_URL: chat messages travel unencrypted there, unless LARK_ENCRYPT_KEY is set.";

    "Application":
    APP_ID = None, "Application to register at start: `cli_` and 16 to 32 letters or digits. Its settings are applied when it is not registered and once after each change of them; settings that were applied before never undo a newer registration.";
    APP_SECRET (secret) = None, "Application secret.";
    LARK_VERIFICATION_TOKEN (secret) = None, "Verification token of the application, for HTTP callbacks.";
    LARK_ENCRYPT_KEY (secret) = None, "Encrypt key of the application, for HTTP callbacks.";
    LARK_BRAND = Fixed("feishu"), "Cloud of the application, `feishu` or `lark`; determines the default hosts.";
    LARK_TOKEN_API = Fixed("v2"), "Token endpoint of the application, `v2` or `v1`. A change ends the existing logins of the application at their next refresh. `auth_method` `device_code` needs `v2`.";
    LARK_BASE_URL = Varies("the API host of the brand"), "Overrides the API host for all applications (a proxy, the simulator).";
    LARK_ACCOUNTS_URL = Varies("the accounts host of the brand"), "Overrides the accounts host for all applications.";
    OAUTH_REDIRECT_URI = Fixed("http://127.0.0.1:8080/oauth/callback"), "Redirect address after consent; register it in the developer console.";
    OAUTH_SCOPES = Fixed("offline_access"), "Scopes of a session that names none, separated by spaces. `offline_access` is always added.";

    "Encryption":
    ENCRYPTION_KEYS (secret) = Varies("standalone: generated at first start"), "`id:base64-of-32-bytes[,id2:…]`; the first key encrypts, all keys decrypt.";

    "Telemetry":
    LOG_FORMAT = Varies("`json` (services), `pretty` (command line)"), "`json` or `pretty`.";
    RUST_LOG = Varies("`info`"), "Log filter. Third-party crates are always capped at `info` or `warn`.";
    OTEL_EXPORTER_OTLP_ENDPOINT = None, "Base address of an OTLP/HTTP collector for traces, for example `http://127.0.0.1:4318`.";
    OTEL_LOGS_EXPORTER = Fixed("none"), "`otlp` sends log lines to the collector, besides writing them to standard error.";
    OTEL_METRICS_EXPORTER = Fixed("none"), "`otlp` sends metrics to the collector, besides serving them on `/metrics`.";
    OTEL_METRIC_EXPORT_INTERVAL = Fixed("60000"), "Milliseconds between two exports of metrics.";
}

/// Returns the reference page of all settings, in Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         Generated from the code; edit `crates/config/src/schema.rs`.\n\n\
         The environment overrides the TOML file (`--config`), which has the same names, in any case. Every secret `X` can also be \
         given as `X_FILE`, the path of a file that contains the secret. An empty variable counts as not set. Switches accept \
         `true`/`false`, `yes`/`no`, `1`/`0`. An invalid or missing setting stops the start with one line that names the setting, \
         the problem and the cure.\n",
    );
    let mut group = "";
    for setting in SETTINGS {
        // Writing to a String cannot fail.
        if setting.group != group {
            group = setting.group;
            let _ = write!(page, "\n## {group}\n\n| variable | default | meaning |\n| --- | --- | --- |\n");
        }
        let default = match setting.default {
            None => "–".to_owned(),
            Fixed(text) => format!("`{text}`"),
            Varies(text) => text.to_owned(),
        };
        let secret = if setting.secret { " Secret." } else { "" };
        let _ = writeln!(page, "| `{}` | {default} | {}{secret} |", setting.name, setting.meaning);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_markdown_matches_snapshot() {
        insta::assert_snapshot!(reference_markdown());
    }

    #[test]
    fn settings_names_are_unique() {
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }
}
