//! Creating a session: the invitation limit and the row.

use std::time::Duration;

use larkauth_models::{OpenId, SessionId, UserId};
use sqlx::{Connection, PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use larkauth_storage::{
    Created, InvitationLimit, InvitationPause, NewSession, Result,
    backend::{
        admission::{PAST, PastRow, admission},
        sealed::SealedSession,
    },
};

use crate::{audit::record, store::PgStore};

impl PgStore {
    /// Creates a session. With a pause, only if the person has no open card and is not to be left in peace.
    pub(crate) async fn create(
        &self,
        new: &NewSession,
        limit: InvitationLimit,
        pause: Option<InvitationPause>,
    ) -> Result<Created> {
        let sealed = SealedSession::new(&self.cipher, new)?;
        self.call("creating a session", async |db| {
            let mut tx = db.begin().await?;
            lock_person(&mut tx, new).await?;
            if let Some(pause) = pause
                && let Some(outcome) = admission(&past(&mut tx, new).await?, new, pause)
            {
                tx.rollback().await?;
                return Ok(outcome);
            }
            if let Some(retry_after) = over_limit(&mut tx, new, limit).await? {
                tx.rollback().await?;
                return Ok(Created::RateLimited { retry_after });
            }
            insert(&mut tx, new, &sealed).await?;
            record(&mut tx, &new.audit).await?;
            tx.commit().await?;
            Ok(Created::Created)
        })
        .await
    }
}

/// Excludes other invitations of the person. The locks are held until the transaction ends, so that what is read about the
/// person is still valid when the row is inserted. Every call takes them in this order, so that calls cannot deadlock.
async fn lock_person(db: &mut PgConnection, new: &NewSession) -> sqlx::Result<()> {
    let open_id = new.person.open_id.as_ref().map(OpenId::as_str);
    let user_id = new.person.user_id.as_ref().map(UserId::as_str);
    for (kind, id) in [("open_id", open_id), ("user_id", user_id)] {
        if let Some(id) = id {
            let person = format!("invitation/{}/{kind}/{id}", new.app_id);
            query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", person).execute(&mut *db).await?;
        }
    }
    Ok(())
}

/// Returns the newest sessions of the person.
async fn past(db: &mut PgConnection, new: &NewSession) -> sqlx::Result<Vec<PastRow>> {
    query_as!(
        PastRow,
        "select session_id, auth_method, state, failure_reason, scopes, expires_at, ended_at from user_auth_sessions
         where app_id = $1 and (open_id = $2 or user_id = $3)
         order by created_at desc, session_id desc limit $4",
        new.app_id.as_str(),
        new.person.open_id.as_ref().map(OpenId::as_str),
        new.person.user_id.as_ref().map(UserId::as_str),
        i64::from(PAST)
    )
    .fetch_all(db)
    .await
}

/// Returns how long the person has to wait, or `None` when the limit is not reached.
async fn over_limit(
    db: &mut PgConnection,
    new: &NewSession,
    limit: InvitationLimit,
) -> sqlx::Result<Option<Duration>> {
    let Some(later_ones) = limit.max.checked_sub(1) else { return Ok(Some(limit.window)) };
    let open_id = new.person.open_id.as_ref().map(OpenId::as_str);
    let user_id = new.person.user_id.as_ref().map(UserId::as_str);
    let since = limit.window_start(new.created_at);
    // The invitation that has to leave the window before another one is allowed.
    let blocking = query_scalar!(
        "select created_at from user_auth_sessions
         where app_id = $1 and (open_id = $2 or user_id = $3) and created_at > $4
         order by created_at desc offset $5 limit 1",
        new.app_id.as_str(),
        open_id,
        user_id,
        since,
        i64::from(later_ones)
    )
    .fetch_optional(db)
    .await?;
    Ok(blocking.map(|created_at| (created_at - since).to_std().unwrap_or_default()))
}

async fn insert(db: &mut PgConnection, new: &NewSession, sealed: &SealedSession) -> sqlx::Result<()> {
    let (message_id, card_face) = match new.takes_card_of {
        Some(SessionId(previous)) => take_card(db, new, previous).await?,
        None => (None, None),
    };
    query!(
        "insert into user_auth_sessions (session_id, app_id, user_id, open_id, asked_user_id, asked_open_id, auth_method, scopes, card,
             oauth_state_sha256, oauth_state_sealed, pkce_verifier_sealed, message_id, card_face, created_at, expires_at)
         values ($1, $2, $3, $4, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        new.id.0,
        new.app_id.as_str(),
        new.person.user_id.as_ref().map(UserId::as_str),
        new.person.open_id.as_ref().map(OpenId::as_str),
        new.auth_method.as_str(),
        &new.scopes,
        sealed.card,
        &sealed.state_sha256[..],
        sealed.state,
        sealed.pkce_verifier,
        message_id,
        card_face,
        new.created_at,
        new.expires_at
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes message id and face from an ended session of the same application and returns them.
async fn take_card(
    db: &mut PgConnection,
    new: &NewSession,
    previous: Uuid,
) -> sqlx::Result<(Option<String>, Option<String>)> {
    let card = query!(
        "with previous as (
             select session_id, message_id, card_face from user_auth_sessions
             where session_id = $1 and app_id = $2 and state <> 'pending' and message_id is not null
             for update)
         update user_auth_sessions set message_id = null, card_face = null
         from previous where user_auth_sessions.session_id = previous.session_id
         returning previous.message_id, previous.card_face",
        previous,
        new.app_id.as_str()
    )
    .fetch_optional(db)
    .await?;
    Ok(card.map_or((None, None), |card| (card.message_id, card.card_face)))
}
