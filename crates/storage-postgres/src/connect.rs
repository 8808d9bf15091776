//! How the server is reached: host, TLS and certificates.

use larkauth_models::{ExposeSecret, SecretString};
use larkauth_net::{Trust, is_loopback_host};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// Parameters that choose the mode of TLS.
const MODE: &[&str] = &["sslmode", "ssl-mode"];
/// Parameters that choose the authorities.
const AUTHORITIES: &[&str] = &["sslrootcert", "ssl-root-cert", "ssl-ca"];

/// Parses the address. A server on another machine is reached over verified TLS, unless the address has a `sslmode`.
///
/// # Errors
/// Fails when the address is malformed. The driver's message quotes it.
pub(crate) fn options(url: &str, trust: &Trust) -> sqlx::Result<PgConnectOptions> {
    let mut options: PgConnectOptions = url.parse()?;
    let parameters: Vec<String> = Url::parse(url)
        .map(|url| url.query_pairs().map(|(name, _)| name.into_owned()).collect())
        .unwrap_or_default();
    let has = |names: &[&str]| parameters.iter().any(|given| names.contains(&given.as_str()));
    if !has(AUTHORITIES) {
        options = options.ssl_root_cert_from_pem(trust.pem_beyond_bundled().into_bytes());
    }
    if !has(MODE) && !is_here(&options) {
        options = options.ssl_mode(PgSslMode::VerifyFull);
    }
    // Poolers refuse this parameter; all values are exchanged in binary form anyway.
    Ok(options.extra_float_digits(None))
}

/// Returns whether the driver takes an address and its parameters.
#[must_use]
pub fn is_postgres_url(url: &SecretString) -> bool {
    url.expose_secret().parse::<PgConnectOptions>().is_ok()
}

/// Returns whether the server is on this machine.
fn is_here(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some() || host.starts_with('/') || is_loopback_host(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_another_machine_verify_unless_told_otherwise() {
        let mode = |url: &str| format!("{:?}", options(url, &Trust::default()).unwrap().get_ssl_mode());
        for url in [
            "postgres://db/x",
            "postgres://u:p@10.0.0.1:5432/x",
            "postgres://db/x?application_name=a",
            "postgres:///x?host=db",
        ] {
            assert_eq!(mode(url), "VerifyFull", "{url}");
        }
        for url in [
            "postgres://localhost/x",
            "postgres://127.0.0.1/x",
            "postgres://[::1]/x",
            "postgres://%2Frun%2Fpg/x",
            "postgres://db/x?host=/run/pg",
        ] {
            assert_ne!(mode(url), "VerifyFull", "{url}");
        }
        assert_eq!(mode("postgres://db/x?sslmode=disable"), "Disable");
        assert_eq!(mode("postgres://db/x?ssl-mode=require"), "Require");
        assert_eq!(mode("postgres://127.0.0.1/x?sslmode=verify-full"), "VerifyFull");
    }
}
