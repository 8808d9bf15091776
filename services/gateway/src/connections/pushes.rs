use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_lark::long_connection::{Answer, Push, PushHandler, PushKind, PushMeta};
use larkauth_models::AppId;
use moka::future::Cache;
use tokio::time::Instant;
use tracing::Instrument;

use crate::callbacks::{Arrival, Callbacks, Shown};

/// Handles one application's pushes.
pub(crate) struct Pushes {
    app_id: AppId,
    callbacks: Arc<Callbacks>,
    /// What the answers show that are not known to be sent yet.
    shown: Cache<PushKey, Shown>,
}

/// Message ids can repeat or be missing; with the time of arrival they are one push's own.
type PushKey = (String, String, Instant);

fn key(push: &PushMeta) -> PushKey {
    (push.message_id.clone(), push.trace_id.clone(), push.received_at)
}

impl Pushes {
    pub(crate) fn new(app_id: AppId, callbacks: Arc<Callbacks>) -> Self {
        // An answer is sent, or fails, within seconds.
        let shown = Cache::builder().max_capacity(4096).time_to_live(Duration::from_secs(60)).build();
        Self { app_id, callbacks, shown }
    }
}

#[async_trait]
impl PushHandler for Pushes {
    async fn handle(&self, push: Push) -> Answer {
        let kind = match push.kind {
            PushKind::Event => "event",
            PushKind::Card => "card",
        };
        // A trace of its own: the connection, whose span this would be in, never ends.
        let span = tracing::info_span!(
            parent: None,
            "gateway.push.handle",
            app_id = %self.app_id,
            session_id = tracing::field::Empty,
            kind,
            message_id = push.message_id,
            lark_trace_id = push.trace_id,
        );
        async {
            let answered = self.callbacks.handle(&self.app_id, &push.payload, push.received_at).await;
            if let Some(shown) = answered.shows {
                self.shown.insert(key(&push.meta()), shown).await;
            }
            answered.answer.map_or(Answer::Failed, |answer| Answer::Ok(Some(answer)))
        }
        .instrument(span)
        .await
    }

    async fn answered(&self, push: &PushMeta, arrived: bool) {
        if let Some(shown) = self.shown.remove(&key(push)).await {
            let arrival = if arrived { Arrival::Confirmed } else { Arrival::Unconfirmed };
            self.callbacks.answer_sent(&self.app_id, shown, arrival);
        }
    }
}
