//! Creating a session: the invitation limit and the row.

use std::time::Duration;

use larkauth_models::{OpenId, SessionId, UserId};
use sqlx::{Connection, SqliteConnection, query, query_as, query_scalar, types::Json};

use super::{BEGIN_WRITING, SqliteStore, columns::time};
use crate::{Created, InvitationLimit, NewSession, Result, sealed::SealedSession};

/// The invitation that has to leave the window before there is room for another. Each half has its index; with `or`
/// instead, none would be used.
pub(super) const IN_THE_WAY: &str = "select created_at from (
         select session_id, created_at from user_auth_sessions
         where app_id = ?1 and open_id = ?2 and created_at > ?4
         union
         select session_id, created_at from user_auth_sessions
         where app_id = ?1 and user_id = ?3 and created_at > ?4)
     order by created_at desc limit 1 offset ?5";

impl SqliteStore {
    pub(super) async fn create(&self, new: &NewSession, limit: InvitationLimit) -> Result<Created> {
        let sealed = SealedSession::new(&self.cipher, new)?;
        self.write("creating a session", async |db| {
            // Nobody else writes meanwhile: what is counted is still true when the row is inserted.
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            if let Some(retry_after) = over_limit(&mut tx, new, limit).await? {
                tx.rollback().await?;
                return Ok(Created::RateLimited { retry_after });
            }
            insert(&mut tx, new, &sealed).await?;
            tx.commit().await?;
            Ok(Created::Created)
        })
        .await
    }
}

/// How long the person has to wait, if they were invited too often.
async fn over_limit(
    db: &mut SqliteConnection,
    new: &NewSession,
    limit: InvitationLimit,
) -> sqlx::Result<Option<Duration>> {
    let Some(later_ones) = limit.max.checked_sub(1) else { return Ok(Some(limit.window)) };
    let since = limit.window_start(new.created_at);
    let in_the_way: Option<i64> = query_scalar(IN_THE_WAY)
        .bind(new.app_id.as_str())
        .bind(new.person.open_id.as_ref().map(OpenId::as_str))
        .bind(new.person.user_id.as_ref().map(UserId::as_str))
        .bind(since.timestamp_micros())
        .bind(later_ones)
        .fetch_optional(db)
        .await?;
    let Some(created_at) = in_the_way else { return Ok(None) };
    Ok(Some((time(created_at)? - since).to_std().unwrap_or_default()))
}

async fn insert(db: &mut SqliteConnection, new: &NewSession, sealed: &SealedSession) -> sqlx::Result<()> {
    let (message_id, card_face) = match new.takes_card_of {
        Some(previous) => take_card(db, new, previous).await?,
        None => (None, None),
    };
    query(
        "insert into user_auth_sessions (session_id, app_id, user_id, open_id, auth_method, scopes, card,
             oauth_state_sha256, oauth_state_sealed, pkce_verifier_sealed, message_id, card_face, created_at, expires_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )
    .bind(new.id.0.hyphenated())
    .bind(new.app_id.as_str())
    .bind(new.person.user_id.as_ref().map(UserId::as_str))
    .bind(new.person.open_id.as_ref().map(OpenId::as_str))
    .bind(new.auth_method.as_str())
    .bind(Json(&new.scopes))
    .bind(Json(&sealed.card))
    .bind(&sealed.state_sha256[..])
    .bind(&sealed.state)
    .bind(&sealed.pkce_verifier)
    .bind(message_id)
    .bind(card_face)
    .bind(new.created_at.timestamp_micros())
    .bind(new.expires_at.timestamp_micros())
    .execute(db)
    .await?;
    Ok(())
}

/// Takes message and face away from an ended session of the same application.
async fn take_card(
    db: &mut SqliteConnection,
    new: &NewSession,
    previous: SessionId,
) -> sqlx::Result<(Option<String>, Option<String>)> {
    let card: Option<(Option<String>, Option<String>)> = query_as(
        "select message_id, card_face from user_auth_sessions
         where session_id = ?1 and app_id = ?2 and state <> 'pending' and message_id is not null",
    )
    .bind(previous.0.hyphenated())
    .bind(new.app_id.as_str())
    .fetch_optional(&mut *db)
    .await?;
    let Some(card) = card else { return Ok((None, None)) };
    query("update user_auth_sessions set message_id = null, card_face = null where session_id = ?1")
        .bind(previous.0.hyphenated())
        .execute(db)
        .await?;
    Ok(card)
}
