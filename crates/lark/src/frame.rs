//! The long connection's wire format: protobuf package `pbbp2`. Declared by hand, as the package has only two messages.

/// One header of a frame.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Header {
    /// Name, one of [`header`].
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// Value, always text.
    #[prost(string, required, tag = "2")]
    pub value: String,
}

/// One binary WebSocket message. Required fields are written even when zero.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Frame {
    /// Sequence number; an answer repeats it.
    #[prost(uint64, required, tag = "1")]
    pub seq_id: u64,
    /// Log id; an answer repeats it.
    #[prost(uint64, required, tag = "2")]
    pub log_id: u64,
    /// The connection's `service_id`.
    #[prost(int32, required, tag = "3")]
    pub service: i32,
    /// [`METHOD_CONTROL`] or [`METHOD_DATA`].
    #[prost(int32, required, tag = "4")]
    pub method: i32,
    /// See [`header`].
    #[prost(message, repeated, tag = "5")]
    pub headers: Vec<Header>,
    /// Unused today; an answer repeats it.
    #[prost(string, optional, tag = "6")]
    pub payload_encoding: Option<String>,
    /// Unused today; an answer repeats it.
    #[prost(string, optional, tag = "7")]
    pub payload_type: Option<String>,
    /// JSON.
    #[prost(bytes = "vec", optional, tag = "8")]
    pub payload: Option<Vec<u8>>,
    /// Newer log id; an answer repeats it.
    #[prost(string, optional, tag = "9")]
    pub log_id_new: Option<String>,
}

/// Ping and pong.
pub const METHOD_CONTROL: i32 = 0;
/// Events, card callbacks and their answers.
pub const METHOD_DATA: i32 = 1;

/// Names of headers.
pub mod header {
    /// `ping`, `pong`, `event` or `card`.
    pub const TYPE: &str = "type";
    /// The same on all parts of a split message.
    pub const MESSAGE_ID: &str = "message_id";
    /// Trace id of the platform.
    pub const TRACE_ID: &str = "trace_id";
    /// Number of parts.
    pub const SUM: &str = "sum";
    /// This part, from 0.
    pub const SEQ: &str = "seq";
    /// On an answer: milliseconds spent.
    pub const BIZ_RT: &str = "biz_rt";
}

impl Frame {
    /// Returns the value of a header, if the frame has it.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.key == key).map(|h| h.value.as_str())
    }
}

impl Header {
    /// Creates a header.
    #[must_use]
    pub fn new(key: &str, value: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: value.into() }
    }
}
