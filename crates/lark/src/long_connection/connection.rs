use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{
    FutureExt, SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    arrivals::Arrivals,
    assembler::Assembler,
    config::LongConnectionConfig,
    dial::{ClientConfig, OpenConnection},
    error::websocket_reason,
    push::{Answer, Push, PushHandler, PushKind, answer_frame},
};
use crate::{
    frame::{Frame, Header, METHOD_CONTROL, METHOD_DATA, header},
    lenient::Fields,
};

/// Time that Lark waits for an answer. Lark ignores a later answer.
const LARK_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Why one connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Shutdown was requested. Answers were written or abandoned at the end of the grace.
    Shutdown,
    /// The connection broke, was closed by the server, or was silent for too long. `heard` is false when no message of
    /// the server had arrived.
    Lost { heard: bool, reason: String },
}

/// An answer to be written, and the channel that is notified when its arrival is proven.
struct Outgoing {
    frame: Frame,
    arrived: oneshot::Sender<()>,
}

/// Serves one connection until it ends. `tasks` holds the handlers, which outlive a lost connection. `on_heard` is called
/// once, when the first message of the server arrives.
pub(super) async fn serve<S>(
    connection: OpenConnection<S>,
    config: &LongConnectionConfig,
    handler: &Arc<dyn PushHandler>,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
    on_heard: impl FnOnce() + Send,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (sink, stream) = connection.socket.split();
    let (answers, outgoing) = mpsc::channel(config.max_concurrent_handlers.max(1));
    let (interval, interval_changes) =
        watch::channel(connection.client_config.ping_interval(config.heartbeat_interval));
    let mut on_heard = Some(on_heard);
    let mut heard = false;

    let arrivals = Arrivals::default();
    let writer = Writer { sink, arrivals: &arrivals, deadline: config.write_deadline };
    let writer = writer.write_all(outgoing, interval_changes, connection.service_id);
    tokio::pin!(writer);
    let (unanswered, mut unanswered_changes) = watch::channel(0);
    let reader = Reader {
        config,
        handler,
        tasks,
        answers,
        unanswered,
        interval,
        arrivals: &arrivals,
        assembler: Assembler::new(config.assembler.clone()),
        malformed: 0,
    };
    // On the heap, so that it can be dropped before the writer ends.
    let mut read = Box::pin(reader.read_all(stream, || {
        heard = true;
        if let Some(on_heard) = on_heard.take() {
            on_heard();
        }
    }));

    let lost = tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        reason = &mut writer => Some(reason.err().unwrap_or_default()),
        reason = &mut read => Some(reason),
    };
    if let Some(reason) = lost {
        drop(read);
        return End::Lost { heard, reason };
    }
    // Lark pushes until it reads the close frame, and no answer may follow that. So pushes are read and answered until there is
    // none without an answer; under load, for as long as the last ones can be answered within the grace.
    let stopped_at = Instant::now();
    let quiet = async {
        tokio::select! {
            biased;
            _ = &mut writer => false,
            _ = &mut read => true,
            _ = unanswered_changes.wait_for(|unanswered| *unanswered == 0) => true,
        }
    };
    let read_until = stopped_at + config.shutdown_grace.saturating_sub(config.answer_deadline);
    let is_writing = timeout_at(read_until, quiet).await.unwrap_or(true);
    arrivals.end();
    // With its sender of the queue: the writer ends after the last answer.
    drop(read);
    if is_writing && timeout_at(stopped_at + config.shutdown_grace, writer).await.is_err() {
        tracing::warn!("some answers were not written within the shutdown grace");
    }
    End::Shutdown
}

/// Counts a push as unanswered, until its answer is in the queue or was given up.
struct Unanswered(watch::Sender<usize>);

impl Unanswered {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

struct Writer<'a, S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    arrivals: &'a Arrivals,
    deadline: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<'_, S> {
    /// Writes pings and answers until every sender of answers is dropped, then closes.
    async fn write_all(
        mut self,
        mut outgoing: mpsc::Receiver<Outgoing>,
        mut interval: watch::Receiver<Duration>,
        service_id: i32,
    ) -> Result<(), String> {
        let ping = Frame {
            service: service_id,
            method: METHOD_CONTROL,
            headers: vec![Header::new(header::TYPE, "ping")],
            ..Frame::default()
        };
        let mut last_ping = Instant::now();
        let mut next_ping = last_ping;
        loop {
            tokio::select! {
                biased;
                next = outgoing.recv() => match next {
                    Some(Outgoing { frame, arrived }) => {
                        self.write(&frame).await?;
                        self.arrivals.answer_written(arrived);
                        // One ping follows all the answers that are in the queue.
                        next_ping = Instant::now();
                    }
                    None => break,
                },
                () = sleep_until(next_ping) => {
                    self.write(&ping).await?;
                    self.arrivals.ping_written();
                    last_ping = Instant::now();
                    next_ping = last_ping + *interval.borrow_and_update();
                }
                Ok(()) = interval.changed() => {
                    next_ping = next_ping.min(last_ping + *interval.borrow_and_update());
                }
            }
        }
        match timeout(self.deadline, self.sink.close()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(websocket_reason(&e)),
            Err(_) => Err("the close frame was not written in time".into()),
        }
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), String> {
        let message = Message::Binary(frame.encode_to_vec().into());
        match timeout(self.deadline, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(format!("writing failed: {}", websocket_reason(&e))),
            Err(_) => Err("a frame was not written in time".into()),
        }
    }
}

struct Reader<'a> {
    config: &'a LongConnectionConfig,
    handler: &'a Arc<dyn PushHandler>,
    tasks: &'a mut JoinSet<()>,
    answers: mpsc::Sender<Outgoing>,
    /// Number of pushes without an answer in the queue.
    unanswered: watch::Sender<usize>,
    interval: watch::Sender<Duration>,
    arrivals: &'a Arrivals,
    assembler: Assembler,
    /// Number of messages that could not be read.
    malformed: u64,
}

impl Reader<'_> {
    /// Reads until the connection is lost, and returns the reason. Every message proves that the server is alive.
    async fn read_all<S>(
        mut self,
        mut stream: SplitStream<WebSocketStream<S>>,
        mut on_heard: impl FnMut(),
    ) -> String
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut last_heard = Instant::now();
        loop {
            let max_silence = *self.interval.borrow() * 2 + self.config.liveness_grace;
            let message = match timeout_at(last_heard + max_silence, stream.next()).await {
                Err(_) => return format!("the server was silent for {} s", max_silence.as_secs_f32()),
                Ok(None) => return "the server closed the connection without a close frame".into(),
                Ok(Some(Err(e))) => return websocket_reason(&e),
                Ok(Some(Ok(message))) => message,
            };
            if let Message::Close(frame) = message {
                let code = frame.map_or(1005, |f| u16::from(f.code));
                return format!("the server closed the connection (code {code})");
            }
            last_heard = Instant::now();
            on_heard();
            match message {
                Message::Binary(bytes) => self.take(&bytes),
                Message::Text(_) => self.report_malformed("a text message"),
                // tungstenite answers WebSocket pings by itself.
                _ => {}
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let Ok(mut frame) = Frame::decode(bytes) else {
            return self.report_malformed("not a frame");
        };
        let kind = match (frame.method, frame.header(header::TYPE)) {
            (METHOD_CONTROL, Some("pong")) => {
                self.arrivals.pong_read();
                return self.configure(frame.payload.as_deref().unwrap_or_default());
            }
            (METHOD_CONTROL, _) => return,
            (METHOD_DATA, Some("event")) => PushKind::Event,
            (METHOD_DATA, Some("card")) => PushKind::Card,
            (METHOD_DATA, _) => return self.report_malformed("a data frame that is neither event nor card"),
            _ => return self.report_malformed("a frame that is neither control nor data"),
        };
        let received_at = Instant::now();
        let text = |key| frame.header(key).unwrap_or_default().to_owned();
        let number = |key, missing| frame.header(key).map_or(Some(missing), |text| text.parse().ok());
        let (Some(sum), Some(seq)) = (number(header::SUM, 1), number(header::SEQ, 0)) else {
            return self.report_malformed("a frame whose `sum` or `seq` is not a number");
        };
        let (message_id, trace_id) = (text(header::MESSAGE_ID), text(header::TRACE_ID));
        let part = frame.payload.take().unwrap_or_default();
        match self.assembler.add(&message_id, sum, seq, part, received_at) {
            Ok(Some(payload)) => {
                self.dispatch(Push { kind, message_id, trace_id, payload, received_at }, frame);
            }
            Ok(None) => {}
            Err(e) => self.report_malformed(&e.to_string()),
        }
    }

    fn configure(&self, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        match Fields::parse(payload) {
            Some(config) => {
                let interval = ClientConfig::read(&config).ping_interval(self.config.heartbeat_interval);
                self.interval.send_if_modified(|current| std::mem::replace(current, interval) != interval);
            }
            None => tracing::debug!("the payload of a pong is not a client configuration"),
        }
    }

    fn dispatch(&mut self, push: Push, frame: Frame) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(e) = ended
                && e.is_panic()
            {
                tracing::error!("a push handler panicked after its answer");
            }
        }
        if self.tasks.len() >= self.config.max_concurrent_handlers {
            tracing::warn!(
                message_id = push.message_id,
                "too many pushes are being handled: answered this one as failed"
            );
            let frame = answer_frame(frame, Answer::Failed, push.received_at);
            // A full queue means that the connection accepts no data: the answer is dropped.
            let _ = self.answers.try_send(Outgoing { frame, arrived: oneshot::channel().0 });
            return;
        }
        let span =
            tracing::info_span!("lark.push.handle", message_id = push.message_id, trace_id = push.trace_id);
        let unanswered = Unanswered::new(&self.unanswered);
        let queue = (self.answers.clone(), unanswered);
        let work = handle(push, frame, Arc::clone(self.handler), queue, self.config.clone());
        self.tasks.spawn(work.instrument(span));
    }

    /// Logs the 1st, 2nd, 4th, 8th … malformed message, so that a flood of messages does not become a flood of log lines.
    fn report_malformed(&mut self, what: &str) {
        self.malformed += 1;
        if self.malformed.is_power_of_two() {
            tracing::warn!(times = self.malformed, what, "the server sent a malformed message: ignored it");
        }
    }
}

/// Handles one push and sends its answer to the writer.
async fn handle(
    push: Push,
    frame: Frame,
    handler: Arc<dyn PushHandler>,
    (answers, unanswered): (mpsc::Sender<Outgoing>, Unanswered),
    config: LongConnectionConfig,
) {
    let meta = push.meta();
    let handled = AssertUnwindSafe(handler.handle(push)).catch_unwind();
    let answer = match timeout_at(meta.received_at + config.answer_deadline, handled).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            tracing::error!("the push handler panicked: answered as failed");
            Answer::Failed
        }
        Err(_) => {
            tracing::warn!("the push handler timed out: answered as failed");
            Answer::Failed
        }
    };
    let (arrived, has_arrived) = oneshot::channel();
    let outgoing = Outgoing { frame: answer_frame(frame, answer, meta.received_at), arrived };
    let arrival = async move {
        let is_queued = answers.send(outgoing).await.is_ok();
        drop(unanswered);
        is_queued && has_arrived.await.is_ok()
    };
    let arrived = timeout_at(meta.received_at + LARK_ANSWER_TIMEOUT, arrival).await.unwrap_or(false);
    if !arrived {
        tracing::warn!("it is unknown whether the answer to a push arrived in time");
    }
    if timeout(config.answer_deadline, handler.answered(&meta, arrived)).await.is_err() {
        tracing::warn!("the work after an answer timed out");
    }
}
