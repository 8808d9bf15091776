use std::time::Duration;

use larkauth_contracts::message::InvitationRequested;
use larkauth_models::{
    Actor, AppId, Application, AuditAction, AuthMethod, AuthSession, CardOptions, ConsentSecrets,
    FailureReason, Person, SessionId, SessionState, Timestamp, TokenApi,
};
use larkauth_storage::{AuditEntry, Created, InvitationLimit, InvitationPause, NewSession, SessionEnding};

use super::{
    idempotency::IdempotencyKey,
    validate::{check_card, check_scopes},
};
use crate::{apps::App, cards, context::Context, error::AuthError, event_id::event_id};

/// An invitation, as a caller asks for it.
#[derive(Clone, Debug)]
pub struct Invite {
    /// The application that invites.
    pub app_id: AppId,
    /// The person who is invited.
    pub person: Person,
    /// How the person is invited.
    pub auth_method: AuthMethod,
    /// The scopes to ask for; the application's default when absent.
    pub scopes: Option<Vec<String>>,
    /// How the card looks.
    pub card: CardOptions,
}

impl Context {
    /// Creates a session and requests its card.
    ///
    /// # Errors
    /// When the input breaks a rule, the application may not invite, the person was invited too often, or the store or
    /// the bus is down. No card is sent then.
    pub async fn invite(
        &self,
        actor: &Actor,
        now: Timestamp,
        invite: Invite,
    ) -> Result<AuthSession, AuthError> {
        let session_id = SessionId(self.new_uuid());
        let act = self.invitation_act(actor, now, session_id, &invite);
        let stored = async {
            let new = self.prepare(actor, now, session_id, invite, &act).await?;
            self.create_session(&new).await?;
            Ok::<_, AuthError>(new)
        };
        let stored = stored.await;
        let new = self.settle_change(act, stored, |_| true)?;
        self.request_first_card(actor, &new).await?;
        self.existing_session(new.id).await
    }

    /// Invites as [`Context::invite`] does, once for each key of this caller: the same call again returns the session of the
    /// first one, and requests its card where that failed.
    ///
    /// # Errors
    /// As [`Context::invite`]. [`AuthError::IdempotencyKeyReused`] when the session of the key has another content.
    pub async fn invite_once(
        &self,
        actor: &Actor,
        now: Timestamp,
        key: &IdempotencyKey,
        invite: Invite,
    ) -> Result<AuthSession, AuthError> {
        // The key names the session, so that the primary key of the table decides between two calls.
        let session_id = key.session_id(actor);
        let act = self.invitation_act(actor, now, session_id, &invite);
        let new = match self.prepare(actor, now, session_id, invite, &act).await {
            Ok(new) => new,
            Err(error) => return self.settle_change(act, Err(error), |_: &AuthSession| true),
        };
        if self.store.session(session_id).await?.is_none() {
            // Another call with the same key may create it at the same moment.
            match self.create_session(&new).await {
                Ok(()) => self.note_done(&act),
                Err(error) if self.store.session(session_id).await?.is_none() => {
                    return self.settle_change(act, Err(error), |_: &AuthSession| true);
                }
                Err(_) => {}
            }
        }
        let session = self.existing_session(session_id).await?;
        let is_same = session.app_id == new.app_id
            && session.asked == new.person
            && session.auth_method == new.auth_method
            && session.scopes == new.scopes
            && session.card.is_same_request(&new.card);
        if !is_same {
            return Err(AuthError::IdempotencyKeyReused);
        }
        if session.state == SessionState::Pending && session.message_id.is_none() {
            self.request_card(&new.app_id, new.id, new.auth_method).await?;
        }
        self.existing_session(session_id).await
    }

    /// Begins the record of an invitation.
    fn invitation_act(
        &self,
        actor: &Actor,
        now: Timestamp,
        session_id: SessionId,
        invite: &Invite,
    ) -> AuditEntry {
        let act = self.act(actor, now, AuditAction::SessionCreate).app(&invite.app_id).session(session_id);
        act.person(&invite.person)
    }

    /// Checks an invitation, and completes it.
    async fn prepare(
        &self,
        actor: &Actor,
        now: Timestamp,
        session_id: SessionId,
        mut invite: Invite,
        act: &AuditEntry,
    ) -> Result<NewSession, AuthError> {
        Self::check_app(actor, &invite.app_id)?;
        self.check_encryption_keys().await?;
        let app = self.apps.get_for_invitation(&invite.app_id).await?;
        check_auth_method(&app.application, invite.auth_method)?;
        if invite.card.app_name.is_none() && invite.auth_method.has_card() {
            invite.card.app_name = self.apps.name(&app).await.map(|name| name.to_string());
        }
        invite.card.requested_by = actor.public_name().map(str::to_owned);
        let new = self.new_session(session_id, &app, invite, now, None, act.clone())?;
        check_access(actor, &new.scopes)?;
        Ok(new)
    }

    /// Requests the card of a session that was just created. The caller gets the error; the session must not look as if a
    /// card were on its way.
    async fn request_first_card(&self, actor: &Actor, new: &NewSession) -> Result<(), AuthError> {
        let Err(error) = self.request_card(&new.app_id, new.id, new.auth_method).await else {
            return Ok(());
        };
        if let Err(error) = self.withdraw(actor, new.id).await {
            tracing::error!(session_id = %new.id, %error, "auth.session.end: the unsent invitation stays pending until it expires");
        }
        Err(error)
    }

    /// Requests the card of a new session. A repeated request sends no second card.
    async fn request_card(
        &self,
        app_id: &AppId,
        session_id: SessionId,
        auth_method: AuthMethod,
    ) -> Result<(), AuthError> {
        if !auth_method.has_card() {
            return Ok(());
        }
        let event_id = event_id("invite", &session_id.to_string());
        let message = self.outgoing(event_id, app_id, InvitationRequested { session_id })?;
        Ok(self.bus.publish(message).await?)
    }

    /// Ends a session that no one has seen. The bus just failed, so the announcement is left to the sweep.
    async fn withdraw(&self, actor: &Actor, session_id: SessionId) -> Result<(), AuthError> {
        let ending = SessionEnding::Failed(FailureReason::ServiceUnavailable);
        let session = self.existing_session(session_id).await?;
        if self.store_end(actor, &session, ending).await? {
            self.record_end(&self.existing_session(session_id).await?);
        }
        Ok(())
    }

    /// Invites a person whose token is missing, as [`Context::invite`] does. Returns the open session instead when the person
    /// has an open card already that asks for all of the scopes.
    ///
    /// # Errors
    /// As [`Context::invite`]; [`AuthError::AskedRecently`] for a while after the person declined, did not answer or could
    /// not be asked.
    pub async fn invite_unless_asked(
        &self,
        actor: &Actor,
        now: Timestamp,
        invite: Invite,
    ) -> Result<AuthSession, AuthError> {
        let (session, _) = self.invite_or_find(actor, now, invite, self.policy.invitation_pause).await?;
        Ok(session)
    }

    /// Invites as [`Context::invite_unless_asked`] does, with these pauses. Returns the session, and whether it is new. The card
    /// of an open session is requested where that has not happened.
    pub(crate) async fn invite_or_find(
        &self,
        actor: &Actor,
        now: Timestamp,
        invite: Invite,
        pause: InvitationPause,
    ) -> Result<(AuthSession, bool), AuthError> {
        let session_id = SessionId(self.new_uuid());
        let act = self.invitation_act(actor, now, session_id, &invite);
        let stored = async {
            let new = self.prepare(actor, now, session_id, invite, &act).await?;
            let limit = self.policy.invitation_limit;
            let created = self.store.create_session_unless_asked(&new, limit, pause).await?;
            let open = match created {
                Created::Open(id) => Some(id),
                created => self.created(&new, created).map(|()| None)?,
            };
            Ok::<_, AuthError>((new, open))
        };
        let new = match stored.await {
            Ok((_, Some(open))) => {
                let session = self.existing_session(open).await?;
                // The process that created it may have stopped. A repeated request sends no second card.
                if session.state == SessionState::Pending && session.message_id.is_none() {
                    self.request_card(&session.app_id, session.id, session.auth_method).await?;
                }
                return Ok((session, false));
            }
            Ok((new, None)) => {
                self.note_done(&act);
                new
            }
            Err(error) => return self.settle_change(act, Err(error), |_: &(AuthSession, bool)| true),
        };
        self.request_first_card(actor, &new).await?;
        Ok((self.existing_session(new.id).await?, true))
    }

    /// Checks an invitation and makes its secrets.
    pub(crate) fn new_session(
        &self,
        session_id: SessionId,
        app: &App,
        invite: Invite,
        now: Timestamp,
        takes_card_of: Option<SessionId>,
        audit: AuditEntry,
    ) -> Result<NewSession, AuthError> {
        check_card(&invite.card)?;
        let lifetime = match invite.card.reauthorize {
            Some(_) => self.policy.reauthorize.lifetime,
            None => self.policy.session_lifetime,
        };
        let new = NewSession {
            id: session_id,
            app_id: invite.app_id,
            person: invite.person,
            auth_method: invite.auth_method,
            scopes: check_scopes(invite.scopes.unwrap_or_else(|| app.application.default_scopes.clone()))?,
            card: invite.card,
            consent: ConsentSecrets {
                state: self.entropy.secret_token(),
                pkce_verifier: self.entropy.secret_token(),
            },
            created_at: now,
            expires_at: now + lifetime,
            takes_card_of,
            audit,
        };
        if new.auth_method.has_card() && !cards::fits(app, &new) {
            return Err(AuthError::Invalid(
                "the card would be larger than the 30 KB that Lark takes: ask for fewer or shorter scopes, or shorten \
                 card.custom_message or card.privacy_policy_url"
                    .to_owned(),
            ));
        }
        Ok(new)
    }

    /// Stores a new session, within the limit of invitations.
    pub(crate) async fn create_session(&self, new: &NewSession) -> Result<(), AuthError> {
        self.created(new, self.store.create_session(new, self.policy.invitation_limit).await?)
    }

    fn created(&self, new: &NewSession, created: Created) -> Result<(), AuthError> {
        // Rounded up once, so that the sentence and `Retry-After` have the same number and none is too early.
        let whole = |wait: Duration| Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        match created {
            // Nothing was created: the caller asks for the open session.
            Created::Open(_) => Ok(()),
            Created::Created => {
                self.metrics.session_created(new.app_id.as_str(), new.auth_method.as_str());
                tracing::info!(session_id = %new.id, app_id = %new.app_id, auth_method = %new.auth_method, "auth.session.created");
                Ok(())
            }
            Created::Paused { retry_after } => {
                Err(AuthError::AskedRecently { retry_after: whole(retry_after) })
            }
            Created::RateLimited { retry_after } => {
                let InvitationLimit { max, window } = self.policy.invitation_limit;
                Err(AuthError::RateLimited { max, window, retry_after: whole(retry_after) })
            }
        }
    }
}

/// Checks that the application can refresh what this method gives: the tokens of the device flow are those of the v2 endpoint, and
/// the v1 endpoint refuses their refresh.
fn check_auth_method(application: &Application, auth_method: AuthMethod) -> Result<(), AuthError> {
    if auth_method != AuthMethod::DeviceCode || application.token_api == TokenApi::V2 {
        return Ok(());
    }
    Err(AuthError::Invalid(format!(
        "application {} is registered with the token API v1, whose endpoint refuses to refresh the tokens of \
         auth_method device_code: use another auth_method, or register the application with the token API v2 \
         (LARK_TOKEN_API=v2, `larkauth apps add --token-api v2`)",
        application.app_id
    )))
}

/// Checks that the actor may ask a person for these scopes.
fn check_access(actor: &Actor, scopes: &[String]) -> Result<(), AuthError> {
    let Some(access) = actor.access() else { return Ok(()) };
    let beyond: Vec<&str> =
        scopes.iter().map(String::as_str).filter(|scope| !access.may_ask_for(scope)).collect();
    if beyond.is_empty() {
        return Ok(());
    }
    Err(AuthError::Forbidden(format!(
        "The API key may not ask people for {}; it may ask for {} (without `scopes` the application's default scopes are \
         asked for)",
        beyond.join(" "),
        access.lark_scopes.join(" ")
    )))
}
