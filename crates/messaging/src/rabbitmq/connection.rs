//! One connection to the broker, from handshake to close. It does not reconnect: a broken one is replaced.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer, Event,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    dial::{OpenError, Role, dial},
    error::{describe, late, unavailable},
    options::RabbitMqOptions,
    socket::SocketOwner,
    topology::{self, Names},
    wire,
};
use crate::{BusError, ReplyAddress, backend::Replies};

/// Largest number of replies queued for this process; the broker drops the oldest first, which no caller awaits any more.
const REPLY_QUEUE_LENGTH: i64 = 10_000;
/// Deadline of the AMQP close handshake, 2 s.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Deadline for opening a channel on a suspected connection, 2 s; it counts as lost then.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// Interval of looking whether the driver has lost the connection, 250 ms: a connection without a consumer is not told.
const LOOK: Duration = Duration::from_millis(250);
/// Longest wait of a publish after the broker has blocked the connection, 300 ms. The broker accepts and confirms the message
/// by which it notices that the connection publishes.
const BLOCKED_GRACE: Duration = Duration::from_millis(300);
/// Deadline for sending a reply, 2 s.
const REPLY_DEADLINE: Duration = Duration::from_secs(2);

/// A message ready for the wire.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) properties: BasicProperties,
    pub(super) body: bytes::Bytes,
}

/// What arrives on a connection.
pub(super) struct Inbox {
    events: BoxStream<'static, Event>,
    replies: Option<Consumer>,
}

/// A live connection.
#[derive(Debug)]
pub(super) struct Connection {
    amqp: lapin::Connection,
    socket: SocketOwner,
    /// Channels in confirm mode without an unconfirmed message.
    idle: Mutex<Vec<Channel>>,
    /// The channel for messages without a confirm, and for the topology.
    plain: Channel,
    /// Replies that are expected; they arrive on a consuming connection only.
    pub(super) replies: Replies,
    /// Why the broker takes no messages, while it takes none.
    blocked: watch::Sender<Option<String>>,
    /// Cancelled when the connection is lost or given up.
    pub(super) broken: CancellationToken,
    reason: OnceLock<String>,
    suspected: Notify,
}

impl Connection {
    /// Connects, declares the topology and, for consuming, consumes replies, all within `connect_deadline`.
    pub(super) async fn open(
        options: &RabbitMqOptions,
        names: &Names,
        role: Role,
    ) -> Result<(Arc<Self>, Inbox), OpenError> {
        let opening = Self::open_without_deadline(options, names, role);
        // Boxed: the handshake's future is large and would be part of every caller's.
        timeout(options.connect_deadline, Box::pin(opening))
            .await
            .unwrap_or_else(|_| Err(late("connect").into()))
    }

    async fn open_without_deadline(
        options: &RabbitMqOptions,
        names: &Names,
        role: Role,
    ) -> Result<(Arc<Self>, Inbox), OpenError> {
        let (amqp, socket) = dial(options, role.name()).await?;
        let events = amqp.events_listener().boxed();
        let channel = amqp.create_channel().await.map_err(|error| unavailable("connect", &error))?;
        topology::declare(&channel, names, &options.retry).await?;

        let mut id = [0; 16];
        options.entropy.fill(&mut id);
        let queue = names.replies(&hex::encode(id));
        let replies = match role {
            Role::Publishing => None,
            Role::Consuming => {
                let listening = listen(&channel, &queue).await;
                Some(listening.map_err(|error| unavailable("consuming replies", &error))?)
            }
        };
        let connection = Arc::new(Self {
            amqp,
            socket,
            idle: Mutex::default(),
            plain: channel,
            replies: Replies::new(queue, options.max_pending_replies),
            blocked: watch::Sender::new(None),
            broken: CancellationToken::new(),
            reason: OnceLock::new(),
            suspected: Notify::new(),
        });
        Ok((connection, Inbox { events, replies }))
    }

    /// Delivers replies until the connection is lost, and returns the reason. Calls `changed` when the broker has blocked or
    /// unblocked the connection.
    pub(super) async fn run(&self, mut inbox: Inbox, changed: impl Fn()) -> String {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                biased;
                () = self.broken.cancelled() => return self.reason(),
                () = self.suspected.notified() => match self.probe().await {
                    Ok(()) => continue,
                    Err(reason) => return reason,
                },
                Some(event) = inbox.events.next() => {
                    if self.note(event) {
                        changed();
                    }
                    continue;
                }
                next = next_reply(&mut inbox.replies) => next,
                _ = looks.tick() => {
                    if self.amqp.status().connected() {
                        continue;
                    }
                    return "the broker ended the connection".to_owned();
                }
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

    /// Notes an event of the driver. `true` when it tells whether the broker takes messages.
    fn note(&self, event: Event) -> bool {
        match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(reason, "the message broker takes no messages: it is short of memory or disk");
                self.blocked.send_replace(Some(reason));
                true
            }
            Event::ConnectionUnblocked => {
                tracing::info!("the message broker takes messages again");
                self.blocked.send_replace(None);
                true
            }
            _ => false,
        }
    }

    /// Reports a missed deadline. [`Connection::run`] then probes the broker: replacing the connection of a slow broker would
    /// only add load.
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// Opens a channel, the cheapest request, to find out whether the broker answers.
    async fn probe(&self) -> Result<(), String> {
        if self.blocked().is_some() {
            return Ok(());
        }
        match timeout(PROBE_DEADLINE, Box::pin(self.channel())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err("the broker is silent".to_owned()),
        }
    }

    /// Gives the connection up: closes its socket, which fails its pending operations, ends the waits for replies, and lets
    /// it be replaced.
    pub(super) fn fail(&self, reason: String) {
        // Only the first reason is kept: later ones are its consequences.
        let _ = self.reason.set(reason);
        self.broken.cancel();
        self.socket.0.kill();
        self.replies.forget_all();
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

    /// Returns why the broker takes no messages, while it takes none. It neither reads nor answers this connection then.
    pub(super) fn blocked(&self) -> Option<String> {
        self.blocked.borrow().clone()
    }

    /// Waits for a publish, and no longer than [`BLOCKED_GRACE`] once the broker has blocked the connection.
    pub(super) async fn unless_blocked<T>(
        &self,
        during: &'static str,
        work: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        let blocked = async {
            let mut blocked = self.blocked.subscribe();
            // The sender lives as long as this connection.
            let reason = blocked.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
            let reason = reason.unwrap_or_default();
            sleep(BLOCKED_GRACE).await;
            Err(blocked_error(during, &reason))
        };
        tokio::select! {
            biased;
            result = work => result,
            error = blocked => error,
        }
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        self.amqp.create_channel().await
    }

    /// Sends a reply, which needs no confirm. It is dropped while the broker takes no messages.
    pub(super) async fn reply(
        &self,
        address: &ReplyAddress,
        body: &[u8],
        app_id: &str,
    ) -> Result<(), BusError> {
        const DURING: &str = "reply";
        if let Some(reason) = self.blocked() {
            return Err(blocked_error(DURING, &reason));
        }
        let properties = wire::reply(address, app_id);
        let (options, to) = (BasicPublishOptions::default(), address.reply_to.as_str().into());
        match timeout(REPLY_DEADLINE, self.plain.basic_publish("".into(), to, options, body, properties))
            .await
        {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unavailable(DURING, &error)),
            Err(_) => Err(late(DURING)),
        }
    }

    /// Returns a channel in confirm mode for one message.
    ///
    /// A channel carries one unconfirmed message at a time and is reused. With several, the driver attaches a returned
    /// (unroutable) message to the confirm that arrives next, so that one publisher would get the failure of another
    /// one, which would get a false success.
    pub(super) async fn confirming(&self) -> Result<Channel, BusError> {
        let failed = |error: &lapin::Error| unavailable("publish", error);
        let idle = self.idle.lock().pop();
        if let Some(channel) = idle {
            return Ok(channel);
        }
        let channel = self.channel().await.map_err(|error| failed(&error))?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| failed(&error))?;
        Ok(channel)
    }

    /// Publishes on a channel of [`Connection::confirming`] and waits for the broker's confirm. The caller sets the deadline.
    pub(super) async fn publish(&self, channel: Channel, message: &Publication) -> Result<(), BusError> {
        let failed = |error: &lapin::Error| unavailable("publish", error);
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

/// Returns the error of a publish while the broker takes no messages.
pub(super) fn blocked_error(during: &'static str, reason: &str) -> BusError {
    let message = format!(
        "the broker takes no messages for now: {reason}; free memory or disk on its machine (`rabbitmqctl status` shows the alarm)"
    );
    BusError::Unavailable { during, message }
}

/// Returns the next reply; never when the connection receives none.
async fn next_reply(replies: &mut Option<Consumer>) -> Option<lapin::Result<lapin::message::Delivery>> {
    match replies {
        Some(replies) => replies.next().await,
        None => std::future::pending().await,
    }
}

async fn listen(channel: &Channel, queue: &str) -> lapin::Result<Consumer> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(REPLY_QUEUE_LENGTH));
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, arguments).await?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
}
