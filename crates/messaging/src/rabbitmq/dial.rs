//! Opening a connection to the broker: its address, its socket, the handshake.

use std::sync::Arc;

use lapin::{
    ConnectionProperties,
    uri::{AMQPScheme, AMQPUri},
};
use larkauth_models::ExposeSecret;
use tokio::time::timeout;

use super::{
    error::{is_refusal, late, tls_fault, unavailable},
    options::RabbitMqOptions,
    socket::{self, SocketOwner},
    topology::{self, Names},
};
use crate::BusError;

/// What a connection is for. A broker that is short of memory or disk stops reading connections that publish, so that
/// acknowledgements need another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Publishing, and sending replies.
    Publishing,
    /// Consuming, acknowledging, receiving replies, browsing.
    Consuming,
}

impl Role {
    /// Returns the word that the broker's management page and the log show.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Consuming => "consuming",
        }
    }
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub(super) struct OpenError {
    pub(super) error: BusError,
    /// Whether a retry may help without an operator's action.
    pub(super) is_transient: bool,
}

impl From<BusError> for OpenError {
    fn from(error: BusError) -> Self {
        Self { is_transient: !matches!(error, BusError::Topology(_)), error }
    }
}

/// Opens a connection, which the broker's management page shows with its purpose. The caller sets the deadline.
pub(super) async fn dial(
    options: &RabbitMqOptions,
    purpose: &str,
) -> Result<(lapin::Connection, SocketOwner), OpenError> {
    let mut uri =
        parse(options.url.expose_secret()).map_err(|error| OpenError { error, is_transient: false })?;
    uri.query.heartbeat = Some(u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1));
    let name = format!("{} ({purpose})", options.connection_name);
    let properties = ConnectionProperties::default().with_connection_name(name.as_str().into());
    let socket = SocketOwner::default();
    // Made for a connection that needs it only: it reads hundreds of certificates.
    let tls = (uri.scheme == AMQPScheme::AMQPS).then(|| Arc::new(options.trust.client_config()));
    let amqp = socket::connect(uri, tls, properties, Arc::clone(&socket.0), options.connect_deadline)
        .await
        .map_err(|error| OpenError {
        // A certificate is replaced by people.
        is_transient: !is_refusal(&error) && tls_fault(&error).is_none(),
        error: unavailable("connect", &error),
    })?;
    Ok((amqp, socket))
}

/// Removes every exchange and queue of the topology, with their messages.
pub(super) async fn remove_topology(options: &RabbitMqOptions) -> Result<(), BusError> {
    let (during, names) = ("removing queues", Names::new(&options.prefix));
    let removing = async {
        let (amqp, _socket) = dial(options, "removing queues").await.map_err(|failure| failure.error)?;
        let removed = async {
            let channel = amqp.create_channel().await?;
            topology::remove(&channel, &names, &options.retry).await?;
            amqp.close(200, "OK".into()).await
        };
        removed.await.map_err(|error| unavailable(during, &error))
    };
    timeout(options.connect_deadline, Box::pin(removing)).await.unwrap_or_else(|_| Err(late(during)))
}

/// Parses the address. The error contains no part of it.
pub(super) fn parse(url: &str) -> Result<AMQPUri, BusError> {
    let wrong = || BusError::Unavailable {
        during: "connect",
        message: "AMQP_URL is not of the form amqp://user:password@host:port/vhost (or amqps://)".to_owned(),
    };
    let mut uri: AMQPUri = url.parse().map_err(|_| wrong())?;
    let parsed = url::Url::parse(url).map_err(|_| wrong())?;
    // The driver's parser reads a literal IPv6 address as an empty host.
    if let Some(url::Host::Ipv6(address)) = parsed.host() {
        uri.authority.host = address.to_string();
    }
    if uri.vhost.is_empty() {
        let message = "AMQP_URL names an empty virtual host: the default one, `/`, is written `/%2f` after the port, or left \
                       out with its slash (amqp://user:password@host:5672/%2f)"
            .to_owned();
        return Err(BusError::Unavailable { during: "connect", message });
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_of_invalid_address_repeats_no_part_of_it() {
        let uri = parse("amqp://u:p@[::1]:5673/%2f").unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("::1", 5673, "/"));
        assert_eq!(parse("amqps://u:p@host/x").unwrap().authority.port, 5671);
        assert_eq!(parse("amqp://u:p@host:5672").unwrap().vhost, "/");
        let empty = parse("amqp://u:secret-1@host:5672/").unwrap_err().to_string();
        assert!(empty.contains("/%2f") && empty.contains("virtual host"), "{empty}");
        for bad in [
            "",
            "host:5672",
            "http://u:secret-1@host/",
            "amqp://u:secret-1@host:port/",
            "amqp://u:secret-1@h/",
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret-1"), "{error}");
        }
    }
}
