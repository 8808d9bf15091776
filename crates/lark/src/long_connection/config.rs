use std::time::Duration;

/// Every delay, deadline and bound of a long connection.
#[derive(Clone, Debug)]
pub struct LongConnectionConfig {
    /// Failed attempts in a row before [`ConnectionState::FallenBack`](super::ConnectionState::FallenBack).
    pub max_reconnect_retries: u32,
    /// Time between pings; a shorter interval asked for by the server wins.
    pub heartbeat_interval: Duration,
    /// Whether to give up on the long connection in favour of HTTP callbacks at all. Reconnecting goes on either way.
    pub fallback_to_http: bool,
    /// First wait before connecting again; each further one is twice as long.
    pub backoff_base: Duration,
    /// Longest wait, before jitter.
    pub backoff_cap: Duration,
    /// Share of a wait by which it is lengthened or shortened at random (0.25 = 25 %).
    pub backoff_jitter: f64,
    /// Wait before trying again with credentials that were refused: somebody may mend them in the console.
    pub rejected_retry_interval: Duration,
    /// For asking where to connect.
    pub discovery_deadline: Duration,
    /// For TCP, TLS and the WebSocket upgrade together.
    pub handshake_deadline: Duration,
    /// For one frame to leave, close frames included.
    pub write_deadline: Duration,
    /// A connection is dead after two ping intervals and this much of silence.
    pub liveness_grace: Duration,
    /// A push is answered after this time at the latest. Lark gives up after 3 s, so this leaves some for the way.
    pub answer_deadline: Duration,
    /// On shutdown: for handlers in hand to finish and their answers to leave.
    pub shutdown_grace: Duration,
    /// Pushes handled at a time; what comes on top is answered as failed at once.
    pub max_concurrent_handlers: usize,
    /// Longest frame taken, in bytes; a longer one ends the connection.
    pub max_frame_bytes: usize,
    /// Bounds of what is kept of messages that came in several frames.
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

/// Bounds of what is kept of messages that came in several frames.
#[derive(Clone, Debug)]
pub struct AssemblerConfig {
    /// An incomplete message is forgotten after this time, as Lark's own clients do.
    pub max_age: Duration,
    /// Incomplete messages kept; the oldest makes room for a new one.
    pub max_messages: usize,
    /// Frames one message may be split over.
    pub max_parts: usize,
    /// Bytes kept of all incomplete messages together; the oldest make room.
    pub max_bytes: usize,
}

impl Default for AssemblerConfig {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(5), max_messages: 256, max_parts: 256, max_bytes: 16 << 20 }
    }
}
