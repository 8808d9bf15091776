//! Pushing an event to one connection and waiting for its answer.

use base64::{Engine, prelude::BASE64_STANDARD};
use larkauth_lark::frame::{Frame, header};
use larkauth_models::Timestamp;
use serde_json::Value;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::frames::{self, Outgoing};
use crate::{
    error::PushError,
    faults::{Effect, Endpoint, Frames},
    sim::Sim,
    state::{
        State,
        sockets::{Answer, Push},
    },
    violations::ViolationKind,
};

/// Pushes to one connection of the application and waits for the answer until the deadline. Returns `None` when the
/// answer has no data.
pub(crate) async fn push(
    sim: &Sim,
    app_id: &str,
    kind: &'static str,
    payload: &Value,
) -> Result<Option<Value>, PushError> {
    let deadline = Instant::now() + sim.config().socket.answer_deadline;
    let answer = send(sim, app_id, kind, payload.to_string().as_bytes())?;
    match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) if answer.code == 200 => match answer.data {
            Some(data) => serde_json::from_slice(&data).map(Some).map_err(|_| PushError::BadBody),
            None => Ok(None),
        },
        Ok(Ok(answer)) => Err(PushError::Failed(answer.code)),
        Ok(Err(_closed)) => Err(PushError::Disconnected),
        Err(_elapsed) => Err(PushError::Timeout),
    }
}

fn send(
    sim: &Sim,
    app_id: &str,
    kind: &'static str,
    payload: &[u8],
) -> Result<oneshot::Receiver<Answer>, PushError> {
    let how = match sim.faults().take(Endpoint::Push, Some(app_id)) {
        Some(Effect::Frames(how)) => Some(how),
        Some(_) => None,
        None => Some(Frames::default()),
    };
    let kind = if how.is_some_and(|how| how.as_card) { "card" } else { kind };
    let now = sim.now();
    let mut state = sim.state();
    let connection = state.pick_connection(app_id).ok_or(PushError::NoConnection)?;
    let (service_id, device_id, outbox) =
        (connection.ids.service_id, connection.ids.device_id.clone(), connection.outbox.clone());
    let message_id = state.fresh_id("");
    let out = Outgoing { service_id, kind, message_id: &message_id, payload };
    let cut = frames::cut(&state, &out, how.map_or(1, |how| how.parts));
    let (sender, answer) = oneshot::channel();
    let mut expected = vec![(message_id, cut.ids, Some(sender))];
    let mut frames = cut.frames;
    if let Some(how) = how {
        let mut others = Vec::new();
        if how.interleave {
            let decoy = decoy(&state, now, app_id).to_string();
            let decoy_id = state.fresh_id("");
            let out =
                Outgoing { service_id, kind: "event", message_id: &decoy_id, payload: decoy.as_bytes() };
            let cut = frames::cut(&state, &out, how.parts);
            others = cut.frames;
            expected.push((decoy_id, cut.ids, None));
        }
        frames = frames::arrange(&state, frames, others, how);
    } else {
        frames.clear();
    }
    for (message_id, ids, waiting) in expected {
        let push = Push {
            device_id: device_id.clone(),
            frames: ids,
            sent_at: Instant::now(),
            duplicated: how.is_some_and(|how| how.duplicate),
            answers: 0,
            waiting,
        };
        state.sockets.pushes.insert(message_id, push);
    }
    for frame in frames {
        // A full outbox belongs to a client that stopped reading: its push is lost, as on the real platform.
        outbox.try_send(frame).map_err(|_| PushError::Disconnected)?;
    }
    Ok(answer)
}

/// Returns an event that every bot receives often.
fn decoy(state: &State, now: Timestamp, app_id: &str) -> Value {
    crate::envelope::envelope(
        state,
        now,
        app_id,
        "im.chat.access_event.bot_p2p_chat_entered_v1",
        &serde_json::json!({"chat_id": "oc_decoy", "last_message_id": "om_decoy"}),
    )
}

/// Handles a data frame of the client: the answer to a push.
pub(crate) fn answered(sim: &Sim, app_id: &str, device_id: &str, frame: &Frame) {
    let now = sim.now();
    let deadline = sim.config().socket.answer_deadline;
    let mut guard = sim.state();
    let state = &mut *guard;
    let message_id = frame.header(header::MESSAGE_ID).unwrap_or_default();
    let push = state.sockets.pushes.get_mut(message_id).filter(|push| push.device_id == device_id);
    let Some(push) = push else {
        state.violations.add(now, ViolationKind::UnknownAnswer, app_id, "no such push on this connection");
        return;
    };
    push.answers += 1;
    if push.answers > 1 && !push.duplicated {
        state.violations.add(now, ViolationKind::AnsweredTwice, app_id, message_id);
    }
    if push.sent_at.elapsed() > deadline {
        let detail = format!("after {} ms", push.sent_at.elapsed().as_millis());
        state.violations.add(now, ViolationKind::LateAnswer, app_id, detail);
    }
    let answer = match read(frame, push) {
        Ok(answer) => answer,
        Err(detail) => {
            state.violations.add(now, ViolationKind::MalformedAnswer, app_id, detail);
            return;
        }
    };
    if push.answers == 1 && push.sent_at.elapsed() <= deadline {
        state.stats.answers += 1;
    }
    if let Some(waiting) = push.waiting.take() {
        // The receiver is gone after the deadline.
        let _late = waiting.send(answer);
    }
}

fn read(frame: &Frame, push: &Push) -> Result<Answer, &'static str> {
    if !push.frames.contains(&(frame.seq_id, frame.log_id)) {
        return Err("SeqID and LogID are not those of a frame of the push");
    }
    let payload: Value = serde_json::from_slice(frame.payload.as_deref().unwrap_or_default())
        .map_err(|_| "payload is not JSON")?;
    let code = payload["code"].as_i64().ok_or("payload has no code")?;
    if code == 200 && frame.header(header::BIZ_RT).and_then(|ms| ms.parse::<i64>().ok()).is_none() {
        return Err("header biz_rt is missing or no number");
    }
    let data = match &payload["data"] {
        Value::Null => None,
        Value::String(data) if data.is_empty() => None,
        Value::String(data) => Some(BASE64_STANDARD.decode(data).map_err(|_| "data is not base64")?),
        _ => return Err("data is not a text"),
    };
    Ok(Answer { code, data })
}
