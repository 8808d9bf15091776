//! Every setting: its name, default and meaning. The reader and the reference page both stand on this table.

use std::fmt::Write;

/// What holds when a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// Nothing.
    None,
    /// This text, read like a given one.
    Fixed(&'static str),
    /// Depends on something else, described here.
    Varies(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Environment variable; in the settings file the same name in any case.
    pub name: &'static str,
    /// Heading in the reference.
    pub group: &'static str,
    /// What holds when it is not given.
    pub default: DefaultValue,
    /// What it does.
    pub meaning: &'static str,
    /// Never shown; can also be given as the path of a file, by the name with `_FILE` behind it.
    pub secret: bool,
}

impl Setting {
    /// What it does, and what holds when it is not given.
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
        /// Every setting, in the order of the reference.
        pub const SETTINGS: &[Setting] = &[$($($name),+),+];
    };
    (@secret secret) => { true };
    (@secret) => { false };
}

use self::DefaultValue::{Fixed, None, Varies};

settings! {
    "Long connection":
    WEBSOCKET_MAX_RECONNECT_RETRIES = Fixed("10"), "Failures in a row before falling back.";
    WEBSOCKET_HEARTBEAT_INTERVAL = Fixed("30"), "Seconds between pings; a shorter interval given by the server wins.";
    WEBSOCKET_FALLBACK_TO_HTTP = Fixed("true"), "Accept HTTP callbacks once the long connection is given up.";

    "Invitations":
    AUTH_CARD_INCLUDE_DESCRIPTION = Fixed("true"), "Detailed card, or concise one.";
    AUTH_CARD_TEMPLATE_ID = None, "Use this card template instead of the built-in card.";
    AUTH_SESSION_EXPIRY_SECONDS = Fixed("600"), "Life of an invitation, in seconds.";
    AUTH_REQUEST_RATE_LIMIT = Fixed("5"), "Invitations per user per minute.";

    "Tokens":
    AUTH_TOKEN_REFRESH_THRESHOLD = Fixed("0.8"), "Scheduled refresh once this part of a token's life has passed (0.5 to 0.95). Does nothing in this version.";

    "User information":
    USER_INFO_SYNC_ENABLED = Fixed("false"), "Nightly batch sync. Does nothing in this version.";
    USER_INFO_SYNC_SCHEDULE = Fixed("0 2 * * *"), "When, as a cron expression.";
    USER_INFO_SYNC_TIMEZONE = Fixed("UTC"), "Time zone of the schedule, for example `Asia/Shanghai`.";

    "Database and broker":
    DATA_DIR = Fixed("data"), "Folder of `larkauth standalone`: its database, its encryption keys.";
    DATABASE_URL (secret) = Varies("standalone: an SQLite file in the data folder"), "`postgres://user:password@host/database`, or `sqlite:path` for standalone.";
    DATABASE_MAX_CONNECTIONS = Fixed("10"), "Most connections that one process opens.";
    AMQP_URL (secret) = Varies("standalone: the embedded bus"), "`amqp://user:password@host/vhost`, or `amqps://…`.";
    AMQP_PREFIX = Fixed("larkauth"), "First part of the names of exchanges and queues.";
    WORKER_CONCURRENCY = Fixed("32"), "Messages that one process handles at once.";

    "HTTP":
    HTTP_ADDR = Varies("`127.0.0.1:8080` (gateway), `:8081` (auth-worker), `:8082` (token-refresher)"), "Address to listen on: `/healthz`, `/readyz`, `/metrics`, and for the gateway everything else.";
    HTTP_CALLBACK_ENABLED = Fixed("false"), "Accept HTTP callbacks always, not only as fallback.";
    API_KEY (secret) = None, "A first API key with every scope, at least 16 characters.";
    SHUTDOWN_GRACE_SECONDS = Fixed("25"), "Seconds to finish what is in hand after a stop signal; a message takes at most 24.";

    "Application":
    APP_ID = None, "One application, registered at start: `cli_` and 16 to 32 letters or digits.";
    APP_SECRET (secret) = None, "Its secret.";
    LARK_VERIFICATION_TOKEN (secret) = None, "Its verification token, for HTTP callbacks.";
    LARK_ENCRYPT_KEY (secret) = None, "Its encrypt key, for HTTP callbacks.";
    LARK_BRAND = Fixed("feishu"), "Its cloud, `feishu` or `lark`; decides the default hosts.";
    LARK_TOKEN_API = Fixed("v2"), "Its token endpoint, `v2` or `v1`.";
    LARK_BASE_URL = Varies("the API host of the brand"), "Another API host, for all applications (a proxy, the simulator).";
    LARK_ACCOUNTS_URL = Varies("the accounts host of the brand"), "Another accounts host, for all applications.";
    OAUTH_REDIRECT_URI = Fixed("http://127.0.0.1:8080/oauth/callback"), "Where the browser comes back to; register it in the developer console.";
    OAUTH_SCOPES = Fixed("offline_access"), "Scopes to ask for when an invitation names none, separated by spaces. `offline_access` is always added.";

    "Encryption":
    ENCRYPTION_KEYS (secret) = Varies("standalone: made on first start"), "`id:base64-of-32-bytes[,id2:…]`; the first encrypts, all decrypt.";

    "Telemetry":
    LOG_FORMAT = Varies("`json` (services), `pretty` (command line)"), "`json` or `pretty`.";
    RUST_LOG = Varies("`info`"), "What is logged. Other people's crates stay capped at `info` or `warn`, whatever it says.";
    OTEL_EXPORTER_OTLP_ENDPOINT = None, "Base address of an OTLP/HTTP collector for traces, for example `http://127.0.0.1:4318`.";
}

/// The page of all settings, in Markdown, generated from the table.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         Generated from the code; edit `crates/config/src/schema.rs`.\n\n\
         The environment comes first; a TOML file (`--config`) may give the same names, in any case. Every secret `X` can also be \
         given as `X_FILE`, the path of a file that holds it. An empty variable counts as not set. Switches understand \
         `true`/`false`, `yes`/`no`, `1`/`0`. A wrong or missing setting stops the start with one line that says which and why.\n",
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
    fn names_are_single() {
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }
}
