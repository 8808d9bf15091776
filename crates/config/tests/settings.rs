//! Defaults, precedence, every error line; no line contains a secret.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{fmt::Write, fs, path::PathBuf, time::Duration};

use larkauth_config::{ConfigError, DatabaseUrl, LoadOptions, SETTINGS, Service, Settings};
use larkauth_models::{Brand, ExposeSecret, TokenApi};
use larkauth_telemetry::LogFormat;

/// 32 bytes in base64.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn load(service: Service, pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    load_with(service, None, pairs)
}

fn load_with(
    service: Service,
    file: Option<PathBuf>,
    pairs: &[(&str, &str)],
) -> Result<Settings, ConfigError> {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::from_pairs(&LoadOptions { config_file: file, service }, pairs)
}

/// Writes a TOML file into the folder.
fn toml(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("larkauth.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn settings_without_input_have_specified_defaults() {
    let s = load(Service::Standalone, &[]).unwrap();
    assert_eq!(s.websocket.max_reconnect_retries, 10);
    assert_eq!(s.websocket.heartbeat_interval, Duration::from_secs(30));
    assert!(s.websocket.fallback_to_http);
    assert!(s.card.include_description);
    assert_eq!(s.card.template_id, None);
    assert!((s.tokens.refresh_threshold - 0.8).abs() < f64::EPSILON);
    assert_eq!(s.sessions.expiry, Duration::from_secs(600));
    assert_eq!(s.sessions.rate_limit_per_minute, 5);
    assert!(!s.user_sync.enabled);
    assert_eq!(s.user_sync.schedule.pattern.to_string(), "0 2 * * *");
    assert_eq!(s.user_sync.timezone.name(), "UTC");
    let again = &s.tokens.reauthorize;
    assert_eq!(
        (again.enabled, again.ahead, again.timezone.name()),
        (true, Duration::from_secs(14 * 86_400), "Asia/Shanghai")
    );
    assert!(s.database.url.is_none() && s.broker.url.is_none() && s.encryption.keys.is_empty());
    assert_eq!(s.database.max_connections, 10);
    assert_eq!(s.broker.prefix, "larkauth");
    assert_eq!(s.worker.concurrency, 32);
    assert_eq!(s.shutdown_grace, Duration::from_secs(25));
    assert!(!s.http.callback_enabled && s.http.api_key.is_none() && s.application.is_none());
    assert_eq!((s.lark.brand, s.lark.token_api), (Brand::Feishu, TokenApi::V2));
    assert_eq!(s.lark.hosts(Brand::Feishu).base_url.as_str(), "https://open.feishu.cn/");
    assert_eq!(s.lark.hosts(Brand::Lark).accounts_url.as_str(), "https://accounts.larksuite.com/");
    assert_eq!(s.oauth.redirect_uri.as_str(), "http://127.0.0.1:8080/oauth/callback");
    assert_eq!(s.oauth.scopes, ["offline_access"]);
    assert_eq!(s.telemetry.log_format, LogFormat::Pretty);
    assert!(s.telemetry.filter.is_none() && s.telemetry.otlp_endpoint.is_none());
    assert!(s.warnings.is_empty(), "{:?}", s.warnings);
}

#[test]
fn event_relay_url_unencrypted_to_another_machine_is_refused_unless_allowed() {
    for url in
        ["https://bot.example.com/webhook", "http://127.0.0.1:3000/", "http://localhost/x", "http://[::1]:1/"]
    {
        let s = load(Service::Standalone, &[("EVENT_RELAY_URL", url)]).unwrap();
        assert_eq!(s.event_relay_url.unwrap().as_str(), url);
    }
    let url = ("EVENT_RELAY_URL", "http://bot:3000/webhook");
    let error = load(Service::Standalone, &[url]).unwrap_err().to_string();
    assert!(error.starts_with("EVENT_RELAY_URL: ") && error.contains("EVENT_RELAY_ALLOW_HTTP"), "{error}");
    assert!(load(Service::Standalone, &[url, ("EVENT_RELAY_ALLOW_HTTP", "true")]).is_ok());
    for secret in ["https://user:pass1234@bot.example.com/", "https://bot.example.com/?token=pass1234"] {
        let error = load(Service::Standalone, &[("EVENT_RELAY_URL", secret)]).unwrap_err().to_string();
        assert!(error.starts_with("EVENT_RELAY_URL: "), "{error}");
    }
}

#[test]
fn settings_of_each_service_have_own_address_and_required_names() {
    let keys = format!("k1:{KEY}");
    let shared = [
        ("DATABASE_URL", "postgres://u:p@db/larkauth"),
        ("AMQP_URL", "amqps://u:p@mq/%2f"),
        ("ENCRYPTION_KEYS", keys.as_str()),
    ];
    for (service, addr) in [
        (Service::Gateway, "127.0.0.1:8080"),
        (Service::AuthWorker, "127.0.0.1:8081"),
        (Service::TokenRefresher, "127.0.0.1:8082"),
    ] {
        let s = load(service, &shared).unwrap();
        assert_eq!(s.http.addr.to_string(), addr);
        assert_eq!(s.telemetry.log_format, LogFormat::Json);
        assert!(matches!(s.database.required_url(), Ok(DatabaseUrl::Postgres(_))));
        assert_eq!(s.broker.required_url().unwrap().expose_secret(), "amqps://u:p@mq/%2f");
        assert_eq!(s.encryption.required_keys().unwrap()[0].bytes()[31], 31);
        for (name, _) in shared {
            let rest: Vec<_> = shared.into_iter().filter(|(other, _)| *other != name).collect();
            let error = load(service, &rest).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} is not set; ")), "{error}");
        }
    }
}

#[test]
fn public_address_equal_to_private_one_is_refused() {
    let load =
        |private, public| load(Service::Standalone, &[("HTTP_ADDR", private), ("PUBLIC_HTTP_ADDR", public)]);
    for (private, public) in
        [("127.0.0.1:80", "127.0.0.1:80"), ("127.0.0.1:80", "0.0.0.0:80"), ("[::]:80", "10.0.0.1:80")]
    {
        let error = load(private, public).unwrap_err().to_string();
        assert!(error.starts_with("PUBLIC_HTTP_ADDR: ") && error.contains("two ports"), "{error}");
    }
    for (private, public) in
        [("127.0.0.1:80", "127.0.0.1:81"), ("127.0.0.1:80", "10.0.0.1:80"), ("127.0.0.1:0", "127.0.0.1:0")]
    {
        let settings = load(private, public).unwrap();
        assert_eq!(settings.http.public_addr.unwrap().to_string(), public);
        assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    }
    let settings = load("127.0.0.1:8080", "127.0.0.1:8090").unwrap();
    assert!(
        settings.warnings[0].starts_with("OAUTH_REDIRECT_URI leads to HTTP_ADDR"),
        "{:?}",
        settings.warnings
    );
}

#[test]
fn settings_from_pairs_reads_every_given_value() {
    let two_keys = format!("new:{KEY}, old:{KEY}");
    let s = load(
        Service::Standalone,
        &[
            ("WEBSOCKET_MAX_RECONNECT_RETRIES", "3"),
            ("WEBSOCKET_FALLBACK_TO_HTTP", "No"),
            ("AUTH_CARD_INCLUDE_DESCRIPTION", "0"),
            ("AUTH_CARD_TEMPLATE_ID", "AAqk1234"),
            ("AUTH_TOKEN_REFRESH_THRESHOLD", "0.9"),
            ("USER_INFO_SYNC_ENABLED", "yes"),
            ("USER_INFO_SYNC_SCHEDULE", "30 3 * * 1-5"),
            ("USER_INFO_SYNC_TIMEZONE", "Asia/Shanghai"),
            ("REAUTHORIZE_ENABLED", "no"),
            ("REAUTHORIZE_DAYS_AHEAD", "30"),
            ("REAUTHORIZE_TIMEZONE", "Europe/Berlin"),
            ("DATABASE_URL", "sqlite:data.db"),
            ("HTTP_ADDR", "0.0.0.0:9000"),
            ("APP_ID", "cli_0123456789abcdef"),
            ("APP_SECRET", "app-secret"),
            ("LARK_ENCRYPT_KEY", "encrypt-key"),
            ("LARK_BRAND", "lark"),
            ("LARK_TOKEN_API", "v1"),
            ("LARK_BASE_URL", "http://127.0.0.1:1"),
            ("LARK_ACCOUNTS_URL", "http://127.0.0.1:1"),
            ("OAUTH_SCOPES", "offline_access  im:message"),
            ("ENCRYPTION_KEYS", &two_keys),
            ("API_KEY", "0123456789abcdef"),
            ("LOG_FORMAT", "JSON"),
            ("RUST_LOG", ""),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", " http://127.0.0.1:4318 "),
        ],
    )
    .unwrap();
    assert!(!s.websocket.fallback_to_http && !s.card.include_description && s.user_sync.enabled);
    assert!(matches!(s.database.url, Some(DatabaseUrl::Sqlite(_))));
    let app = s.application.as_ref().unwrap();
    assert_eq!((app.brand, app.token_api), (Brand::Lark, TokenApi::V1));
    assert_eq!(app.default_scopes, ["offline_access", "im:message"]);
    assert_eq!(s.lark.hosts(Brand::Feishu), s.lark.hosts(Brand::Lark));
    assert_eq!(s.encryption.keys.iter().map(|key| key.id()).collect::<Vec<_>>(), ["new", "old"]);
    assert_eq!(s.telemetry.log_format, LogFormat::Json);
    assert_eq!(s.telemetry.filter, None, "an empty variable counts as not set");
    assert_eq!(s.warnings, [] as [&str; 0]);
    let again = &s.tokens.reauthorize;
    assert_eq!(
        (again.enabled, again.ahead, again.timezone.name()),
        (false, Duration::from_secs(30 * 86_400), "Europe/Berlin")
    );

    let shown = format!("{s:?}");
    for secret in ["app-secret", "encrypt-key", "0123456789abcdef\"", KEY, "data.db"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn settings_file_is_overridden_by_environment_and_ignores_case() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "from-the-file\r\n").unwrap();
    let file = toml(
        &folder,
        &format!(
            "amqp_prefix = \"file\"\nWORKER_CONCURRENCY = 7\nauth_token_refresh_threshold = 0.7\nuser_info_sync_enabled = true\n\
             app_id = \"cli_0123456789abcdef\"\napp_secret_file = {secret:?}\napi_key = \"short\"\n"
        ),
    );
    let environment = [("AMQP_PREFIX", "environment"), ("API_KEY", "0123456789abcdef")];
    let s = load_with(Service::Standalone, Some(file.clone()), &environment).unwrap();
    assert_eq!((s.broker.prefix.as_str(), s.worker.concurrency), ("environment", 7));
    assert!(s.user_sync.enabled && s.tokens.refresh_threshold < 0.75);
    assert_eq!(s.application.unwrap().app_secret.expose_secret(), "from-the-file");

    // The same secret by another way in the environment is no contradiction: the environment wins.
    let environment = [("APP_SECRET", "from-the-environment"), ("API_KEY", "0123456789abcdef")];
    let s = load_with(Service::Standalone, Some(file.clone()), &environment).unwrap();
    assert_eq!(s.application.unwrap().app_secret.expose_secret(), "from-the-environment");

    let error = load_with(Service::Standalone, Some(file.clone()), &[]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("API_KEY in {}: ", file.display())), "{error}");
}

#[test]
fn secret_from_file_is_read_and_empty_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let secrets: Vec<_> =
        SETTINGS.iter().filter(|setting| setting.secret).map(|setting| setting.name).collect();
    assert_eq!(secrets.len(), 10);
    for name in secrets {
        fs::write(&path, "\n").unwrap();
        let variable = format!("{name}_FILE");
        let error =
            load(Service::Standalone, &[(&variable, path.to_str().unwrap())]).unwrap_err().to_string();
        assert_eq!(error, format!("{variable}: the file is empty; write the secret into it"));
    }
    fs::write(&path, format!("k1:{KEY}\n")).unwrap();
    let s = load(Service::Standalone, &[("ENCRYPTION_KEYS_FILE", path.to_str().unwrap())]).unwrap();
    assert_eq!(s.encryption.keys.len(), 1);
}

#[test]
fn config_error_of_invalid_value_is_one_line_with_cure() {
    let secret = "s3cr3t";
    let with_secret = |text: &str| text.replace("SECRET", secret);
    let key = format!("k1:{KEY}");
    let long = "x".repeat(500);
    let app = ("APP_ID", "cli_0123456789abcdef");
    let cases: Vec<Vec<(&str, String)>> = vec![
        vec![("WEBSOCKET_MAX_RECONNECT_RETRIES", "many".into())],
        vec![("WEBSOCKET_MAX_RECONNECT_RETRIES", "0".into())],
        vec![("WEBSOCKET_HEARTBEAT_INTERVAL", "1.5".into())],
        vec![("WEBSOCKET_FALLBACK_TO_HTTP", "maybe".into())],
        vec![("AUTH_CARD_TEMPLATE_ID", "not a name\n".into())],
        vec![("AUTH_CARD_TEMPLATE_ID", long)],
        vec![("AUTH_TOKEN_REFRESH_THRESHOLD", "0.99".into())],
        vec![("AUTH_TOKEN_REFRESH_THRESHOLD", "NaN".into())],
        vec![("USER_INFO_SYNC_SCHEDULE", "at night".into())],
        vec![("USER_INFO_SYNC_SCHEDULE", "0 0 30 2 *".into())],
        vec![("USER_INFO_SYNC_SCHEDULE", "0 0 2 * * *".into())],
        vec![("USER_INFO_SYNC_SCHEDULE", "@daily".into())],
        vec![("AUTH_CARD_APP_NAME", "\u{200b}\u{200d} \u{2060}".into())],
        vec![("DATABASE_URL", with_secret("postgres://u:SECRET@db/x?sslmode=foo"))],
        vec![("AMQP_URL", with_secret("amqps://u:SECRET@mq/"))],
        vec![("AMQP_URL", with_secret("amqps://u:SECRET@mq/a/b"))],
        vec![("AMQP_URL", with_secret("amqps://u:SECRET@mq/a?heartbeat=soon"))],
        vec![("AMQP_PREFIX", "amq.x".into())],
        vec![("AMQP_PREFIX", "AMQ".into())],
        vec![("NO_PROXY", "localhost, 10.0.0.0/99".into())],
        vec![("USER_INFO_SYNC_TIMEZONE", "Moon/Base".into())],
        vec![("DATABASE_URL", with_secret("mysql://u:SECRET@db/x"))],
        vec![("DATABASE_URL", with_secret("SECRET"))],
        vec![("DATABASE_URL", with_secret("postgres://u:SECRET#1@db:x/larkauth"))],
        vec![("AMQP_URL", with_secret("http://u:SECRET@mq"))],
        vec![("AMQP_URL", with_secret("amqp:SECRET"))],
        vec![("AMQP_URL", with_secret("amqp://u:SECRET@mq/%2f"))],
        vec![("DATABASE_URL", with_secret("postgres://u:SECRET@db1,db2:5433/x"))],
        vec![("DATABASE_URL", with_secret("postgres://u:SECRET@/x?host=db1,db2"))],
        vec![("DATABASE_CA_FILE", "/nowhere/ca.pem".into())],
        vec![("HTTPS_PROXY", with_secret("socks5://u:SECRET@host:1080"))],
        vec![("ALL_PROXY", with_secret("http://u:SECRET@host:port"))],
        vec![("HTTP_PROXY", "/nonexistent".into())],
        vec![("HTTPS_PROXY", "-1".into())],
        vec![("ALL_PROXY", "１０".into())],
        vec![("AMQP_PREFIX", "a b".into())],
        vec![("HTTP_ADDR", "localhost".into())],
        vec![("HTTP_ADDR", with_secret("http://u:SECRET@host"))],
        vec![("API_KEY", with_secret("SECRET"))],
        vec![("API_KEY", with_secret("SECRET SECRET SECRET"))],
        vec![("API_KEY", "at-least-16-characters".into())],
        vec![("API_KEY", "Change-Me-To-Something".into())],
        vec![("API_KEY", "aaaaaaaaaaaaaaaaaaaa".into())],
        vec![("APP_ID", "app_1".into())],
        vec![(app.0, app.1.into())],
        vec![("APP_SECRET", with_secret("SECRET"))],
        vec![("LARK_ENCRYPT_KEY", with_secret("SECRET"))],
        vec![
            (app.0, app.1.into()),
            ("APP_SECRET", with_secret("SECRET")),
            ("HTTP_CALLBACK_ENABLED", "1".into()),
        ],
        vec![("APP_SECRET", with_secret("SECRET")), ("APP_SECRET_FILE", "/run/secret".into())],
        vec![("APP_SECRET_FILE", "/nowhere/secret".into())],
        vec![("LARK_BRAND", "dingtalk".into())],
        vec![("LARK_BASE_URL", "open.feishu.cn".into())],
        vec![("LARK_BASE_URL", with_secret("https://u:SECRET@open.feishu.cn"))],
        vec![("LARK_ACCOUNTS_URL", "ftp://host".into())],
        vec![("OAUTH_REDIRECT_URI", "https://host/cb#x".into())],
        vec![("OAUTH_SCOPES", "a,b".into())],
        vec![("OAUTH_SCOPES", "a ".repeat(51))],
        vec![("ENCRYPTION_KEYS", with_secret("SECRET"))],
        vec![("ENCRYPTION_KEYS", format!("{key},k2:{secret}!"))],
        vec![("ENCRYPTION_KEYS", format!("{key},k 2:{KEY}"))],
        vec![("ENCRYPTION_KEYS", format!("{key},{key}"))],
        vec![("ENCRYPTION_KEYS", "k1:AAAA".into())],
        vec![("LOG_FORMAT", "xml".into())],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://host:4318/?x".into())],
    ];
    let mut lines = String::new();
    for case in &cases {
        let pairs: Vec<_> = case.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let error = load(Service::Standalone, &pairs).unwrap_err().to_string();
        assert!(
            !error.contains('\n') && error.len() < 300 && !error.contains(secret) && !error.contains(KEY),
            "{error}"
        );
        writeln!(lines, "{error}").unwrap();
    }
    let gateway = [("DATABASE_URL", "sqlite:x"), ("AMQP_URL", "amqps://mq"), ("ENCRYPTION_KEYS", &key)];
    for count in 0..=gateway.len() {
        let pairs = if count == 3 {
            &gateway[..]
        } else {
            &[("DATABASE_URL", "postgres://db/x"), gateway[1]][..count.min(2)]
        };
        writeln!(lines, "{}", load(Service::Gateway, pairs).unwrap_err()).unwrap();
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn config_error_of_invalid_file_is_one_line_with_cure() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for text in [
        "app_id = \"cli_0123456789abcdef\"\napp_secret = \"s3cr3t\napi_key = 1\n",
        "app_secrt = \"s3cr3t\"\n",
        "colour = \"s3cr3t\"\n",
        "[database]\nurl = \"s3cr3t\"\n",
        "oauth_scopes = [\"s3cr3t\"]\n",
        "amqp_prefix = \"a\"\nAMQP_PREFIX = \"b\"\n",
        "log_format = 1\n",
    ] {
        let file = toml(&folder, text);
        let error = load_with(Service::Standalone, Some(file.clone()), &[]).unwrap_err().to_string();
        assert!(!error.contains("s3cr3t") && !error.contains('\n'), "{error}");
        writeln!(lines, "{}", error.replace(file.to_str().unwrap(), "larkauth.toml")).unwrap();
    }
    let error = load_with(Service::Standalone, Some("/nowhere/larkauth.toml".into()), &[]).unwrap_err();
    writeln!(lines, "{error}").unwrap();
    insta::assert_snapshot!(lines);
}

#[test]
fn settings_with_probable_mistake_have_warning() {
    let s = load(
        Service::Standalone,
        &[
            ("AUTH_SESION_EXPIRY_SECONDS", "1"),
            ("AUTH_UNRELATED", "1"),
            ("DATABASE_URI", "of another program"),
            ("OAUTH_SCOPES", "im:message"),
            ("LARK_BASE_URL", "http://127.0.0.1:1"),
            ("APP_ID", "cli_0123456789abcdef"),
            ("APP_SECRET", "s3cr3t"),
            ("WEBSOCKET_FALLBACK_TO_HTTP", "true"),
        ],
    )
    .unwrap();
    insta::assert_snapshot!(s.warnings.join("\n"));
    // A default is not a mistake.
    let by_default = [("APP_ID", "cli_0123456789abcdef"), ("APP_SECRET", "s3cr3t")];
    assert!(load(Service::Standalone, &by_default).unwrap().warnings.is_empty());
}

#[test]
fn callback_verification_is_required_of_services_only() {
    let app =
        [("APP_ID", "cli_0123456789abcdef"), ("APP_SECRET", "s3cr3t"), ("HTTP_CALLBACK_ENABLED", "true")];
    assert!(load(Service::Standalone, &app).is_err());
    assert!(load(Service::Command, &app).unwrap().warnings.is_empty());
}

#[test]
fn retention_and_trusted_proxies_are_parsed_and_checked() {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let s = load(Service::Standalone, &[]).unwrap();
    assert_eq!((s.sessions.retention, s.audit_retention), (days(90), days(365)));
    assert_eq!(s.http.trusted_proxies, []);
    let given = [
        ("SESSION_RETENTION_DAYS", "7"),
        ("AUDIT_RETENTION_DAYS", "3650"),
        ("TRUSTED_PROXIES", "10.0.0.7, 10.1.0.0/16 fd00::/8"),
    ];
    let s = load(Service::Standalone, &given).unwrap();
    assert_eq!((s.sessions.retention, s.audit_retention), (days(7), days(3650)));
    let proxies: Vec<_> = s.http.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.7/32", "10.1.0.0/16", "fd00::/8"]);
    for (name, value) in [
        ("SESSION_RETENTION_DAYS", "1"),
        ("AUDIT_RETENTION_DAYS", "0"),
        ("AUDIT_RETENTION_DAYS", "ever"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
    ] {
        let error = load(Service::Standalone, &[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
    }
}
