//! The one path of a callback, by long connection or by HTTP: handled, answered in time, recorded after the answer.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use larkauth_auth::{
    Context,
    callbacks::{Answered, not_taken},
};
use larkauth_models::{AppId, CardFace, SessionId};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

/// Lark gives up after 3 s, and the long connection drops its handler after 2.7 s. The answer goes out before.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(2600);
/// Time for the store and the bus to record one answer.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers recorded at once.
const CONCURRENCY: usize = 64;
/// Answers that wait to be recorded.
const CAPACITY: usize = 4096;

/// The session of the card in an answer, and the face that the card has there.
pub(crate) type Shown = (SessionId, CardFace);

/// An answer that was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    app_id: AppId,
    shown: Shown,
}

/// What is known of an answer after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Lark has it.
    Confirmed,
    /// It left this machine.
    Unconfirmed,
}

/// Handles callbacks.
pub(crate) struct Callbacks {
    context: Context,
    sent: mpsc::Sender<Sent>,
}

impl Callbacks {
    /// The receiver is for [`record_sent_answers`].
    pub(crate) fn new(context: Context) -> (Arc<Self>, mpsc::Receiver<Sent>) {
        let (sent, receiver) = mpsc::channel(CAPACITY);
        (Arc::new(Self { context, sent }), receiver)
    }

    /// Handles one verified callback. The answer always comes before Lark gives up.
    pub(crate) async fn handle(&self, app_id: &AppId, payload: &[u8], received_at: Instant) -> Answered {
        let handling = self.context.take_callback(app_id, payload, received_at);
        let answered = match timeout_at(received_at + ANSWER_TIMEOUT, handling).await {
            Ok(answered) => answered,
            Err(_) => {
                tracing::error!("gateway.callback.late: the broker did not confirm in time");
                not_taken(payload)
            }
        };
        self.context.metrics().callback_answered(app_id.as_str(), answered.outcome, received_at.elapsed());
        answered
    }

    /// Queues the record that an answer was sent to Lark: from then on its card may be updated. Does not wait.
    ///
    /// A final face that may not have arrived is not recorded. The worker checks the card after the answer and then
    /// brings that face by message update.
    pub(crate) fn answer_sent(&self, app_id: &AppId, shown: Shown, arrival: Arrival) {
        if arrival == Arrival::Unconfirmed && shown.1.is_final() {
            return;
        }
        if self.sent.try_send(Sent { app_id: app_id.clone(), shown }).is_err() {
            tracing::warn!(session_id = %shown.0, %app_id, "gateway.answer.not_recorded: too many are waiting; a job reconciles the card later");
        }
    }
}

/// Records every sent answer, until the last sender is gone.
pub(crate) async fn record_sent_answers(context: Context, sent: mpsc::Receiver<Sent>) -> anyhow::Result<()> {
    let sent =
        stream::unfold(sent, |mut receiver| async { receiver.recv().await.map(|next| (next, receiver)) });
    sent
        .for_each_concurrent(CONCURRENCY, |Sent { app_id, shown }| {
            let context = &context;
            async move {
                let recorded = timeout(RECORD_TIMEOUT, context.answer_sent(&app_id, shown)).await;
                let problem = match recorded {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "not done in time".to_owned(),
                };
                tracing::warn!(session_id = %shown.0, %app_id, problem, "gateway.answer.not_recorded: a job reconciles the card later");
            }
        })
        .await;
    Ok(())
}
