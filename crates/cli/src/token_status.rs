//! `larkauth token status`: everything about a token but its secrets.

use larkauth_auth::{Context, TokenStanding};
use larkauth_models::{AppId, OpenId, Timestamp, TokenStatus};
use larkauth_storage::{SecretState, TokenState};
use serde::Serialize;

use crate::{
    globals::operator,
    no_token::no_token,
    output::{Format, or_dash, time},
};

/// A token for output, without its secrets.
#[derive(Serialize)]
struct StatusView {
    app_id: AppId,
    open_id: OpenId,
    status: TokenStatus,
    served: bool,
    generation: i64,
    access_expires_at: Timestamp,
    has_refresh_token: bool,
    refresh_expires_at: Option<Timestamp>,
    consent_ends_at: Timestamp,
    next_attempt_at: Option<Timestamp>,
    failures: u32,
    lease_until: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    issued_at: Timestamp,
    granted_at: Timestamp,
    revoked_at: Option<Timestamp>,
    scopes: Vec<String>,
    breaker: Option<String>,
    access_token_key: Option<String>,
    refresh_token_key: Option<String>,
    unreadable: Vec<String>,
}

impl From<TokenStanding> for StatusView {
    fn from(standing: TokenStanding) -> Self {
        let TokenStanding { token, consent_ends_at, is_served, frozen_reason } = standing;
        let TokenState { access_token, refresh_token, .. } = &token;
        let key = |secret: &Option<SecretState>| secret.as_ref().and_then(|secret| secret.key_id.clone());
        let reasons = [access_token, refresh_token].into_iter().flatten().filter_map(|secret| {
            let why = secret.unreadable.as_ref()?;
            Some(format!("{}: {}", why.column.trim_end_matches("_sealed"), why.reason))
        });
        Self {
            unreadable: reasons.collect(),
            access_token_key: key(access_token),
            refresh_token_key: key(refresh_token),
            has_refresh_token: refresh_token.is_some(),
            breaker: frozen_reason,
            served: is_served,
            consent_ends_at,
            app_id: token.app_id,
            open_id: token.open_id,
            status: token.status,
            generation: token.generation,
            access_expires_at: token.access_expires_at,
            refresh_expires_at: token.refresh_expires_at,
            next_attempt_at: token.next_attempt_at,
            failures: token.failures,
            lease_until: token.lease_until,
            last_used_at: token.last_used_at,
            issued_at: token.issued_at,
            granted_at: token.granted_at,
            revoked_at: token.revoked_at,
            scopes: token.scopes,
        }
    }
}

/// Shows the token of a person.
pub(crate) async fn show(
    context: &Context,
    app_id: &AppId,
    open_id: &OpenId,
    format: Format,
) -> anyhow::Result<()> {
    let now = context.now();
    let standing = context.token_standing(&operator(), now, app_id, open_id).await?;
    let Some(standing) = standing else { return Err(no_token(context, app_id, open_id).await) };
    let view = StatusView::from(standing);
    let ends = |at: Timestamp| if at <= now { format!("{} (past)", time(at)) } else { time(at) };
    let refresh_ends = match (view.has_refresh_token, view.refresh_expires_at) {
        (true, at) => or_dash(at.map(ends)),
        (false, _) => "there is no refresh token".to_owned(),
    };
    let lease = match view.lease_until {
        Some(at) if at <= now => format!("ended by its time at {}", time(at)),
        lease => or_dash(lease.map(time)),
    };
    let fields = [
        ("app_id", view.app_id.to_string()),
        ("open_id", view.open_id.to_string()),
        ("status", view.status.to_string()),
        ("served", if view.served { "yes" } else { "no" }.to_owned()),
        ("generation", view.generation.to_string()),
        ("access_expires", ends(view.access_expires_at)),
        ("refresh_expires", refresh_ends),
        ("consent_ends", ends(view.consent_ends_at)),
        ("next_attempt", or_dash(view.next_attempt_at.map(time))),
        ("failures", view.failures.to_string()),
        ("lease", lease),
        ("last_used", or_dash(view.last_used_at.map(time))),
        ("scopes", view.scopes.join(" ")),
        ("issued", time(view.issued_at)),
        ("granted", time(view.granted_at)),
        ("revoked", or_dash(view.revoked_at.map(time))),
        ("breaker", or_dash(view.breaker.as_ref())),
        ("keys", [&view.access_token_key, &view.refresh_token_key].map(or_dash_ref).join(" ")),
        ("unreadable", if view.unreadable.is_empty() { "-".to_owned() } else { view.unreadable.join("; ") }),
    ];
    format.one(&view, &fields)
}

fn or_dash_ref(value: &Option<String>) -> String {
    or_dash(value.as_ref())
}
