use std::{error::Error, io};

use rustls::CertificateError;

/// Number of nested errors that are read.
const DEPTH: usize = 16;
/// Text of tokio-rustls for a connection that ends in the handshake.
const HANDSHAKE_EOF: &str = "tls handshake eof";
/// Longest text of the other side that is shown, in characters.
const MAX_NAMES: usize = 120;

/// Explains a TLS error inside another error: what happened, whose fault, what to do. `ca_setting` names the setting of
/// further authorities. Returns `None` when there is no TLS error inside, or none that says more than its own text.
#[must_use]
pub fn explain_tls(error: &(dyn Error + 'static), ca_setting: &str) -> Option<String> {
    use CertificateError as Certificate;
    let Some(fault) = find::<rustls::Error>(error) else {
        let ended = find::<io::Error>(error).is_some_and(|error| error.to_string() == HANDSHAKE_EOF);
        return ended.then(|| {
            "TLS: the server ended the connection in the handshake; check that this is its TLS port"
                .to_owned()
        });
    };
    Some(match fault {
        rustls::Error::InvalidCertificate(problem) => match problem {
            // A bad signature is that of an authority with the name of a trusted one, for example of its successor.
            Certificate::UnknownIssuer | Certificate::BadSignature => format!(
                "TLS: the server's certificate comes from an authority that is not trusted here; give its CA certificate \
                 with {ca_setting}"
            ),
            Certificate::NotValidForName => {
                "TLS: the server's certificate is for another host name; correct the host in the address, or the certificate"
                    .to_owned()
            }
            Certificate::NotValidForNameContext { expected, presented } => format!(
                "TLS: the server's certificate is for {}, not for {}; correct the host in the address, or the certificate",
                shown(&presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")),
                shown(&expected.to_str()),
            ),
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "TLS: the server's certificate has expired; its operator must renew it, unless the clock here is wrong".to_owned()
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "TLS: the server's certificate is not valid yet; check the clock here and on the server".to_owned()
            }
            problem => format!(
                "TLS: the server's certificate is not acceptable ({}); its operator must replace it",
                shown(&format!("{problem:?}"))
            ),
        },
        rustls::Error::InvalidMessage(_) => {
            "TLS: the server does not speak TLS at this port; use its TLS port, or turn TLS on there".to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("TLS: the server refused the handshake ({alert:?}); its log says why")
        }
        _ => return None,
    })
}

/// Returns the name in `DnsName("name")` or `IpAddress(address)`, as rustls writes them.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(name).trim_matches('"')
}

/// Returns a text of the other side as one bounded line.
fn shown(text: &str) -> String {
    let line: String = text.chars().take(MAX_NAMES).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.is_empty() { "no name".to_owned() } else { line }
}

/// Returns the innermost error of a type.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut found = None;
    let mut next: Option<&'a (dyn Error + 'static)> = Some(error);
    for _ in 0..DEPTH {
        let Some(error) = next else { break };
        found = error.downcast_ref::<T>().or(found);
        // The source of an io::Error is the source of the error that it wraps.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}
