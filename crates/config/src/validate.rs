//! Checks that involve more than one setting.

use larkauth_models::ExposeSecret;
use larkauth_net::is_loopback;
use url::Url;

use crate::{ConfigError, DatabaseUrl, Service, Settings, parse, schema as t, source::Source};

/// Checks the settings of a process. Adds warnings for what is valid but probably a mistake.
pub(crate) fn check(settings: &mut Settings, source: &Source) -> Result<(), ConfigError> {
    if settings.service.is_distributed() {
        if let DatabaseUrl::Sqlite(_) = settings.database.required_url()? {
            return Err(ConfigError::Invalid {
                name: t::DATABASE_URL.name.into(),
                problem: "an SQLite file cannot be shared by several services".into(),
                cure: "give a `postgres://` address, or run `larkauth standalone`".into(),
            });
        }
        settings.broker.required_url()?;
        settings.encryption.required_keys()?;
    }
    let allow_http = source.require(&t::EVENT_RELAY_ALLOW_HTTP, parse::switch)?;
    if let Some(url) = &settings.event_relay_url
        && url.scheme() != "https"
        && !is_loopback(url)
        && !allow_http
    {
        return Err(ConfigError::Invalid {
            name: t::EVENT_RELAY_URL.name.into(),
            problem: "chat messages would travel unencrypted to another machine".into(),
            cure: "give an https address or one of this machine, or set EVENT_RELAY_ALLOW_HTTP=true in a network you trust"
                .into(),
        });
    }
    broker_is_encrypted(settings, source)?;
    database_is_verified(settings)?;
    two_listeners(settings)?;
    let takes_callbacks = matches!(settings.service, Service::Gateway | Service::Standalone);
    let unverifiable = takes_callbacks
        && settings
            .application
            .as_ref()
            .is_some_and(|app| !app.can_verify_callbacks(settings.http.callback_allow_unsigned));
    if unverifiable && settings.http.callback_enabled {
        return Err(ConfigError::Invalid {
            name: t::HTTP_CALLBACK_ENABLED.name.into(),
            problem: "callbacks of APP_ID cannot be verified".into(),
            cure: "set LARK_ENCRYPT_KEY, as in the developer console; or LARK_VERIFICATION_TOKEN with \
                   HTTP_CALLBACK_ALLOW_UNSIGNED=true"
                .into(),
        });
    }
    // Warns only when the fallback was requested: by default, an application without these secrets has no fallback.
    if unverifiable && settings.websocket.fallback_to_http && source.has(&t::WEBSOCKET_FALLBACK_TO_HTTP) {
        settings.warnings.push(
            "WEBSOCKET_FALLBACK_TO_HTTP cannot work for APP_ID: set LARK_ENCRYPT_KEY, or HTTP callbacks are refused"
                .into(),
        );
    }
    if source.has(&t::LARK_BASE_URL) != source.has(&t::LARK_ACCOUNTS_URL) {
        settings.warnings.push(
            "only one of LARK_BASE_URL and LARK_ACCOUNTS_URL is set: API and consent page belong to different platforms".into(),
        );
    }
    Ok(())
}

/// Refuses a broker on another machine without TLS, unless that is allowed.
fn broker_is_encrypted(settings: &Settings, source: &Source) -> Result<(), ConfigError> {
    let allowed = source.require(&t::AMQP_ALLOW_PLAINTEXT, parse::switch)?;
    let url = settings.broker.url.as_ref().and_then(|url| Url::parse(url.expose_secret()).ok());
    match url {
        Some(url) if url.scheme() == "amqp" && url.has_host() && !is_loopback(&url) && !allowed => {
            Err(ConfigError::Invalid {
                name: t::AMQP_URL.name.into(),
                problem: "messages and the password would travel unencrypted to another machine".into(),
                cure: "give an `amqps://` address (its port is usually 5671), or set AMQP_ALLOW_PLAINTEXT=true in a network you trust"
                    .into(),
            })
        }
        _ => Ok(()),
    }
}

/// Warns when the address of the database turns verification off, and refuses two sources of authorities.
fn database_is_verified(settings: &mut Settings) -> Result<(), ConfigError> {
    let Some(DatabaseUrl::Postgres(url)) = &settings.database.url else { return Ok(()) };
    let Ok(url) = Url::parse(url.expose_secret()) else { return Ok(()) };
    let parameter = |names: &[&str]| {
        let found = url.query_pairs().filter(|(name, _)| names.contains(&&**name)).last();
        found.map(|(_, value)| value.into_owned())
    };
    if !settings.database.trust.is_default()
        && parameter(&["sslrootcert", "ssl-root-cert", "ssl-ca"]).is_some()
    {
        return Err(ConfigError::Invalid {
            name: t::DATABASE_CA_FILE.name.into(),
            problem: "DATABASE_URL has `sslrootcert` too".into(),
            cure: "remove one of them".into(),
        });
    }
    let is_elsewhere =
        url.host_str().is_some_and(|host| !host.is_empty() && !host.starts_with("%2F")) && !is_loopback(&url);
    if is_elsewhere
        && let Some(mode) = parameter(&["sslmode", "ssl-mode"])
        && !mode.starts_with("verify")
    {
        let what = if matches!(mode.as_str(), "require" | "prefer") {
            "the certificate of the server is not verified"
        } else {
            "tokens' ciphertexts and the password travel unencrypted"
        };
        settings.warnings.push(format!(
            "DATABASE_URL leads to another machine with `sslmode={}`: {what}; without it TLS is verified",
            parse::shown(&mode).trim_matches('`')
        ));
    }
    Ok(())
}

/// Checks the address of the second listener, if there is one.
fn two_listeners(settings: &mut Settings) -> Result<(), ConfigError> {
    let Some(public) = settings.http.public_addr else { return Ok(()) };
    let private = settings.http.addr;
    let overlap =
        public.ip() == private.ip() || public.ip().is_unspecified() || private.ip().is_unspecified();
    // Port 0 is a free port each time.
    if public.port() == private.port() && public.port() != 0 && overlap {
        return Err(ConfigError::Invalid {
            name: t::PUBLIC_HTTP_ADDR.name.into(),
            problem: format!("`{public}` and HTTP_ADDR `{private}` are the same address"),
            cure: "give two ports; or leave PUBLIC_HTTP_ADDR out, and HTTP_ADDR serves everything".into(),
        });
    }
    let redirect = &settings.oauth.redirect_uri;
    let is_here = matches!(redirect.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if is_here && redirect.port_or_known_default() == Some(private.port()) {
        settings.warnings.push(format!(
            "OAUTH_REDIRECT_URI leads to HTTP_ADDR, which serves no /oauth/callback when PUBLIC_HTTP_ADDR is set: let it \
             lead to {public}, or to the proxy in front of it"
        ));
    }
    Ok(())
}

/// Checks that `APP_ID` and `APP_SECRET` are given together, and other settings of an application only with them.
pub(crate) fn application_is_complete(source: &Source) -> Result<(), ConfigError> {
    let missing = |needed: &t::Setting, because: &t::Setting| {
        Err(ConfigError::Missing {
            name: needed.name,
            cure: format!("{} needs it; set both or neither", because.name),
        })
    };
    if source.has(&t::APP_ID) && !source.has(&t::APP_SECRET) {
        return missing(&t::APP_SECRET, &t::APP_ID);
    }
    for setting in [&t::APP_SECRET, &t::LARK_VERIFICATION_TOKEN, &t::LARK_ENCRYPT_KEY] {
        if source.has(setting) && !source.has(&t::APP_ID) {
            return missing(&t::APP_ID, setting);
        }
    }
    Ok(())
}
