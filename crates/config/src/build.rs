//! Builds the typed settings from their texts, one line per setting.

use std::{
    io::IsTerminal,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use larkauth_models::{
    AppId, Application, Brand, CardOptions, ExposeSecret, RefreshPolicy, SecretString, TokenApi,
};
use larkauth_net::{Network, Proxies, Trust};
use larkauth_telemetry::{LogFormat, TelemetryConfig};
use url::Url;

use crate::{
    BrokerSettings, ConfigError, Cron, DatabaseSettings, DatabaseUrl, EncryptionKey, EncryptionSettings,
    HttpSettings, IpNet, LarkHosts, LarkSettings, LoadOptions, OauthSettings, ReauthorizeSettings, Service,
    SessionSettings, Settings, TokenSettings, Tz, UserSyncSettings, WebsocketSettings, WorkerSettings,
    parse::{self, ParseError, parse_error},
    schema as t,
    settings::Unset,
    source::{self, Source},
    validate,
};

/// Values of `sslmode` in the address of a database.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/// Parameters in the address of a broker that are numbers.
const AMQP_NUMBERS: [&str; 4] = ["channel_max", "connection_timeout", "frame_max", "heartbeat"];
const BRANDS: &[(&str, Brand)] = &[("feishu", Brand::Feishu), ("lark", Brand::Lark)];
const REFRESH_POLICIES: &[(&str, RefreshPolicy)] = &[
    ("eager", RefreshPolicy::Eager),
    ("adaptive", RefreshPolicy::Adaptive),
    ("on_demand", RefreshPolicy::OnDemand),
];
const TOKEN_APIS: &[(&str, TokenApi)] = &[("v2", TokenApi::V2), ("v1", TokenApi::V1)];
/// Values of OTEL_LOGS_EXPORTER and OTEL_METRICS_EXPORTER: whether the collector gets them.
const EXPORTERS: &[(&str, bool)] = &[("none", false), ("otlp", true)];
const LOG_FORMATS: &[(&str, LogFormat)] = &[("json", LogFormat::Json), ("pretty", LogFormat::Pretty)];

impl Settings {
    /// Reads the settings of this process. The environment overrides the file of `--config`.
    ///
    /// # Errors
    /// Fails for the first setting that is missing or invalid.
    pub fn load(options: &LoadOptions) -> Result<Self, ConfigError> {
        let mut settings = Self::from_pairs(options, Self::environment()?)?;
        settings.telemetry.ansi = std::io::stderr().is_terminal();
        Ok(settings)
    }

    /// Returns the variables of this process.
    ///
    /// # Errors
    /// Fails for a setting that is not text.
    pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            match value.into_string() {
                Ok(value) => environment.push((name.to_owned(), value)),
                Err(_) if source::is_known(name) => {
                    return Err(ConfigError::Invalid {
                        name: name.to_owned(),
                        problem: "the value is not UTF-8 text".into(),
                        cure: "give it as UTF-8".into(),
                    });
                }
                Err(_) => {}
            }
        }
        Ok(environment)
    }

    /// Reads the settings as [`Settings::load`] does, with the environment as an argument.
    ///
    /// # Errors
    /// Fails for the first setting that is missing or invalid.
    pub fn from_pairs(
        options: &LoadOptions,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source::new(environment, options.config_file.as_deref())?;
        let mut settings = build(options.service, &source)?;
        settings.warnings = std::mem::take(&mut source.warnings);
        validate::check(&mut settings, &source)?;
        Ok(settings)
    }
}

fn build(service: Service, s: &Source) -> Result<Settings, ConfigError> {
    let lark = lark(s)?;
    let oauth = OauthSettings {
        redirect_uri: s.require(&t::OAUTH_REDIRECT_URI, parse::redirect_uri)?,
        scopes: s.require(&t::OAUTH_SCOPES, parse::scopes)?,
    };
    let network = Network::new(trust(s, &t::LARK_CA_FILE)?, proxies(s)?);
    let data_dir = s.require(&t::DATA_DIR, |text| Ok(PathBuf::from(text)))?;
    let metric_interval = s.require(&t::OTEL_METRIC_EXPORT_INTERVAL, parse::number(1000, 3_600_000))?;
    let metric_interval = Duration::from_millis(metric_interval);
    Ok(Settings {
        service,
        websocket: WebsocketSettings {
            max_reconnect_retries: s
                .require(&t::WEBSOCKET_MAX_RECONNECT_RETRIES, parse::number(1, 1_000_000))?,
            heartbeat_interval: s.require(&t::WEBSOCKET_HEARTBEAT_INTERVAL, parse::seconds(1, 3600))?,
            fallback_to_http: s.require(&t::WEBSOCKET_FALLBACK_TO_HTTP, parse::switch)?,
        },
        card: CardOptions {
            include_description: s.require(&t::AUTH_CARD_INCLUDE_DESCRIPTION, parse::switch)?,
            template_id: s.get(&t::AUTH_CARD_TEMPLATE_ID, parse::name(64, ""))?,
            app_name: s.get(&t::AUTH_CARD_APP_NAME, parse::visible_line(100))?,
            ..CardOptions::default()
        },
        sessions: SessionSettings {
            expiry: s.require(&t::AUTH_SESSION_EXPIRY_SECONDS, parse::seconds(1, 86_400))?,
            rate_limit_per_minute: s.require(&t::AUTH_REQUEST_RATE_LIMIT, parse::number(1, 1000))?,
            retention: s.require(&t::SESSION_RETENTION_DAYS, parse::days(7, 36_500))?,
        },
        audit_retention: s.require(&t::AUDIT_RETENTION_DAYS, parse::days(1, 36_500))?,
        tokens: TokenSettings {
            refresh_threshold: s.require(&t::AUTH_TOKEN_REFRESH_THRESHOLD, parse::number(0.5, 0.95))?,
            cache_size: s.require(&t::TOKEN_CACHE_SIZE, parse::number(0, 1_000_000))?,
            refresh_policy: s.require(&t::TOKEN_REFRESH_POLICY, parse::one_of(REFRESH_POLICIES))?,
            reauthorize: ReauthorizeSettings {
                enabled: s.require(&t::REAUTHORIZE_ENABLED, parse::switch)?,
                ahead: s.require(&t::REAUTHORIZE_DAYS_AHEAD, parse::days(0, 90))?,
                timezone: s.require(&t::REAUTHORIZE_TIMEZONE, timezone)?,
            },
        },
        user_sync: UserSyncSettings {
            enabled: s.require(&t::USER_INFO_SYNC_ENABLED, parse::switch)?,
            schedule: s.require(&t::USER_INFO_SYNC_SCHEDULE, schedule)?,
            timezone: s.require(&t::USER_INFO_SYNC_TIMEZONE, timezone)?,
        },
        escrow_spool_dir: s
            .get(&t::ESCROW_SPOOL_DIR, |text| Ok(PathBuf::from(text)))?
            .unwrap_or_else(|| data_dir.join("escrow")),
        data_dir,
        database: DatabaseSettings {
            url: s.get(&t::DATABASE_URL, database_url)?,
            trust: trust(s, &t::DATABASE_CA_FILE)?,
            max_connections: s.require(&t::DATABASE_MAX_CONNECTIONS, parse::number(1, 1000))?,
        },
        broker: BrokerSettings {
            url: s.get(&t::AMQP_URL, amqp_url)?,
            trust: trust(s, &t::AMQP_CA_FILE)?,
            prefix: s.require(&t::AMQP_PREFIX, amqp_prefix)?,
        },
        worker: WorkerSettings { concurrency: s.require(&t::WORKER_CONCURRENCY, parse::number(1, 1024))? },
        http: HttpSettings {
            addr: s.get(&t::HTTP_ADDR, address)?.unwrap_or(default_address(service)),
            public_addr: s.get(&t::PUBLIC_HTTP_ADDR, address)?.filter(|_| has_public_routes(service)),
            trusted_proxies: s.get(&t::TRUSTED_PROXIES, networks)?.unwrap_or_default(),
            callback_enabled: s.require(&t::HTTP_CALLBACK_ENABLED, parse::switch)?,
            callback_allow_unsigned: s.require(&t::HTTP_CALLBACK_ALLOW_UNSIGNED, parse::switch)?,
            api_key: s.get(&t::API_KEY, parse::api_key)?,
        },
        event_relay_url: s.get(&t::EVENT_RELAY_URL, parse::base_url)?,
        app_id: app_id(s)?,
        application: application(s, service, &lark, &oauth)?,
        unset: Unset {
            brand: !s.has(&t::LARK_BRAND),
            token_api: !s.has(&t::LARK_TOKEN_API),
            redirect_uri: !s.has(&t::OAUTH_REDIRECT_URI),
            scopes: !s.has(&t::OAUTH_SCOPES),
        },
        lark,
        oauth,
        encryption: EncryptionSettings {
            keys: s.get(&t::ENCRYPTION_KEYS, EncryptionKey::parse_list)?.unwrap_or_default(),
        },
        telemetry: TelemetryConfig {
            service_name: service.name().to_owned(),
            log_format: s
                .get(&t::LOG_FORMAT, parse::one_of(LOG_FORMATS))?
                .unwrap_or(if service.is_distributed() { LogFormat::Json } else { LogFormat::Pretty }),
            filter: s.get(&t::RUST_LOG, |text| Ok(text.to_owned()))?,
            otlp_endpoint: s.get(&t::OTEL_EXPORTER_OTLP_ENDPOINT, parse::base_url)?,
            export_logs: is_exported(s, &t::OTEL_LOGS_EXPORTER)?,
            export_metrics: is_exported(s, &t::OTEL_METRICS_EXPORTER)?.then_some(metric_interval),
            ansi: false,
            network: network.clone(),
        },
        network,
        shutdown_grace: s.require(&t::SHUTDOWN_GRACE_SECONDS, parse::seconds(1, 600))?,
        warnings: Vec::new(),
    })
}

/// Returns whether logs or metrics go to the collector, which must be set then.
fn is_exported(s: &Source, exporter: &t::Setting) -> Result<bool, ConfigError> {
    let wanted = s.require(exporter, parse::one_of(EXPORTERS))?;
    if wanted && !s.has(&t::OTEL_EXPORTER_OTLP_ENDPOINT) {
        return Err(ConfigError::Missing {
            name: t::OTEL_EXPORTER_OTLP_ENDPOINT.name,
            cure: format!(
                "{} sends to it: set the collector's address, or write `none` there",
                exporter.name
            ),
        });
    }
    Ok(wanted)
}

fn lark(s: &Source) -> Result<LarkSettings, ConfigError> {
    let hosts = |brand: Brand| -> Result<LarkHosts, ConfigError> {
        let base_url = s.get(&t::LARK_BASE_URL, parse::base_url)?;
        let accounts_url = s.get(&t::LARK_ACCOUNTS_URL, parse::base_url)?;
        let of_brand = |setting: &t::Setting, text| {
            parse::base_url(text).map_err(|error| ConfigError::Invalid {
                name: setting.name.to_owned(),
                problem: format!("the default `{text}` {}", error.problem),
                cure: error.cure,
            })
        };
        Ok(LarkHosts {
            base_url: base_url.map_or_else(|| of_brand(&t::LARK_BASE_URL, brand.base_url()), Ok)?,
            accounts_url: accounts_url
                .map_or_else(|| of_brand(&t::LARK_ACCOUNTS_URL, brand.accounts_url()), Ok)?,
        })
    };
    Ok(LarkSettings {
        brand: s.require(&t::LARK_BRAND, parse::one_of(BRANDS))?,
        token_api: s.require(&t::LARK_TOKEN_API, parse::one_of(TOKEN_APIS))?,
        feishu: hosts(Brand::Feishu)?,
        lark: hosts(Brand::Lark)?,
    })
}

/// Reads the authorities of a `…_CA_FILE` setting.
fn trust(s: &Source, setting: &t::Setting) -> Result<Trust, ConfigError> {
    let Some(path) = s.get(setting, |text| Ok(PathBuf::from(text)))? else { return Ok(Trust::default()) };
    Trust::default().with_ca_file(&path).map_err(|error| ConfigError::Invalid {
        name: setting.name.to_owned(),
        problem: error.to_string(),
        cure: "give the path of a PEM file with the certificates of the authorities to trust".into(),
    })
}

fn proxies(s: &Source) -> Result<Proxies, ConfigError> {
    let (http, https) = (s.get(&t::HTTP_PROXY, parse::proxy)?, s.get(&t::HTTPS_PROXY, parse::proxy)?);
    // What is not used is not checked.
    let all = if http.is_some() && https.is_some() { None } else { s.get(&t::ALL_PROXY, parse::proxy)? };
    let no_proxy = s.get(&t::NO_PROXY, no_proxy)?.unwrap_or_default();
    Ok(Proxies::new(http.or_else(|| all.clone()), https.or(all), &no_proxy))
}

fn app_id(s: &Source) -> Result<Option<AppId>, ConfigError> {
    s.get(&t::APP_ID, |text| {
        AppId::new(text).or_else(|_| {
            parse_error(
                "is not an app id",
                "give `cli_` and 16 to 32 letters or digits, as in the developer console",
            )
        })
    })
}

/// Builds the application of `APP_ID`. Checks here which of its settings require each other.
fn application(
    s: &Source,
    service: Service,
    lark: &LarkSettings,
    oauth: &OauthSettings,
) -> Result<Option<Application>, ConfigError> {
    let app_id = app_id(s)?;
    let app_secret = s.get(&t::APP_SECRET, parse::secret(1))?;
    let verification_token = s.get(&t::LARK_VERIFICATION_TOKEN, parse::secret(1))?;
    let encrypt_key = s.get(&t::LARK_ENCRYPT_KEY, parse::secret(1))?;
    // A command may read the secret elsewhere, or need none.
    if service != Service::Command {
        validate::application_is_complete(s)?;
    }
    Ok(app_id.zip(app_secret).map(|(app_id, app_secret)| Application {
        app_id,
        app_secret,
        verification_token,
        encrypt_key,
        brand: lark.brand,
        token_api: lark.token_api,
        redirect_uri: oauth.redirect_uri.clone(),
        default_scopes: oauth.scopes.clone(),
        enabled: true,
        frozen_since: None,
        frozen_reason: None,
    }))
}

const fn has_public_routes(service: Service) -> bool {
    matches!(service, Service::Gateway | Service::Standalone | Service::Command)
}

fn default_address(service: Service) -> SocketAddr {
    let port = match service {
        Service::Gateway | Service::Standalone | Service::Command => 8080,
        Service::AuthWorker => 8081,
        Service::TokenRefresher => 8082,
    };
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn address(text: &str) -> Result<SocketAddr, ParseError> {
    text.parse().or_else(|_| {
        parse_error(
            "is not an address to listen on",
            "give IP address and port, like `127.0.0.1:8080` or `0.0.0.0:8080`",
        )
    })
}

fn networks(text: &str) -> Result<Vec<IpNet>, ParseError> {
    let network =
        |text: &str| text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
    let parts = text.split([' ', ',']).filter(|part| !part.is_empty());
    parts.map(network).collect::<Option<_>>().map_or_else(
        || {
            parse_error(
                "is not a list of addresses or networks",
                "give them like `10.0.0.7 10.1.0.0/16 fd00::/8`, separated by spaces",
            )
        },
        Ok,
    )
}

impl DatabaseUrl {
    /// Parses an address that does not come from `DATABASE_URL`; errors show `name`.
    ///
    /// # Errors
    /// Fails when the address is neither `postgres://…` nor `sqlite:…`. The error does not contain the address.
    pub fn parse(name: &str, url: &SecretString) -> Result<Self, ConfigError> {
        database_url(url.expose_secret()).map_err(|error| ConfigError::Invalid {
            name: name.to_owned(),
            problem: error.problem,
            cure: error.cure,
        })
    }
}

fn database_url(text: &str) -> Result<DatabaseUrl, ParseError> {
    if text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sqlite:")) {
        return Ok(DatabaseUrl::Sqlite(text.into()));
    }
    let url =
        parse::service_url(&["postgres", "postgresql"], "postgres://user:password@host/database")(text)?;
    let is_mode = |mode: &str| SSL_MODES.contains(&mode.to_ascii_lowercase().as_str());
    if parse::parameters(text)
        .any(|(name, value)| matches!(&*name, "sslmode" | "ssl-mode") && !is_mode(&value))
    {
        return parse_error(
            "has an unknown `sslmode`",
            format!("write one of {}, or leave it out", SSL_MODES.map(|mode| format!("`{mode}`")).join(", ")),
        );
    }
    Ok(DatabaseUrl::Postgres(url))
}

fn amqp_url(text: &str) -> Result<SecretString, ParseError> {
    let url = parse::service_url(&["amqp", "amqps"], "amqps://user:password@host/vhost")(text)?;
    let path = Url::parse(text).map(|url| url.path().to_owned()).unwrap_or_default();
    match path.strip_prefix('/') {
        Some("") => parse_error(
            "names an empty virtual host",
            "write the default one, `/`, as `/%2f` after the port, or leave it out with its slash",
        ),
        Some(vhost) if vhost.contains('/') => parse_error(
            "names a virtual host with a slash in it",
            "write a slash that is part of its name as `%2f`, and leave out one at the end",
        ),
        _ => match parse::parameters(text)
            .find(|(name, value)| AMQP_NUMBERS.contains(&&**name) && value.parse::<u64>().is_err())
        {
            Some((name, _)) => {
                parse_error(format!("has no number for `{name}`"), "give a whole number, or leave it out")
            }
            None => Ok(url),
        },
    }
}

/// Parses a prefix of names at the broker, of which some are the broker's own.
fn amqp_prefix(text: &str) -> Result<String, ParseError> {
    let prefix = parse::name(40, ".")(text)?;
    if prefix.split('.').next().is_some_and(|first| first.eq_ignore_ascii_case("amq")) {
        return parse_error("is reserved by the broker", "choose a prefix that does not begin with `amq`");
    }
    Ok(prefix)
}

/// Parses the hosts without a proxy. The names need no check, since a name may be any text.
fn no_proxy(text: &str) -> Result<String, ParseError> {
    match text.split(',').map(str::trim).find(|part| part.contains('/') && part.parse::<IpNet>().is_err()) {
        Some(_) => parse_error(
            "has an invalid network",
            "give networks like `10.0.0.0/8`, and names and addresses without a slash, separated by commas",
        ),
        None => Ok(text.to_owned()),
    }
}

fn schedule(text: &str) -> Result<Cron, ParseError> {
    const CURE: &str =
        "give minute, hour, day, month and weekday, like `0 2 * * *` for 2 o'clock every night";
    if text.split_whitespace().count() != 5 {
        return parse_error("does not have five fields", CURE);
    }
    let Ok(cron) = text.parse::<Cron>() else { return parse_error("is not a cron expression", CURE) };
    // Any start date detects an impossible date such as 30 February.
    if cron.find_next_occurrence(&chrono::DateTime::UNIX_EPOCH, false).is_err() {
        return parse_error("never occurs", CURE);
    }
    Ok(cron)
}

fn timezone(text: &str) -> Result<Tz, ParseError> {
    text.parse()
        .or_else(|_| parse_error("is not a time zone", "give an IANA name, like `UTC` or `Asia/Shanghai`"))
}
