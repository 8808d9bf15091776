//! The long connection: discovery's counterpart, one task per connection.

pub(crate) mod frames;
pub(crate) mod push;
pub(crate) mod required;

use axum::{
    extract::{
        ConnectInfo, Query, State as Extract,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use larkauth_lark::frame::{Frame, METHOD_CONTROL, METHOD_DATA, header};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    config::Socket,
    faults::{Effect, Endpoint},
    net::ConnectionControl,
    rules::sockets::HandshakeRefusal,
    sim::Sim,
    state::sockets::ConnectionIds,
    violations::ViolationKind,
};

/// Path of the URL that discovery returns.
pub(crate) const PATH: &str = "/ws/v2";

/// Returns the settings of pings and reconnection for clients.
pub(crate) fn client_config(socket: &Socket) -> Value {
    json!({
        "ReconnectCount": socket.reconnect_count,
        "ReconnectInterval": socket.reconnect_interval.as_secs(),
        "ReconnectNonce": socket.reconnect_nonce.as_secs(),
        "PingInterval": socket.ping_interval.as_secs(),
    })
}

#[derive(Deserialize)]
pub(crate) struct Params {
    #[serde(default)]
    ticket: String,
}

/// Answers the WebSocket upgrade.
pub(crate) async fn connect(
    Extract(sim): Extract<Sim>,
    ConnectInfo(control): ConnectInfo<ConnectionControl>,
    Query(params): Query<Params>,
    upgrade: WebSocketUpgrade,
) -> Response {
    sim.count_call(Endpoint::Handshake);
    let app_id = sim.state().ticket_app(&params.ticket);
    match sim.faults().take(Endpoint::Handshake, app_id.as_deref()) {
        Some(Effect::Refuse { status, auth_error }) => {
            return refuse(&HandshakeRefusal { status, msg: "refused", auth_error });
        }
        Some(Effect::Answer { status, .. }) => {
            return refuse(&HandshakeRefusal { status, msg: "refused", auth_error: None });
        }
        Some(Effect::Hang) => sim.hang().await,
        Some(Effect::Latency(millis) | Effect::LateAnswer(millis)) => sim.wait(Effect::millis(millis)).await,
        Some(Effect::Cut | Effect::LostAnswer) => control.cut(),
        _ => {}
    }
    let (outbox, outgoing) = mpsc::channel(OUTBOX_CAPACITY);
    let now = sim.now();
    let admitted = sim.state().admit(now, &params.ticket, control, outbox);
    match admitted {
        Ok(ids) => {
            let running = sim.tasks().token();
            let session = Session { sim, ids };
            upgrade.on_upgrade(move |socket| async move {
                serve(&session, socket, outgoing).await;
                drop(session);
                drop(running);
            })
        }
        Err(refusal) => refuse(&refusal),
    }
}

fn refuse(refusal: &HandshakeRefusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
    let mut response = (status, refusal.msg).into_response();
    let headers = response.headers_mut();
    headers.insert("Handshake-Status", HeaderValue::from(refusal.status));
    headers.insert("Handshake-Msg", HeaderValue::from_static(refusal.msg));
    if let Some(code) = refusal.auth_error {
        headers.insert("Handshake-Autherrcode", HeaderValue::from(code));
    }
    response
}

/// Maximum number of frames that wait for a slow client.
const OUTBOX_CAPACITY: usize = 1024;

/// Runs until either side ends the connection or the simulator stops.
async fn serve(session: &Session, mut socket: WebSocket, mut outgoing: mpsc::Receiver<Bytes>) {
    let sim = &session.sim;
    sim.changed();
    let settings = &sim.config().socket;
    let idle_timeout = settings.ping_interval * settings.missed_pings.max(1);
    let mut last_received = Instant::now();
    loop {
        let reply = tokio::select! {
            () = sim.stopped() => break,
            () = sleep_until(last_received + idle_timeout) => break,
            frame = outgoing.recv() => frame,
            message = socket.recv() => {
                last_received = Instant::now();
                let reply = match message {
                    Some(Ok(Message::Binary(bytes))) => session.receive(&bytes),
                    Some(Ok(Message::Text(_))) => { session.violation(ViolationKind::MalformedFrame, "a text message"); None }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                };
                sim.changed();
                reply
            }
        };
        if let Some(frame) = reply {
            // A client that does not read must not block the task.
            let sent = tokio::select! {
                () = sim.stopped() => break,
                () = sleep_until(last_received + idle_timeout) => break,
                sent = socket.send(Message::Binary(frame)) => sent,
            };
            if sent.is_err() {
                break;
            }
        }
    }
}

/// One connection from its admission. Dropping it ends the connection, even when the upgrade failed.
struct Session {
    sim: Sim,
    ids: ConnectionIds,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sim.state().disconnected(&self.ids.device_id);
        self.sim.changed();
    }
}

impl Session {
    fn violation(&self, kind: ViolationKind, detail: impl Into<String>) {
        let now = self.sim.now();
        self.sim.state().violations.add(now, kind, &self.ids.app_id, detail);
    }

    /// Handles one frame. Returns the frame to send back.
    fn receive(&self, bytes: &[u8]) -> Option<Bytes> {
        if let Err(detail) = required::check(bytes) {
            self.violation(ViolationKind::MalformedFrame, detail);
        }
        let Ok(frame) = Frame::decode(bytes) else {
            self.violation(ViolationKind::MalformedFrame, "not a frame");
            return None;
        };
        if frame.service != self.ids.service_id {
            self.violation(ViolationKind::WrongService, format!("service {}", frame.service));
        }
        match (frame.method, frame.header(header::TYPE)) {
            (METHOD_CONTROL, Some("ping")) => {
                self.sim.state().stats.pings += 1;
                self.sim.changed();
                let silent = self.sim.faults().take(Endpoint::Pong, Some(&self.ids.app_id)).is_some();
                (!silent)
                    .then(|| frames::pong(self.ids.service_id, &client_config(&self.sim.config().socket)))
            }
            (METHOD_DATA, Some(_)) => {
                match self.sim.faults().take(Endpoint::PushAnswer, Some(&self.ids.app_id)) {
                    Some(Effect::Cut) => self.sim.drop_connection(&self.ids.device_id),
                    Some(_) => {}
                    None => push::answered(&self.sim, &self.ids.app_id, &self.ids.device_id, &frame),
                }
                None
            }
            (method, kind) => {
                let detail = format!("method {method}, type {}", kind.unwrap_or("missing"));
                self.violation(ViolationKind::MalformedFrame, detail);
                None
            }
        }
    }
}
