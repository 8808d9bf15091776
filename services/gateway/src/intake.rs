//! The one path of a callback, whichever way it came: taken, answered in time, followed up after the answer.

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

/// Lark gives up after 3 s and its long connection's handler is dropped after 2.7 s; a polite answer comes before.
const ANSWER_DEADLINE: Duration = Duration::from_millis(2600);
/// For the store and the bus to take note of one answer.
const FOLLOW_UP_DEADLINE: Duration = Duration::from_secs(10);
/// Answers followed up at once, and answers that may wait for it.
const FOLLOW_UPS: usize = 64;
const WAITING: usize = 4096;

/// Which session's card an answer shows, and with which face.
pub(crate) type Shown = (SessionId, CardFace);

/// An answer that went out.
#[derive(Debug)]
pub(crate) struct Sent {
    app_id: AppId,
    shown: Shown,
}

/// What is known of an answer after it went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Lark has it.
    Certain,
    /// It left, as far as this machine can tell.
    Doubtful,
}

/// Takes callbacks.
pub(crate) struct Intake {
    context: Context,
    sent: mpsc::Sender<Sent>,
}

impl Intake {
    /// The other end is for [`follow_up`].
    pub(crate) fn new(context: Context) -> (Arc<Self>, mpsc::Receiver<Sent>) {
        let (sent, receiver) = mpsc::channel(WAITING);
        (Arc::new(Self { context, sent }), receiver)
    }

    /// Takes one callback, already verified, and always has an answer before Lark gives up.
    pub(crate) async fn take(&self, app_id: &AppId, payload: &[u8], received_at: Instant) -> Answered {
        let taking = self.context.take_callback(app_id, payload, received_at);
        let answered = match timeout_at(received_at + ANSWER_DEADLINE, taking).await {
            Ok(answered) => answered,
            Err(_) => {
                tracing::error!("gateway.callback.late: the broker did not confirm in time");
                not_taken(payload)
            }
        };
        self.context.metrics().callback_answered(app_id.as_str(), answered.outcome, received_at.elapsed());
        answered
    }

    /// An answer went out to Lark: from now on its card may be touched. Does not wait.
    ///
    /// A final face that may not have arrived is not noted: the worker, which looks at the card after the answer, then
    /// brings it by message update.
    pub(crate) fn answer_went_out(&self, app_id: &AppId, shown: Shown, arrival: Arrival) {
        if arrival == Arrival::Doubtful && shown.1.is_final() {
            return;
        }
        if self.sent.try_send(Sent { app_id: app_id.clone(), shown }).is_err() {
            tracing::warn!(session_id = %shown.0, %app_id, "gateway.answer.follow_up: too many waiting, the card is mended later");
        }
    }
}

/// Has every answer that went out noted, until nobody is left who could send one.
pub(crate) async fn follow_up(context: Context, sent: mpsc::Receiver<Sent>) -> anyhow::Result<()> {
    let sent =
        stream::unfold(sent, |mut receiver| async { receiver.recv().await.map(|next| (next, receiver)) });
    sent
        .for_each_concurrent(FOLLOW_UPS, |Sent { app_id, shown }| {
            let context = &context;
            async move {
                let noted = timeout(FOLLOW_UP_DEADLINE, context.answer_sent(&app_id, shown)).await;
                let problem = match noted {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "not done in time".to_owned(),
                };
                tracing::warn!(session_id = %shown.0, %app_id, problem, "gateway.answer.follow_up: the card is mended later");
            }
        })
        .await;
    Ok(())
}
