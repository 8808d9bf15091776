use std::{sync::Arc, time::Duration};

use larkauth_models::{Clock, Entropy, OsEntropy, SecretString, SystemClock};
use larkauth_net::Trust;
use larkauth_telemetry::Metrics;

use crate::RetryPolicy;

/// Options of a connection to RabbitMQ. Start with [`RabbitMqOptions::new`].
#[derive(Clone, Debug)]
pub struct RabbitMqOptions {
    /// `amqp://user:password@host:port/vhost`, or `amqps://`.
    pub url: SecretString,
    /// Authorities for the certificate of `amqps://`.
    pub trust: Trust,
    /// Prefix of the name of every exchange and queue; `larkauth`.
    pub prefix: String,
    /// Shown in the broker's management page, and the `app_id` of messages: the service's name.
    pub connection_name: String,
    /// Deadline of one attempt to connect, and of all attempts together at the start; 10 s.
    pub connect_deadline: Duration,
    /// Deadline of one publish, from the call to the broker's confirm, and of reading a queue's depth; 2 s.
    pub publish_deadline: Duration,
    /// AMQP heartbeat in whole seconds; a silent connection is closed after twice that. 10 s.
    pub heartbeat: Duration,
    /// Largest number of concurrent publishes, 1 to 1024; others wait within their deadline. 256.
    pub max_in_flight: usize,
    /// Largest number of pending replies; further requests are published without a reply address. 4096.
    pub max_pending_replies: usize,
    /// Delays and limits; those of the contract by default.
    pub retry: RetryPolicy,
    /// Metrics of the bus.
    pub metrics: Metrics,
    /// For correlation ids and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// For the time of publishing.
    pub clock: Arc<dyn Clock>,
}

impl RabbitMqOptions {
    /// Returns the defaults for this address and service.
    pub fn new(url: SecretString, connection_name: impl Into<String>, metrics: Metrics) -> Self {
        Self {
            url,
            trust: Trust::default(),
            prefix: "larkauth".to_owned(),
            connection_name: connection_name.into(),
            connect_deadline: Duration::from_secs(10),
            publish_deadline: Duration::from_secs(2),
            heartbeat: Duration::from_secs(10),
            max_in_flight: 256,
            max_pending_replies: 4096,
            retry: RetryPolicy::default(),
            metrics,
            entropy: Arc::new(OsEntropy),
            clock: Arc::new(SystemClock),
        }
    }
}
