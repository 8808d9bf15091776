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

use crate::intake::{Arrival, Intake, Shown};

/// Tells the intake as soon as the server has taken the whole body to send it. HTTP tells nobody whether it arrived.
pub(super) fn sent(response: Response, intake: Arc<Intake>, app_id: AppId, shown: Shown) -> Response {
    response.map(|body| Body::new(Watched { body, intake, app_id, shown }))
}

struct Watched {
    body: Body,
    intake: Arc<Intake>,
    app_id: AppId,
    shown: Shown,
}

impl HttpBody for Watched {
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

impl Drop for Watched {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.intake.answer_went_out(&self.app_id, self.shown, Arrival::Doubtful);
        }
    }
}
