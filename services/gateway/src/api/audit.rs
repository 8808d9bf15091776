//! `/v1/audit`.

use std::sync::Arc;

use axum::{Json, extract::State};
use larkauth_auth::audit_view;
use larkauth_contracts::rest::{AuditPage, AuditQuery};
use larkauth_storage::{AuditCursor, AuditFilter};

use super::{
    cursor::{read_cursor, write_cursor},
    require_scope::{AuditRead, RequireScope},
};
use crate::{
    extract::QueryOf,
    problem::{ApiError, AuditProblems},
    state::AppState,
};

const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;

/// List audit records
///
/// Newest first. A key that is restricted to applications sees the records about these. Records of reads arrive about a
/// second after the read. Needs the scope `audit:read`.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "list_audit", tag = "audit", security(("api_key" = [])),
    params(AuditQuery),
    responses((status = 200, description = "One page", body = AuditPage), AuditProblems),
)]
pub(super) async fn list(
    caller: RequireScope<AuditRead>,
    State(state): State<Arc<AppState>>,
    QueryOf(query): QueryOf<AuditQuery>,
) -> Result<Json<AuditPage>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::invalid(format!("limit: 1 to {MAX_PAGE}")));
    }
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let filter = AuditFilter {
        app_id: query.app_id,
        app_ids: Vec::new(),
        person: query.person,
        actor: query.actor,
        action: query.action,
        since: query.since,
        until: query.until,
    };
    // One more than asked for shows whether there is another page.
    let context = &state.context;
    let after = after.map(|(at, id)| AuditCursor { at, id });
    let mut records = context.audit_records(&caller.actor, context.now(), &filter, after, limit + 1).await?;
    let has_more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let next_cursor = records.last().filter(|_| has_more).map(|last| write_cursor(last.at, last.id));
    Ok(Json(AuditPage { items: records.into_iter().map(audit_view).collect(), next_cursor }))
}
