use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::frame::{Frame, Header, header};

/// The `type` header of a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// `event`. Card callbacks (`card.action.trigger`) usually have this type too; the payload's `event_type` tells them
    /// apart.
    Event,
    /// `card`.
    Card,
}

/// One complete message of Lark. May be a duplicate of an earlier message.
#[derive(Clone)]
pub struct Push {
    /// The type of its frame.
    pub kind: PushKind,
    /// Lark's id of the message, empty when missing.
    pub message_id: String,
    /// Lark's trace id, empty when missing.
    pub trace_id: String,
    /// The JSON, unverified. The same as the body of an HTTP callback.
    pub payload: Vec<u8>,
    /// Time at which its last frame was read. The answer deadline is counted from this time.
    pub received_at: Instant,
}

impl Push {
    /// Returns all fields but the payload.
    #[must_use]
    pub fn meta(&self) -> PushMeta {
        PushMeta {
            kind: self.kind,
            message_id: self.message_id.clone(),
            trace_id: self.trace_id.clone(),
            received_at: self.received_at,
        }
    }
}

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The payload names people and may carry a code.
        f.debug_struct("Push")
            .field("kind", &self.kind)
            .field("message_id", &self.message_id)
            .field("trace_id", &self.trace_id)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// A [`Push`] without its payload.
#[derive(Clone, Debug)]
pub struct PushMeta {
    /// The type of its frame.
    pub kind: PushKind,
    /// Lark's id of the message, empty when missing.
    pub message_id: String,
    /// Lark's trace id, empty when missing.
    pub trace_id: String,
    /// Time at which its last frame was read.
    pub received_at: Instant,
}

/// The answer to a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The push is accepted. For a card callback, the JSON may change the card and show a toast.
    Ok(Option<Value>),
    /// The push is not accepted: Lark repeats an event later, and shows an error for a card callback.
    Failed,
}

/// Handles pushes.
#[async_trait]
pub trait PushHandler: Send + Sync + 'static {
    /// Handles one push. Runs concurrently with other pushes. At the answer deadline the call is dropped and the push is
    /// answered as failed.
    async fn handle(&self, push: Push) -> Answer;

    /// Is called once for each push that [`handle`](Self::handle) was called with. `arrived` is true when the answer has
    /// arrived in time, and false when that is not certain. Work that Lark allows only after the answer belongs here.
    async fn answered(&self, push: &PushMeta, arrived: bool) {
        let _ = (push, arrived);
    }
}

/// Turns a data frame into its answer: the same frame with the elapsed time and another payload.
pub(super) fn answer_frame(mut frame: Frame, answer: Answer, received_at: Instant) -> Frame {
    let mut payload = json!({ "code": 200, "headers": null });
    match answer {
        Answer::Ok(None) => {}
        Answer::Ok(Some(data)) => payload["data"] = BASE64_STANDARD.encode(data.to_string()).into(),
        Answer::Failed => payload["code"] = 500.into(),
    }
    frame.headers.push(Header::new(header::BIZ_RT, received_at.elapsed().as_millis().to_string()));
    frame.payload = Some(payload.to_string().into_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::METHOD_DATA;

    #[test]
    fn push_debug_output_holds_no_payload() {
        let push = Push {
            kind: PushKind::Card,
            message_id: "m".into(),
            trace_id: "t".into(),
            payload: b"secret".to_vec(),
            received_at: Instant::now(),
        };
        assert!(!format!("{push:?}").contains("secret"));
        assert!(!format!("{push:?}").contains("115, 101"));
    }

    #[tokio::test(start_paused = true)]
    async fn answer_frame_repeats_frame_with_new_payload() {
        let frame = Frame {
            seq_id: 5,
            log_id: 6,
            service: 7,
            method: METHOD_DATA,
            headers: vec![Header::new(header::TYPE, "card"), Header::new(header::MESSAGE_ID, "m")],
            log_id_new: Some("n".into()),
            payload: Some(b"{}".to_vec()),
            ..Frame::default()
        };
        let received_at = Instant::now();
        tokio::time::advance(std::time::Duration::from_millis(42)).await;

        let answer = answer_frame(frame.clone(), Answer::Ok(Some(json!({"toast": {}}))), received_at);
        assert_eq!((answer.seq_id, answer.log_id, answer.service, answer.method), (5, 6, 7, METHOD_DATA));
        assert_eq!(answer.log_id_new.as_deref(), Some("n"));
        assert_eq!(answer.headers[..2], frame.headers[..]);
        assert_eq!(answer.header(header::BIZ_RT), Some("42"));
        let payload: Value = serde_json::from_slice(answer.payload.as_deref().unwrap()).unwrap();
        assert_eq!(
            payload,
            json!({"code": 200, "headers": null, "data": BASE64_STANDARD.encode(r#"{"toast":{}}"#)})
        );

        let empty = answer_frame(frame.clone(), Answer::Ok(None), received_at).payload.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&empty).unwrap(), json!({"code": 200, "headers": null}));
        let failed = answer_frame(frame, Answer::Failed, received_at).payload.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&failed).unwrap(), json!({"code": 500, "headers": null}));
    }
}
