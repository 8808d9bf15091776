//! `/v1/auth/sessions`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use larkauth_auth::{
    AuthError,
    sessions::{IdempotencyKey, Invite},
};
use larkauth_contracts::rest::{CreateSession, ListSessions, SessionPage, SessionView, WaitQuery};
use larkauth_models::{Actor, AuthMethod, AuthSession, Person, SessionId};
use larkauth_storage::{SessionCursor, SessionFilter};

use super::{
    cursor::{read_cursor, write_cursor},
    require_scope::{RequireScope, SessionsRead, SessionsWrite},
};
use crate::{
    extract::{JsonBody, PathOf, QueryOf, issued},
    problem::{ApiError, CreateProblems, ReadProblems},
    state::AppState,
};

/// Longest `wait`, in seconds. Proxies give up after 60.
pub(crate) const MAX_WAIT: u16 = 50;
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;

/// Ask a person for consent
///
/// Creates a session and has a card sent to the person (for `auth_method` `oauth`: answers the consent page's address
/// instead). Needs the scope `sessions:write`.
///
/// With an `Idempotency-Key`, the same request again, after a lost answer for example, returns the session of the first one
/// and sends no second card.
#[utoipa::path(
    post, path = "/v1/auth/sessions", operation_id = "create_session", tag = "sessions", security(("api_key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, new for each new request; each API key has its own")),
    request_body = CreateSession,
    responses(
        (status = 201, description = "The session; its card is on the way", body = SessionView,
         headers(("Location" = String, description = "Where to look how it goes"))),
        CreateProblems,
    ),
)]
pub(super) async fn create(
    caller: RequireScope<SessionsWrite>,
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<CreateSession>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<SessionView>), ApiError> {
    tracing::Span::current().record("app_id", tracing::field::display(&request.app_id));
    // Two ids may belong to two persons, which is not known here.
    if request.open_id.is_some() == request.user_id.is_some() {
        return Err(ApiError::invalid("open_id, user_id: give one of the two, and not both"));
    }
    let context = &state.context;
    let invite = Invite {
        app_id: request.app_id,
        person: Person { open_id: request.open_id.map(issued).transpose()?, user_id: request.user_id },
        auth_method: request.auth_method.unwrap_or(AuthMethod::WebsocketCard),
        scopes: request.scopes,
        card: request.card.unwrap_or_default().or(&context.policy().card),
    };
    let session = match idempotency_key(&headers)? {
        Some(key) => context.invite_once(&caller.actor, context.now(), &key, invite).await?,
        None => context.invite(&caller.actor, context.now(), invite).await?,
    };
    tracing::Span::current().record("session_id", tracing::field::display(session.id));
    let location = format!("/v1/auth/sessions/{}", session.id);
    let view = with_consent_page(&state, &caller.actor, session).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view)))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, AuthError> {
    // Bytes that are no text fail the check of the key.
    let mut given = headers.get_all("idempotency-key").iter().map(|value| value.to_str().unwrap_or(""));
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => key.trim().parse().map(Some),
        (Some(_), Some(_)) => Err(AuthError::Invalid("Idempotency-Key: give it once".to_owned())),
    }
}

/// Look at a session, or wait for its end
///
/// With `wait`, answers as soon as the session has ended, or after so many seconds with the session as it is then.
/// Needs the scope `sessions:read`.
#[utoipa::path(
    get, path = "/v1/auth/sessions/{session_id}", operation_id = "get_session", tag = "sessions", security(("api_key" = [])),
    params(("session_id" = uuid::Uuid, Path, description = "The session"), WaitQuery),
    responses((status = 200, description = "The session", body = SessionView), ReadProblems),
)]
pub(super) async fn get(
    caller: RequireScope<SessionsRead>,
    State(state): State<Arc<AppState>>,
    PathOf(session_id): PathOf<String>,
    QueryOf(WaitQuery { wait }): QueryOf<WaitQuery>,
) -> Result<Json<SessionView>, ApiError> {
    let session_id: SessionId = session_id.parse()?;
    tracing::Span::current().record("session_id", tracing::field::display(session_id));
    if wait > MAX_WAIT {
        return Err(ApiError::invalid(format!("wait: at most {MAX_WAIT} (seconds)")));
    }
    let session = if wait == 0 {
        state.context.session(&caller.actor, state.context.now(), session_id).await?
    } else {
        follow(&state, &caller.actor, session_id, Duration::from_secs(wait.into())).await?
    };
    Ok(Json(with_consent_page(&state, &caller.actor, session).await?))
}

/// Waits for the session's end; less long when the process is asked to stop.
async fn follow(
    state: &AppState,
    actor: &Actor,
    id: SessionId,
    at_most: Duration,
) -> Result<AuthSession, ApiError> {
    let Ok(_permit) = state.long_polls.try_acquire() else {
        return Err(ApiError::unavailable(
            "Too many requests are waiting; try again later, or without `wait`",
        ));
    };
    let context = &state.context;
    let waiting = context.wait_for_end(actor, context.now(), id, at_most);
    match state.stopping.run_until_cancelled(waiting).await {
        Some(session) => Ok(session?),
        None => Ok(context.session(actor, context.now(), id).await?),
    }
}

/// List sessions
///
/// Newest first. Needs the scope `sessions:read`.
#[utoipa::path(
    get, path = "/v1/auth/sessions", operation_id = "list_sessions", tag = "sessions", security(("api_key" = [])),
    params(ListSessions),
    responses((status = 200, description = "One page", body = SessionPage), ReadProblems),
)]
pub(super) async fn list(
    caller: RequireScope<SessionsRead>,
    State(state): State<Arc<AppState>>,
    QueryOf(query): QueryOf<ListSessions>,
) -> Result<Json<SessionPage>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::invalid(format!("limit: 1 to {MAX_PAGE}")));
    }
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let after = after.map(|(created_at, id)| SessionCursor { created_at, id: SessionId(id) });
    let filter = SessionFilter {
        app_id: query.app_id,
        app_ids: Vec::new(),
        open_id: query.open_id.map(issued).transpose()?,
        state: query.state,
    };
    // One more than asked for shows whether there is another page.
    let context = &state.context;
    let mut sessions = context.list_sessions(&caller.actor, context.now(), &filter, after, limit + 1).await?;
    let has_more = sessions.len() > limit as usize;
    sessions.truncate(limit as usize);
    let next_cursor =
        sessions.last().filter(|_| has_more).map(|last| write_cursor(last.created_at, last.id.0));
    Ok(Json(SessionPage { items: sessions.into_iter().map(SessionView::from).collect(), next_cursor }))
}

/// Shows a session, with its consent page when it has no card and its caller shows the page.
async fn with_consent_page(
    state: &AppState,
    actor: &Actor,
    session: AuthSession,
) -> Result<SessionView, AuthError> {
    let page = state.context.consent_page(actor, state.context.now(), &session).await?;
    Ok(SessionView { authorize_url: page.map(String::from), ..SessionView::from(session) })
}
