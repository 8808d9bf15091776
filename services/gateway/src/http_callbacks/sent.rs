use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use http_body::{Frame, SizeHint};
use larkauth_models::AppId;

use crate::callbacks::{Arrival, Callbacks, Shown};

/// Notifies `callbacks` once the server has taken the whole body to send it. HTTP does not say whether it arrived.
pub(super) fn notify_when_sent(
    response: Response,
    callbacks: Arc<Callbacks>,
    app_id: AppId,
    shown: Shown,
) -> Response {
    response.map(|body| Body::new(NotifyWhenSent { body, callbacks, app_id, shown }))
}

struct NotifyWhenSent {
    body: Body,
    callbacks: Arc<Callbacks>,
    app_id: AppId,
    shown: Shown,
}

impl HttpBody for NotifyWhenSent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for NotifyWhenSent {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.callbacks.answer_sent(&self.app_id, self.shown, Arrival::Unconfirmed);
        }
    }
}
