//! Most reads of tokens, answered before the router, whose layers cost several times as much as such a read
//! (docs/decisions/0038).
//!
//! A read is answered here when it has neither query nor body and its key is in memory. A token that has to be refreshed first, and
//! everything unusual, is left to the router; so is a request with a trace of its own (`traceparent`). The answer is the same: the operation, the count of the key's requests, the record in
//! the audit log, the metrics, and the form of a refusal are shared.

use std::{borrow::Cow, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use axum::{
    http::{
        HeaderMap, HeaderName, Method, Uri,
        header::{CONTENT_LENGTH, TRANSFER_ENCODING},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use larkauth_models::{AppId, KeyScope, OpenId};
use larkauth_runtime::Shortcut;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::Level;

use crate::{
    api::{
        require_scope::{Counted, actor, bearer, too_many},
        tokens::{answer, refused},
    },
    limits::Limits,
    middleware::{Observed, Observer, RequestId, refusal_of_head, request_id},
    problem::ApiError,
    state::AppState,
};

/// The pattern of the path.
const ROUTE: &str = "/v1/apps/{app_id}/users/{open_id}/token";

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The reads of one listener.
pub(crate) struct TokenReads {
    state: Arc<AppState>,
    observer: Observer,
    limits: Limits,
    /// Reads at once; more are left to the router, which has a place for as many or refuses them.
    permits: Semaphore,
}

impl TokenReads {
    pub(crate) fn new(state: Arc<AppState>, observer: Observer, limits: Limits) -> Self {
        Self { state, observer, limits, permits: Semaphore::new(limits.in_flight) }
    }

    async fn read(&self, head: &mut Parts) -> Option<Response> {
        let started = Instant::now();
        let (app_id, open_id) = person(&head.uri)?;
        let (app_id, open_id): (AppId, OpenId) = (app_id.parse().ok()?, open_id.parse().ok()?);
        let key = bearer(&head.headers).and_then(|secret| self.state.api_keys.kept(secret))?;
        if !KeyScope::TokensRead.is_among(&key.scopes) {
            return None;
        }
        let _permit = self.permits.try_acquire().ok()?;
        let request_id = request_id(&head.headers, &self.state.context);
        head.extensions.insert(RequestId(request_id.clone()));
        let observed = Observed { started, request_id, route: Cow::Borrowed(ROUTE), method: Method::GET };
        if let Err(wait) = self.state.api_keys.count(&key).await {
            return Some(self.refuse(&observed, &head.headers, &app_id, too_many(wait)));
        }
        head.extensions.insert(Counted);
        let (context, actor) = (&self.state.context, actor(&key, head, &self.state));
        let reading = context.token_at_hand(&actor, context.now(), &app_id, &open_id);
        let reading = AssertUnwindSafe(timeout(self.limits.timeout, reading)).catch_unwind();
        let answered = match reading.await {
            Ok(Ok(Ok(token))) => answer(&*token?, &head.headers),
            Ok(Ok(Err(error))) => Err(refused(error)),
            Ok(Err(_)) => Err(self.limits.late()),
            Err(_) => Err(ApiError::panicked()),
        };
        match answered {
            Ok(response) => Some(self.observer.complete(&observed, response)),
            Err(error) => Some(self.refuse(&observed, &head.headers, &app_id, error)),
        }
    }

    /// Completes a refusal in the span that its log line needs.
    fn refuse(&self, observed: &Observed, headers: &HeaderMap, app_id: &AppId, error: ApiError) -> Response {
        let span = observed.span(headers);
        span.record("app_id", tracing::field::display(app_id));
        span.in_scope(|| self.observer.complete(observed, error.into_response()))
    }
}

impl Shortcut for TokenReads {
    fn takes(&self, head: &Parts) -> bool {
        // A body, or a trace whose span the log lines of this request belong to.
        let has_more = [CONTENT_LENGTH, TRANSFER_ENCODING, TRACEPARENT]
            .iter()
            .any(|name| head.headers.contains_key(name));
        head.method == Method::GET
            && !has_more
            && person(&head.uri).is_some_and(|(_, open_id)| open_id.starts_with("ou_"))
            && refusal_of_head(&head.uri, &head.headers).is_none()
            // Each line of a request has the fields of its span.
            && !tracing::enabled!(Level::DEBUG)
    }

    fn answer<'a>(
        &'a self,
        head: &'a mut Parts,
    ) -> Pin<Box<dyn Future<Output = Option<Response>> + Send + 'a>> {
        Box::pin(self.read(head))
    }
}

/// Returns application and person of the path, which has no query and needs no decoding.
fn person(uri: &Uri) -> Option<(&str, &str)> {
    if uri.query().is_some() {
        return None;
    }
    let (app_id, open_id) =
        uri.path().strip_prefix("/v1/apps/")?.strip_suffix("/token")?.split_once("/users/")?;
    let is_plain = |part: &str| !part.is_empty() && !part.contains(['/', '%']);
    (is_plain(app_id) && is_plain(open_id)).then_some((app_id, open_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn person_of_plain_path_only() {
        let of = |uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            person(&uri).map(|(app_id, open_id)| format!("{app_id} {open_id}"))
        };
        assert_eq!(of("/v1/apps/cli_1/users/ou_1/token").as_deref(), Some("cli_1 ou_1"));
        for other in [
            "/v1/apps/cli_1/users/ou_1/token?min_validity=60",
            "/v1/apps/cli_1/users/ou_1/token?",
            "/v1/apps/cli_1/users/ou_1/token/refresh",
            "/v1/apps/cli_1/users/ou%5F1/token",
            "/v1/apps/cli_1/users/a/b/token",
            "/v1/apps//users/ou_1/token",
            "/v1/apps/cli_1/users//token",
            "/v1/apps/cli_1/users/ou_1",
            "//v1/apps/cli_1/users/ou_1/token",
            "/v1/apps/users/token",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
