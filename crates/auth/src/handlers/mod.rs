//! The worker's side of each message: decode, call one operation, map the result.
//!
//! The policy, for all of them: a body that is not the expected message is a dead letter at once; a store, bus or Lark
//! that is down means a retry with backoff; a session that has ended means done. Nothing is dropped, nothing loops hot.
//! Every handler is idempotent: effects are conditional transitions in the store, and handled events are remembered.

mod card_action;
mod card_face;
mod dead_letter;
mod decode;
mod error;
mod escrow;
mod invitation;
mod oauth_redirect;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use larkauth_contracts::topology::Queue;
use larkauth_messaging::{Consume, Delivery, Disposition, Handler};
use tracing::{Instrument, field::Empty};

use crate::context::Context;

/// Returns every queue that this project consumes, with its handler.
#[must_use]
pub fn consumers(context: &Context, concurrency: u16) -> Vec<(Consume, Arc<dyn Handler>)> {
    let handler = |queue| -> Arc<dyn Handler> {
        let context = context.clone();
        match queue {
            Queue::Invitations => Arc::new(invitation::InvitationHandler(context)),
            Queue::CardActions => Arc::new(card_action::CardActionHandler(context)),
            Queue::OauthRedirects => Arc::new(oauth_redirect::OauthRedirectHandler(context)),
            Queue::CardFaces => Arc::new(card_face::CardFaceHandler(context)),
            Queue::Escrows => Arc::new(escrow::EscrowHandler(context)),
            Queue::DeadLetterNotices => Arc::new(dead_letter::DeadLetterHandler(context)),
        }
    };
    let handler_deadline = context.policy().handler_deadline;
    Queue::ALL
        .iter()
        .map(|queue| {
            let consume = Consume { queue: *queue, concurrency, handler_deadline };
            let handler: Arc<dyn Handler> = Arc::new(Spanned { queue: *queue, handler: handler(*queue) });
            (consume, handler)
        })
        .collect()
}

/// Handles each delivery in a span of its own, which holds the identifiers for every log line.
struct Spanned {
    queue: Queue,
    handler: Arc<dyn Handler>,
}

#[async_trait]
impl Handler for Spanned {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        let span = tracing::info_span!(
            "auth.handle",
            otel.name = %format_args!("auth.{}.handle", self.queue),
            app_id = Empty,
            session_id = Empty,
        );
        self.handler.handle(delivery).instrument(span).await
    }
}
