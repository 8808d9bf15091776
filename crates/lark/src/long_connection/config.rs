use std::time::Duration;

/// The delays, timeouts and bounds of a long connection.
#[derive(Clone, Debug)]
pub struct LongConnectionConfig {
    /// Consecutive failed attempts before [`ConnectionState::FallenBack`](super::ConnectionState::FallenBack).
    pub max_reconnect_retries: u32,
    /// Time between pings. A shorter interval that the server asks for takes precedence.
    pub heartbeat_interval: Duration,
    /// Whether the state may become [`FallenBack`](super::ConnectionState::FallenBack), so that HTTP callbacks take over.
    /// Reconnecting continues in either case.
    pub fallback_to_http: bool,
    /// First wait before reconnecting. Each further wait is twice as long.
    pub backoff_base: Duration,
    /// Longest wait before reconnecting, without jitter.
    pub backoff_cap: Duration,
    /// Share of a wait by which it is lengthened or shortened at random (0.25 = 25 %).
    pub backoff_jitter: f64,
    /// Wait before retrying refused credentials. An operator may correct them in the developer console meanwhile.
    pub rejected_retry_interval: Duration,
    /// Timeout of discovery, the request for the WebSocket address.
    pub discovery_deadline: Duration,
    /// Timeout of TCP, TLS and the WebSocket upgrade together.
    pub handshake_deadline: Duration,
    /// Timeout of writing one frame, close frames included.
    pub write_deadline: Duration,
    /// A connection is lost after silence of two ping intervals and this time.
    pub liveness_grace: Duration,
    /// Longest time from a push to its answer. Lark stops waiting after 3 s, and the rest is left for the network.
    pub answer_deadline: Duration,
    /// Time on shutdown for running handlers to finish and for their answers to be written.
    pub shutdown_grace: Duration,
    /// Most pushes handled at a time. A further push is answered as failed at once.
    pub max_concurrent_handlers: usize,
    /// Longest frame accepted, in bytes. A longer frame ends the connection.
    pub max_frame_bytes: usize,
    /// Bounds of incomplete messages.
    pub assembler: AssemblerConfig,
}

impl Default for LongConnectionConfig {
    fn default() -> Self {
        Self {
            max_reconnect_retries: 10,
            heartbeat_interval: Duration::from_secs(30),
            fallback_to_http: true,
            backoff_base: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            backoff_jitter: 0.25,
            rejected_retry_interval: Duration::from_secs(600),
            discovery_deadline: Duration::from_secs(10),
            handshake_deadline: Duration::from_secs(15),
            write_deadline: Duration::from_secs(10),
            liveness_grace: Duration::from_secs(10),
            answer_deadline: Duration::from_millis(2700),
            shutdown_grace: Duration::from_secs(5),
            max_concurrent_handlers: 2048,
            max_frame_bytes: 4 << 20,
            assembler: AssemblerConfig::default(),
        }
    }
}

/// The bounds of messages that arrive in several frames and are incomplete.
#[derive(Clone, Debug)]
pub struct AssemblerConfig {
    /// An incomplete message is dropped after this time, as in Lark's own clients.
    pub max_age: Duration,
    /// Most incomplete messages stored. The oldest is dropped for a new one.
    pub max_messages: usize,
    /// Most frames of one message.
    pub max_parts: usize,
    /// Most bytes stored of all incomplete messages together. The oldest messages are dropped for new ones.
    pub max_bytes: usize,
}

impl Default for AssemblerConfig {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(5), max_messages: 256, max_parts: 256, max_bytes: 16 << 20 }
    }
}
