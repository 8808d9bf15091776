use async_trait::async_trait;
use futures::future::BoxFuture;
use larkauth_models::AppId;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::foreign::Foreign;

/// Longest answer that is passed back to Lark, in bytes. Lark takes cards of 30 KB.
pub(super) const MAX_ANSWER: usize = 256 << 10;

/// An answer that may come: for Lark, or the reason for which there is none.
pub(super) type PendingAnswer = BoxFuture<'static, Result<Value, String>>;

/// Outcome of passing an event on.
pub(super) enum Passed {
    /// The destination has it, and may answer.
    Taken(Option<PendingAnswer>),
    /// No program there receives it.
    NotTaken,
    /// The destination does not exist in this installation.
    Unsupported,
}

/// A way to other programs.
#[async_trait]
pub(super) trait Destination: Send + Sync {
    /// The name, a label for metrics.
    fn name(&self) -> &'static str;
    /// Passes an event on before `until`.
    ///
    /// # Errors
    /// The reason, when the destination does not take the event now.
    async fn pass(&self, app_id: &AppId, event: &Foreign, until: Instant) -> Result<Passed, String>;
}

/// Reads the answer of another program. An SDK acknowledges with `{"msg":"success"}`, which is no content for Lark.
pub(super) fn answer(body: &[u8]) -> Result<Value, String> {
    if body.trim_ascii().is_empty() {
        return Ok(json!({}));
    }
    if body.len() > MAX_ANSWER {
        return Err("its answer is too long".to_owned());
    }
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(body) else {
        return Err("its answer is not a JSON object".to_owned());
    };
    answer.retain(|name, value| name != "msg" || *value != "success");
    Ok(Value::Object(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_of_any_body_is_object_or_reason() {
        assert_eq!(answer(b" \n"), Ok(json!({})));
        assert_eq!(answer(br#"{"msg":"success"}"#), Ok(json!({})));
        assert_eq!(answer(br#"{"toast":{"type":"info"}}"#), Ok(json!({"toast": {"type": "info"}})));
        for wrong in [&b"ok"[..], b"[1]", &[b' '; 1]] {
            assert_eq!(answer(wrong).is_ok(), wrong == b" ");
        }
        assert!(answer(&vec![b'x'; MAX_ANSWER + 1]).is_err());
    }
}
