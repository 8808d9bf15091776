//! One connection to the broker, from handshake to end. It never reconnects: a broken session is replaced.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ErrorKind,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
    uri::AMQPUri,
};
use larkauth_models::ExposeSecret;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    RabbitMqOptions,
    error::{describe, late, unavailable},
    socket::{self, SocketOwner},
    topology::{self, Names},
};
use crate::{BusError, replies::Replies};

/// Answers held for this process at most; older ones are dropped first, nobody waits that long.
const REPLY_QUEUE_LENGTH: i64 = 10_000;
/// How long a polite goodbye may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A broker that does not open a channel in this time is not there.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// A message ready for the wire.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) properties: BasicProperties,
    pub(super) body: bytes::Bytes,
}

/// Why a session could not be opened.
#[derive(Debug)]
pub(super) struct OpenError {
    pub(super) error: BusError,
    /// Whether trying again may help without anybody doing something.
    pub(super) may_pass: bool,
}

impl From<BusError> for OpenError {
    fn from(error: BusError) -> Self {
        Self { may_pass: !matches!(error, BusError::Topology(_)), error }
    }
}

/// A live connection.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    socket: SocketOwner,
    /// Channels in confirm mode with nothing in flight.
    idle: Mutex<Vec<Channel>>,
    pub(super) replies: Replies,
    /// Cancelled when the session is of no use any more.
    pub(super) broken: CancellationToken,
    reason: OnceLock<String>,
    suspected: Notify,
}

impl Session {
    /// Connects, declares the topology and listens for answers, all within `connect_deadline`.
    pub(super) async fn open(
        options: &RabbitMqOptions,
        names: &Names,
    ) -> Result<(Arc<Self>, Consumer), OpenError> {
        let opening = Self::open_without_deadline(options, names);
        // Boxed: the handshake's state is large, and every caller would carry it.
        timeout(options.connect_deadline, Box::pin(opening))
            .await
            .unwrap_or_else(|_| Err(late("connect").into()))
    }

    async fn open_without_deadline(
        options: &RabbitMqOptions,
        names: &Names,
    ) -> Result<(Arc<Self>, Consumer), OpenError> {
        let (connection, socket) = dial(options).await?;
        let channel = connection.create_channel().await.map_err(|error| unavailable("connect", &error))?;
        topology::declare(&channel, names, &options.retry).await?;

        let mut id = [0; 16];
        options.entropy.fill(&mut id);
        let queue = names.replies(&hex::encode(id));
        let consumer =
            listen(&channel, &queue).await.map_err(|error| unavailable("listening for answers", &error))?;
        let session = Arc::new(Self {
            connection,
            socket,
            idle: Mutex::default(),
            replies: Replies::new(queue, options.max_pending_replies),
            broken: CancellationToken::new(),
            reason: OnceLock::new(),
            suspected: Notify::new(),
        });
        Ok((session, consumer))
    }

    /// Hands out answers until the connection is lost; says why.
    pub(super) async fn run(&self, mut answers: Consumer) -> String {
        loop {
            let next = tokio::select! {
                biased;
                () = self.broken.cancelled() => return self.reason(),
                () = self.suspected.notified() => match self.probe().await {
                    Ok(()) => continue,
                    Err(reason) => return reason,
                },
                next = answers.next() => next,
            };
            match next {
                Some(Ok(answer)) => {
                    let id = answer.properties.correlation_id().as_ref().map(|id| id.as_str());
                    self.replies.deliver(id, answer.data.into());
                }
                Some(Err(error)) => return describe(&error),
                None => return "the broker ended the connection".to_owned(),
            }
        }
    }

    /// Something took too long. Slow or dead is found out by [`Session::run`]: giving a slow broker's connection up would
    /// only make it slower.
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// Asks the broker for something that costs it nothing.
    async fn probe(&self) -> Result<(), String> {
        if self.blocked() {
            return Ok(());
        }
        match timeout(PROBE_DEADLINE, Box::pin(self.channel())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err("the broker has gone silent".to_owned()),
        }
    }

    /// Gives the connection up: nothing that waits for it waits any longer, and it is replaced.
    pub(super) fn fail(&self, reason: String) {
        // The first reason is the cause, later ones its consequences.
        let _ = self.reason.set(reason);
        self.broken.cancel();
        self.socket.0.kill();
    }

    /// Says goodbye, then ends the connection in any case.
    pub(super) async fn close(&self) {
        if let Ok(Err(error)) = timeout(CLOSE_DEADLINE, self.connection.close(200, "OK".into())).await {
            tracing::debug!(error = %describe(&error), "the broker connection did not close in order");
        }
        self.fail("the bus is closed".to_owned());
    }

    fn reason(&self) -> String {
        self.reason.get().cloned().unwrap_or_else(|| "the connection was given up".to_owned())
    }

    /// Whether the broker has asked publishers to stop. It reads nothing then, and answers nothing.
    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await
    }

    /// Publishes and waits for the broker's word. The caller sets the deadline.
    ///
    /// Each message has a channel to itself until it is confirmed, and channels are used again. With several in flight
    /// on one channel, the driver gives a returned (unroutable) message to whichever confirm comes next, so that one
    /// publisher would hear of another's failure and the other of a success that was none.
    pub(super) async fn publish(&self, message: &Publication) -> Result<(), BusError> {
        let failed = |error: &lapin::Error| unavailable("publish", error);
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
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
        // Only a channel with a known outcome is used again; one that was given up in between is closed by its drop.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
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

/// Makes a connection. The caller sets the deadline.
async fn dial(options: &RabbitMqOptions) -> Result<(Connection, SocketOwner), OpenError> {
    let mut uri = parse(options.url.expose_secret()).map_err(|error| OpenError { error, may_pass: false })?;
    uri.query.heartbeat = Some(u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1));
    let properties =
        ConnectionProperties::default().with_connection_name(options.connection_name.as_str().into());
    let socket = SocketOwner::default();
    let connection = socket::connect(uri, properties, Arc::clone(&socket.0), options.connect_deadline)
        .await
        .map_err(|error| OpenError {
            // A broker that answers with an error refuses who we are or where we want to go.
            may_pass: !matches!(error.kind(), ErrorKind::ProtocolError(_)),
            error: unavailable("connect", &error),
        })?;
    Ok((connection, socket))
}

/// Removes every exchange and queue of the topology, with what is in them.
pub(super) async fn remove_topology(options: &RabbitMqOptions) -> Result<(), BusError> {
    let (during, names) = ("removing queues", Names::new(&options.prefix));
    let removing = async {
        let (connection, _socket) = dial(options).await.map_err(|failure| failure.error)?;
        let removed = async {
            let channel = connection.create_channel().await?;
            topology::remove(&channel, &names, &options.retry).await?;
            connection.close(200, "OK".into()).await
        };
        removed.await.map_err(|error| unavailable(during, &error))
    };
    timeout(options.connect_deadline, Box::pin(removing)).await.unwrap_or_else(|_| Err(late(during)))
}

/// Reads the address. Nothing of it is repeated in the error.
pub(super) fn parse(url: &str) -> Result<AMQPUri, BusError> {
    let wrong = || BusError::Unavailable {
        during: "connect",
        message: "AMQP_URL is not of the form amqp://user:password@host:port/vhost (or amqps://)".to_owned(),
    };
    let mut uri: AMQPUri = url.parse().map_err(|_| wrong())?;
    let parsed = url::Url::parse(url).map_err(|_| wrong())?;
    // The driver's parser takes a literal IPv6 address for "no host".
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
    fn addresses() {
        let uri = parse("amqp://u:p@[::1]:5673/%2f").unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("::1", 5673, "/"));
        assert_eq!(parse("amqps://u:p@host/x").unwrap().authority.port, 5671);
        for bad in ["", "host:5672", "http://u:secret-1@host/", "amqp://u:secret-1@host:port/"] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret-1"), "{error}");
        }
    }
}
