//! TLS, proxies, and the traces of other editors and systems in values and files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{fs, path::PathBuf};

use larkauth_config::{ConfigError, DatabaseUrl, LoadOptions, Service, Settings};
use larkauth_models::ExposeSecret;
use url::Url;

const APP: [(&str, &str); 2] = [("APP_ID", "cli_0123456789abcdef"), ("APP_SECRET", "s3cr3t")];

fn load(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    load_file(None, pairs)
}

fn load_file(config_file: Option<PathBuf>, pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::from_pairs(&LoadOptions { config_file, service: Service::Standalone }, pairs)
}

fn is_proxied(settings: &Settings, url: &str) -> bool {
    settings.network.is_proxied(&Url::parse(url).unwrap())
}

#[test]
fn amqp_url_unencrypted_to_another_machine_is_refused_unless_allowed() {
    for url in
        ["amqp://u:pass1234@mq/%2f", "amqp://u:pass1234@10.0.0.1", "AMQP://u:pass1234@mq.localhost.example"]
    {
        let error = load(&[("AMQP_URL", url)]).unwrap_err().to_string();
        assert!(error.starts_with("AMQP_URL: ") && error.contains("amqps://"), "{error}");
        assert!(error.contains("AMQP_ALLOW_PLAINTEXT=true") && !error.contains("pass1234"), "{error}");
        assert!(load(&[("AMQP_URL", url), ("AMQP_ALLOW_PLAINTEXT", "true")]).is_ok(), "{url}");
    }
    for url in ["amqps://u:p@mq/%2f", "amqp://u:p@127.0.0.1:5672", "amqp://localhost/x", "amqp://[::1]/x"] {
        assert!(load(&[("AMQP_URL", url)]).is_ok(), "{url}");
    }
}

#[test]
fn database_url_that_turns_verification_off_has_warning() {
    let warnings = |url: &str| load(&[("DATABASE_URL", url)]).unwrap().warnings.join("\n");
    let require = warnings("postgres://u:pass1234@db/x?sslmode=require");
    assert!(
        require.contains("`sslmode=require`: the certificate of the server is not verified"),
        "{require}"
    );
    let disable = warnings("postgres://u:pass1234@db/x?sslmode=disable");
    assert!(disable.contains("travel unencrypted") && !disable.contains("pass1234"), "{disable}");
    for url in [
        "postgres://db/x",
        "postgres://db/x?sslmode=verify-full",
        "postgres://127.0.0.1/x?sslmode=disable",
        "postgres://%2Frun%2Fpostgresql/x?sslmode=disable",
        "postgres:///x?sslmode=disable",
    ] {
        assert_eq!(warnings(url), "", "{url}");
    }
}

#[test]
fn ca_file_that_holds_no_certificate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, "not a certificate").unwrap();
    for name in ["DATABASE_CA_FILE", "AMQP_CA_FILE", "LARK_CA_FILE"] {
        let error = load(&[(name, path.to_str().unwrap())]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{name}: `")) && error.contains("holds no certificate"),
            "{error}"
        );
    }
}

#[test]
fn proxies_of_either_case_with_all_proxy_as_fallback() {
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let settings = load(&[(name, "http://u:p@proxy:3128"), ("no_proxy", "direct.test")]).unwrap();
        assert!(is_proxied(&settings, "wss://open.feishu.cn/"), "{name}");
        assert!(!is_proxied(&settings, "https://direct.test/"), "{name}");
        assert!(!is_proxied(&settings, "https://127.0.0.1/"), "{name}");
        assert_eq!(
            is_proxied(&settings, "http://open.feishu.cn/"),
            name.eq_ignore_ascii_case("ALL_PROXY"),
            "{name}"
        );
        assert!(!format!("{settings:?}").contains("u:p@"), "{name}");
    }
    // The upper case wins, unless it is empty.
    let settings = load(&[("NO_PROXY", "*"), ("no_proxy", ""), ("HTTPS_PROXY", "p:1")]).unwrap();
    assert!(!is_proxied(&settings, "https://open.feishu.cn/"));
    let settings = load(&[("HTTPS_PROXY", ""), ("https_proxy", "p:1")]).unwrap();
    assert!(is_proxied(&settings, "https://open.feishu.cn/"));
}

#[test]
fn proxy_that_cannot_be_spoken_to_is_named_at_start() {
    for (pairs, named) in [
        (&[("https_proxy", "socks5://u:pass1234@host:1080")][..], "HTTPS_PROXY: the value is a socks5 proxy"),
        (&[("ALL_PROXY", "socks5h://host")], "ALL_PROXY: the value is a socks5h proxy"),
        (
            &[("HTTP_PROXY", "http://u:pass1234@host:port")],
            "HTTP_PROXY: the value is not the address of a proxy",
        ),
        (&[("ALL_PROXY", "socks4://host"), ("HTTPS_PROXY", "http://host")], "ALL_PROXY: "),
    ] {
        let error = load(pairs).unwrap_err().to_string();
        assert!(error.starts_with(named) && error.contains("http://user:password@host:port"), "{error}");
        assert!(!error.contains("pass1234"), "{error}");
    }
    // What is not used is not checked.
    let both = [("HTTPS_PROXY", "p:1"), ("HTTP_PROXY", "p:1"), ("ALL_PROXY", "socks5://host")];
    assert!(load(&both).is_ok());
}

#[test]
fn several_hosts_are_refused_by_name() {
    for url in [
        "postgres://u:pass1234@db1,db2/x",
        "postgres://u:pass1234@db1:5432,db2:5432/x",
        "postgres://u:pass1234@/x?host=db1,db2",
        "postgres://u:pass1234@db/x?sslmode=disable&hostaddr=10.0.0.1,10.0.0.2",
    ] {
        let error = load(&[("DATABASE_URL", url)]).unwrap_err().to_string();
        assert!(error.contains("names several hosts, which is not supported; give one host"), "{error}");
        assert!(!error.contains("pass1234"), "{error}");
    }
    // A comma elsewhere is no list of hosts.
    assert!(load(&[("DATABASE_URL", "postgres://u:a,b@db/x,y?application_name=a,b")]).is_ok());
}

#[test]
fn value_behind_a_byte_order_mark_or_before_line_ends_is_the_value_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    for content in ["s3cr3t", "\u{feff}s3cr3t", "s3cr3t\n", "s3cr3t\r\n", "\u{feff}s3cr3t\r\n\r\n"] {
        fs::write(&path, content).unwrap();
        let from_file = load(&[APP[0], ("APP_SECRET_FILE", path.to_str().unwrap())]).unwrap();
        // An env file that a container runtime reads line by line.
        let from_environment =
            load(&[("\u{feff}APP_ID", "cli_0123456789abcdef\r"), ("APP_SECRET", content)]).unwrap();
        for settings in [from_file, from_environment] {
            let application = settings.application.unwrap();
            assert_eq!(application.app_secret.expose_secret(), "s3cr3t", "{content:?}");
            assert_eq!(application.app_id.as_str(), "cli_0123456789abcdef");
        }
    }
    let url = load(&[("DATABASE_URL", "postgres://127.0.0.1/x\r")]).unwrap().database.url.unwrap();
    assert!(matches!(url, DatabaseUrl::Postgres(url) if url.expose_secret() == "postgres://127.0.0.1/x"));
}

#[test]
fn settings_file_with_byte_order_mark_and_crlf_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("larkauth.toml");
    fs::write(&path, "\u{feff}amqp_prefix = \"a\"\r\nlark_brand = \"lark\"\r\n").unwrap();
    let settings = load_file(Some(path.clone()), &[]).unwrap();
    assert_eq!(settings.broker.prefix, "a");
    // UTF-16, as some consoles write.
    fs::write(&path, b"\xff\xfea\x00=\x001\x00").unwrap();
    let error = load_file(Some(path), &[]).unwrap_err().to_string();
    assert!(error.contains("it is not UTF-8 text"), "{error}");
}
