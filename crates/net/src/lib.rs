//! How a process reaches other machines: the certificates that it trusts ([`Trust`]), the proxies that it goes through
//! ([`Proxies`]), and connections with a deadline ([`Network::connect`], [`connect_tcp`]).
//!
//! One function makes every TLS configuration ([`Trust::client_config`]), so that HTTP, WebSocket and AMQP trust the same
//! authorities: the bundled ones, those of the operating system, and those of a `…_CA_FILE` setting. A machine without
//! certificate files has the bundled ones.
//!
//! This crate holds no protocol above TLS and reads no setting or environment variable, except `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`, by which operating systems place their certificates. It logs no address and no credential.

mod explain;
mod loopback;
mod network;
mod proxy;
mod tcp;
#[cfg(feature = "testing")]
pub mod testing;
mod trust;

pub use explain::explain_tls;
pub use loopback::{is_loopback, is_loopback_host};
pub use network::{ConnectError, Io, Network, Stream};
pub use proxy::{Proxies, ProxyUrl, ProxyUrlError};
pub use rustls::ClientConfig;
pub use tcp::{connect_addresses, connect_tcp};
pub use trust::{CaFileError, Trust};
