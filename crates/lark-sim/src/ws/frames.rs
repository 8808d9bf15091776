//! One push as frames.

use bytes::Bytes;
use larkauth_lark::frame::{Frame, Header, METHOD_CONTROL, METHOD_DATA, header};
use prost::Message;

use crate::{faults::Frames, state::State};

/// A push and its connection.
pub(crate) struct Outgoing<'a> {
    pub(crate) service_id: i32,
    /// `event` or `card`.
    pub(crate) kind: &'static str,
    pub(crate) message_id: &'a str,
    pub(crate) payload: &'a [u8],
}

/// The frames of a push, and the ids that an answer must repeat.
pub(crate) struct Cut {
    pub(crate) frames: Vec<Bytes>,
    pub(crate) ids: Vec<(u64, u64)>,
}

/// Cuts a payload into at most `parts` frames.
pub(crate) fn cut(state: &State, out: &Outgoing<'_>, parts: u32) -> Cut {
    let parts = usize::try_from(parts).unwrap_or(usize::MAX).clamp(1, out.payload.len().max(1));
    let size = out.payload.len().div_ceil(parts).max(1);
    let chunks: Vec<_> = out.payload.chunks(size).collect();
    let trace_id = state.fresh_id("");
    let seq_id = state.random_below(1 << 30) as u64;
    let mut cut = Cut { frames: Vec::new(), ids: Vec::new() };
    for (seq, chunk) in chunks.iter().enumerate() {
        let frame = Frame {
            seq_id: seq_id + seq as u64,
            log_id: state.random_below(1 << 40) as u64,
            service: out.service_id,
            method: METHOD_DATA,
            headers: vec![
                Header::new(header::TYPE, out.kind),
                Header::new(header::MESSAGE_ID, out.message_id),
                Header::new(header::TRACE_ID, trace_id.clone()),
                Header::new(header::SUM, chunks.len().to_string()),
                Header::new(header::SEQ, seq.to_string()),
            ],
            payload_encoding: None,
            payload_type: None,
            payload: Some(chunk.to_vec()),
            log_id_new: Some(state.fresh_id("")),
        };
        cut.ids.push((frame.seq_id, frame.log_id));
        cut.frames.push(Bytes::from(frame.encode_to_vec()));
    }
    cut
}

/// Arranges the frames of a push in the order of sending, interleaved with those of `other`.
pub(crate) fn arrange(state: &State, mut frames: Vec<Bytes>, other: Vec<Bytes>, how: Frames) -> Vec<Bytes> {
    if how.shuffle {
        let whole = frames.clone();
        for last in (1..frames.len()).rev() {
            frames.swap(last, state.random_below(last + 1));
        }
        // A shuffle of few frames often restores the old order.
        if frames == whole {
            frames.reverse();
        }
    }
    if how.duplicate {
        frames = frames.into_iter().flat_map(|frame| [frame.clone(), frame]).collect();
    }
    let mut mixed = Vec::with_capacity(frames.len() + other.len());
    let mut other = other.into_iter();
    for frame in frames {
        mixed.extend(other.next());
        mixed.push(frame);
    }
    mixed.extend(other);
    mixed
}

/// Returns the answer to a ping.
pub(crate) fn pong(service_id: i32, client_config: &serde_json::Value) -> Bytes {
    let frame = Frame {
        service: service_id,
        method: METHOD_CONTROL,
        headers: vec![Header::new(header::TYPE, "pong")],
        payload: Some(client_config.to_string().into_bytes()),
        ..Frame::default()
    };
    Bytes::from(frame.encode_to_vec())
}
