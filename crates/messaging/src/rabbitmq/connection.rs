//! One connection to the broker, from handshake to close. It does not reconnect: a broken one is replaced.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, ConnectionProperties, Consumer, ErrorKind,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
    uri::{AMQPScheme, AMQPUri},
};
use larkauth_models::ExposeSecret;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    error::{describe, late, tls_fault, unavailable},
    options::RabbitMqOptions,
    socket::{self, SocketOwner},
    topology::{self, Names},
};
use crate::{BusError, backend::Replies};

/// Largest number of replies queued for this process; the broker drops the oldest first, which no caller awaits any more.
const REPLY_QUEUE_LENGTH: i64 = 10_000;
/// Deadline of the AMQP close handshake, 2 s.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Deadline for opening a channel on a suspected connection, 2 s; it counts as lost then.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// A message ready for the wire.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) properties: BasicProperties,
    pub(super) body: bytes::Bytes,
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

/// A live connection.
#[derive(Debug)]
pub(super) struct Connection {
    amqp: lapin::Connection,
    socket: SocketOwner,
    /// Channels in confirm mode without an unconfirmed message.
    idle: Mutex<Vec<Channel>>,
    pub(super) replies: Replies,
    /// Cancelled when the connection is lost or given up.
    pub(super) broken: CancellationToken,
    reason: OnceLock<String>,
    suspected: Notify,
}

impl Connection {
    /// Connects, declares the topology and consumes replies, all within `connect_deadline`.
    pub(super) async fn open(
        options: &RabbitMqOptions,
        names: &Names,
    ) -> Result<(Arc<Self>, Consumer), OpenError> {
        let opening = Self::open_without_deadline(options, names);
        // Boxed: the handshake's future is large and would be part of every caller's.
        timeout(options.connect_deadline, Box::pin(opening))
            .await
            .unwrap_or_else(|_| Err(late("connect").into()))
    }

    async fn open_without_deadline(
        options: &RabbitMqOptions,
        names: &Names,
    ) -> Result<(Arc<Self>, Consumer), OpenError> {
        let (amqp, socket) = dial(options).await?;
        let channel = amqp.create_channel().await.map_err(|error| unavailable("connect", &error))?;
        topology::declare(&channel, names, &options.retry).await?;

        let mut id = [0; 16];
        options.entropy.fill(&mut id);
        let queue = names.replies(&hex::encode(id));
        let consumer =
            listen(&channel, &queue).await.map_err(|error| unavailable("consuming replies", &error))?;
        let connection = Arc::new(Self {
            amqp,
            socket,
            idle: Mutex::default(),
            replies: Replies::new(queue, options.max_pending_replies),
            broken: CancellationToken::new(),
            reason: OnceLock::new(),
            suspected: Notify::new(),
        });
        Ok((connection, consumer))
    }

    /// Delivers replies until the connection is lost, and returns the reason.
    pub(super) async fn run(&self, mut replies: Consumer) -> String {
        loop {
            let next = tokio::select! {
                biased;
                () = self.broken.cancelled() => return self.reason(),
                () = self.suspected.notified() => match self.probe().await {
                    Ok(()) => continue,
                    Err(reason) => return reason,
                },
                next = replies.next() => next,
            };
            match next {
                Some(Ok(reply)) => {
                    let id = reply.properties.correlation_id().as_ref().map(|id| id.as_str());
                    self.replies.deliver(id, reply.data.into());
                }
                Some(Err(error)) => return describe(&error),
                None => return "the broker ended the connection".to_owned(),
            }
        }
    }

    /// Reports a missed deadline. [`Connection::run`] then probes the broker: replacing the connection of a slow broker would
    /// only add load.
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// Opens a channel, the cheapest request, to find out whether the broker answers.
    async fn probe(&self) -> Result<(), String> {
        if self.blocked() {
            return Ok(());
        }
        match timeout(PROBE_DEADLINE, Box::pin(self.channel())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err("the broker is silent".to_owned()),
        }
    }

    /// Gives the connection up: closes its socket, which fails its pending operations, and lets it be replaced. Pending
    /// replies end with the last reference to it.
    pub(super) fn fail(&self, reason: String) {
        // Only the first reason is kept: later ones are its consequences.
        let _ = self.reason.set(reason);
        self.broken.cancel();
        self.socket.0.kill();
    }

    /// Closes the connection in order, and its socket in any case.
    pub(super) async fn close(&self) {
        if let Ok(Err(error)) = timeout(CLOSE_DEADLINE, self.amqp.close(200, "OK".into())).await {
            tracing::debug!(error = %describe(&error), "the broker connection did not close in order");
        }
        self.fail("the bus is closed".to_owned());
    }

    fn reason(&self) -> String {
        self.reason.get().cloned().unwrap_or_else(|| "the connection was given up".to_owned())
    }

    /// Returns whether the broker has blocked publishers. A blocked connection is neither read nor answered.
    pub(super) fn blocked(&self) -> bool {
        self.amqp.status().blocked()
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        self.amqp.create_channel().await
    }

    /// Publishes and waits for the broker's confirm. The caller sets the deadline.
    ///
    /// A channel carries one unconfirmed message at a time and is reused. With several, the driver attaches a returned
    /// (unroutable) message to whichever confirm arrives next, so that one publisher would get the failure of another
    /// one, which would get a false success.
    pub(super) async fn publish(&self, message: &Publication) -> Result<(), BusError> {
        let failed = |error: &lapin::Error| unavailable("publish", error);
        let idle = self.idle.lock().pop();
        let channel = match idle {
            Some(channel) => channel,
            None => {
                let channel = self.channel().await.map_err(|error| failed(&error))?;
                channel
                    .confirm_select(ConfirmSelectOptions::default())
                    .await
                    .map_err(|error| failed(&error))?;
                channel
            }
        };
        let confirm = channel
            .basic_publish(
                message.exchange.as_str().into(),
                message.routing_key.as_str().into(),
                BasicPublishOptions { mandatory: true, immediate: false },
                &message.body,
                message.properties.clone(),
            )
            .await
            .map_err(|error| failed(&error))?
            .await
            .map_err(|error| failed(&error))?;
        // Only a channel with a known outcome is reused; dropping the future closes any other.
        self.idle.lock().push(channel);
        let refused = |message_text: &str| {
            Err(BusError::Refused {
                routing_key: message.routing_key.clone(),
                message: message_text.to_owned(),
            })
        };
        match confirm {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
                refused("no queue is bound to this routing key")
            }
            Confirmation::Nack(None) => refused("a queue is full or has no majority"),
            Confirmation::NotRequested => refused("the channel is not in confirm mode"),
        }
    }
}

/// Opens a connection. The caller sets the deadline.
async fn dial(options: &RabbitMqOptions) -> Result<(lapin::Connection, SocketOwner), OpenError> {
    let mut uri =
        parse(options.url.expose_secret()).map_err(|error| OpenError { error, is_transient: false })?;
    uri.query.heartbeat = Some(u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1));
    let properties =
        ConnectionProperties::default().with_connection_name(options.connection_name.as_str().into());
    let socket = SocketOwner::default();
    // Made for a connection that needs it only: it reads hundreds of certificates.
    let tls = (uri.scheme == AMQPScheme::AMQPS).then(|| Arc::new(options.trust.client_config()));
    let amqp = socket::connect(uri, tls, properties, Arc::clone(&socket.0), options.connect_deadline)
        .await
        .map_err(|error| OpenError {
        // A protocol error is a refusal of the credentials or of the virtual host. A certificate is replaced by people.
        is_transient: !matches!(error.kind(), ErrorKind::ProtocolError(_)) && tls_fault(&error).is_none(),
        error: unavailable("connect", &error),
    })?;
    Ok((amqp, socket))
}

/// Removes every exchange and queue of the topology, with their messages.
pub(super) async fn remove_topology(options: &RabbitMqOptions) -> Result<(), BusError> {
    let (during, names) = ("removing queues", Names::new(&options.prefix));
    let removing = async {
        let (amqp, _socket) = dial(options).await.map_err(|failure| failure.error)?;
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
    Ok(uri)
}

async fn listen(channel: &Channel, queue: &str) -> lapin::Result<Consumer> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(REPLY_QUEUE_LENGTH));
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, arguments).await?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_of_invalid_address_repeats_no_part_of_it() {
        let uri = parse("amqp://u:p@[::1]:5673/%2f").unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("::1", 5673, "/"));
        assert_eq!(parse("amqps://u:p@host/x").unwrap().authority.port, 5671);
        for bad in ["", "host:5672", "http://u:secret-1@host/", "amqp://u:secret-1@host:port/"] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret-1"), "{error}");
        }
    }
}
