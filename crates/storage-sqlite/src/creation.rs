//! Creating a session: the invitation limit and the row.

use std::time::Duration;

use larkauth_models::{OpenId, SessionId, Timestamp, UserId};
use larkauth_sqlite::BEGIN_WRITING;
use sqlx::{Connection, SqliteConnection, query, query_as, query_scalar, types::Json};

use larkauth_storage::{
    Created, InvitationLimit, InvitationPause, NewSession, Result,
    backend::{
        admission::{PAST, PastRow, admission},
        sealed::SealedSession,
    },
};

use crate::{
    audit::record,
    columns::{Id, Micros, OptionalMicros, Texts},
    store::SqliteStore,
};

impl SqliteStore {
    /// Creates a session. With a pause, only if the person has no open card and is not to be left in peace.
    pub(crate) async fn create(
        &self,
        new: &NewSession,
        limit: InvitationLimit,
        pause: Option<InvitationPause>,
    ) -> Result<Created> {
        let sealed = SealedSession::new(&self.cipher, new)?;
        self.write("creating a session", async |db| {
            // The transaction excludes other writers, so the count is still valid when the row is inserted.
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
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

/// Returns the newest sessions of the person.
async fn past(db: &mut SqliteConnection, new: &NewSession) -> sqlx::Result<Vec<PastRow>> {
    query_as!(
        PastRow,
        r#"select session_id as "session_id!: Id", auth_method as "auth_method!", state as "state!", failure_reason,
                  scopes as "scopes!: Texts", expires_at as "expires_at!: Micros",
                  ended_at as "ended_at!: OptionalMicros"
           from (
               select * from user_auth_sessions where app_id = ?1 and open_id = ?2
               union
               select * from user_auth_sessions where app_id = ?1 and user_id = ?3)
           order by created_at desc, session_id desc limit ?4"#,
        new.app_id.as_str(),
        new.person.open_id.as_ref().map(OpenId::as_str),
        new.person.user_id.as_ref().map(UserId::as_str),
        PAST
    )
    .fetch_all(db)
    .await
}

/// Returns how long the person has to wait, or `None` when the limit is not reached.
async fn over_limit(
    db: &mut SqliteConnection,
    new: &NewSession,
    limit: InvitationLimit,
) -> sqlx::Result<Option<Duration>> {
    let Some(later_ones) = limit.max.checked_sub(1) else { return Ok(Some(limit.window)) };
    let since = limit.window_start(new.created_at);
    // The invitation that has to leave the window before another one is allowed. Each half of the union uses its index;
    // SQLite would use none of them for a condition with `or`.
    let blocking = query_scalar!(
        r#"select created_at as "created_at!: Micros" from (
         select session_id, created_at from user_auth_sessions
         where app_id = ?1 and open_id = ?2 and created_at > ?4
         union
         select session_id, created_at from user_auth_sessions
         where app_id = ?1 and user_id = ?3 and created_at > ?4)
     order by created_at desc limit 1 offset ?5"#,
        new.app_id.as_str(),
        new.person.open_id.as_ref().map(OpenId::as_str),
        new.person.user_id.as_ref().map(UserId::as_str),
        since.timestamp_micros(),
        later_ones
    )
    .fetch_optional(db)
    .await?;
    Ok(blocking.map(|created_at| (Timestamp::from(created_at) - since).to_std().unwrap_or_default()))
}

async fn insert(db: &mut SqliteConnection, new: &NewSession, sealed: &SealedSession) -> sqlx::Result<()> {
    let (message_id, card_face) = match new.takes_card_of {
        Some(previous) => take_card(db, new, previous).await?,
        None => (None, None),
    };
    query!("insert into user_auth_sessions (session_id, app_id, user_id, open_id, asked_user_id, asked_open_id, auth_method, scopes, card,
             oauth_state_sha256, oauth_state_sealed, pkce_verifier_sealed, message_id, card_face, created_at, expires_at)
         values (?1, ?2, ?3, ?4, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)", new.id.0.hyphenated(), new.app_id.as_str(), new.person.user_id.as_ref().map(UserId::as_str), new.person.open_id.as_ref().map(OpenId::as_str), new.auth_method.as_str(), Json(&new.scopes), Json(&sealed.card), &sealed.state_sha256[..], &sealed.state, &sealed.pkce_verifier, message_id, card_face, new.created_at.timestamp_micros(), new.expires_at.timestamp_micros())
    .execute(db)
    .await?;
    Ok(())
}

/// Removes message id and face from an ended session of the same application and returns them.
async fn take_card(
    db: &mut SqliteConnection,
    new: &NewSession,
    previous: SessionId,
) -> sqlx::Result<(Option<String>, Option<String>)> {
    let card = query!(
        "select message_id, card_face from user_auth_sessions
         where session_id = ?1 and app_id = ?2 and state <> 'pending' and message_id is not null",
        previous.0.hyphenated(),
        new.app_id.as_str()
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(card) = card else { return Ok((None, None)) };
    query!(
        "update user_auth_sessions set message_id = null, card_face = null where session_id = ?1",
        previous.0.hyphenated()
    )
    .execute(db)
    .await?;
    Ok((card.message_id, card.card_face))
}
