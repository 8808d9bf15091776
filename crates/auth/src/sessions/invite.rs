//! Inviting a person, and following what becomes of it.

use std::time::Duration;

use larkauth_contracts::message::InvitationRequested;
use larkauth_models::{
    AppId, AuthMethod, AuthSession, CardOptions, ConsentSecrets, FailureReason, Person, SessionId,
    SessionState,
};
use larkauth_storage::{Created, NewSession, SessionEnding, SessionFilter};
use tokio::time::Instant;

use crate::{App, AuthError, Context, cards, handlers::id};

/// What a caller may choose about an invitation.
#[derive(Clone, Debug)]
pub struct Invite {
    /// The application that asks.
    pub app_id: AppId,
    /// Who is asked.
    pub person: Person,
    /// The way to take.
    pub auth_method: AuthMethod,
    /// What to ask for; the application's default when absent.
    pub scopes: Option<Vec<String>>,
    /// How the card looks.
    pub card: CardOptions,
}

/// The scope without which Lark gives no refresh token.
const OFFLINE_ACCESS: &str = "offline_access";
const MAX_SCOPES: usize = 50;
const MAX_CUSTOM_MESSAGE: usize = 1000;

impl Context {
    /// Creates a session and has its card sent.
    ///
    /// # Errors
    /// When the input breaks a rule, the application may not invite, the person was asked too often, or the store or
    /// the bus is down; then nobody is asked.
    pub async fn invite(&self, invite: Invite) -> Result<AuthSession, AuthError> {
        if invite.auth_method == AuthMethod::DeviceCode {
            return Err(AuthError::AuthMethodUnavailable(invite.auth_method));
        }
        let app = self.apps.inviting(&invite.app_id).await?;
        let session_id = SessionId(self.entropy.uuid(&*self.clock));
        let new = self.new_session(session_id, &app, invite, None)?;
        self.create(&new).await?;
        if new.auth_method.has_card() {
            let message = self.outgoing(
                id("invite", &session_id.to_string()),
                &new.app_id,
                InvitationRequested { session_id },
            )?;
            if let Err(error) = self.bus.publish(message).await {
                // The caller is told; the session must not look as if a card were on its way.
                if let Err(error) = self.withdraw(session_id).await {
                    tracing::error!(%session_id, %error, "auth.session.end: the unsent invitation stays pending until it expires");
                }
                return Err(error.into());
            }
        }
        self.existing(session_id).await
    }

    /// Ends a session that nobody has heard of. So nobody is told, least of all over a bus that just failed.
    async fn withdraw(&self, session_id: SessionId) -> Result<(), AuthError> {
        let ending = SessionEnding::Failed(FailureReason::CardUndeliverable);
        if self.store.end_session(session_id, ending, self.now()).await? {
            self.count_end(&self.existing(session_id).await?);
        }
        Ok(())
    }

    /// As [`Context::invite`], but somebody who has an open card already is not sent another one: gives that session.
    ///
    /// # Errors
    /// As [`Context::invite`].
    pub async fn invite_unless_asked(&self, invite: Invite) -> Result<AuthSession, AuthError> {
        let open = SessionFilter {
            app_id: Some(invite.app_id.clone()),
            open_id: invite.person.open_id.clone(),
            state: Some(SessionState::Pending),
        };
        if open.open_id.is_some() {
            let newest = self.store.list_sessions(&open, None, 1).await?;
            let asked = newest.into_iter().find(|s| s.auth_method.has_card() && s.expires_at > self.now());
            if let Some(session) = asked {
                return Ok(session);
            }
        }
        self.invite(invite).await
    }

    /// Checks an invitation and gives it its secrets.
    pub(crate) fn new_session(
        &self,
        session_id: SessionId,
        app: &App,
        invite: Invite,
        takes_card_of: Option<SessionId>,
    ) -> Result<NewSession, AuthError> {
        check_card(&invite.card)?;
        let now = self.now();
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
            expires_at: now + self.policy.session_lifetime,
            takes_card_of,
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

    pub(crate) async fn create(&self, new: &NewSession) -> Result<(), AuthError> {
        let limit = self.policy.invitation_limit;
        match self.store.create_session(new, limit).await? {
            Created::Created => {
                self.metrics.session_created(new.app_id.as_str(), new.auth_method.as_str());
                tracing::info!(session_id = %new.id, app_id = %new.app_id, auth_method = %new.auth_method, "auth.session.created");
                Ok(())
            }
            Created::RateLimited { retry_after } => {
                // Rounded up, once: the same number for the sentence and for `Retry-After`, and never too early.
                let retry_after =
                    Duration::from_secs(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0));
                Err(AuthError::RateLimited { max: limit.max, window: limit.window, retry_after })
            }
        }
    }

    /// One session.
    ///
    /// # Errors
    /// [`AuthError::SessionNotFound`], or the store's.
    pub async fn existing(&self, id: SessionId) -> Result<AuthSession, AuthError> {
        self.store.session(id).await?.ok_or(AuthError::SessionNotFound(id))
    }

    /// Waits until the session has ended, at most so long, and gives it as it is then.
    ///
    /// # Errors
    /// [`AuthError::SessionNotFound`], or the store's.
    pub async fn wait_for_end(&self, id: SessionId, at_most: Duration) -> Result<AuthSession, AuthError> {
        let until = Instant::now() + at_most;
        let mut pause = Duration::from_millis(100);
        loop {
            let session = self.existing(id).await?;
            let left = until.saturating_duration_since(Instant::now());
            if session.state != SessionState::Pending || left.is_zero() {
                return Ok(session);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

fn check_scopes(mut scopes: Vec<String>) -> Result<Vec<String>, AuthError> {
    if !scopes.iter().any(|s| s == OFFLINE_ACCESS) {
        scopes.push(OFFLINE_ACCESS.to_owned());
    }
    scopes.sort();
    scopes.dedup();
    if scopes.len() > MAX_SCOPES {
        return Err(AuthError::Invalid(format!(
            "scopes: {} given, Lark takes at most {MAX_SCOPES}",
            scopes.len()
        )));
    }
    // RFC 6749 section 3.3, less the characters that no Lark scope has.
    let well_formed = |s: &String| {
        (1..=128).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:.-/".contains(&b))
    };
    match scopes.iter().position(|s| !well_formed(s)) {
        Some(index) => Err(AuthError::Invalid(format!(
            "scopes: entry {index} is not a scope name (letters, digits and `_:.-/`, at most 128)"
        ))),
        None => Ok(scopes),
    }
}

fn check_card(card: &CardOptions) -> Result<(), AuthError> {
    let invalid = |text: &str| Err(AuthError::Invalid(text.to_owned()));
    // A NUL is more than PostgreSQL can store, and the others are nothing that a card can show.
    let unprintable = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let message_ok = |m: &String| m.chars().count() <= MAX_CUSTOM_MESSAGE && !m.contains(unprintable);
    if card.custom_message.as_ref().is_some_and(|m| !message_ok(m)) {
        return invalid("card.custom_message: at most 1000 characters, none of them a control character");
    }
    if card.privacy_policy_url.as_ref().is_some_and(|u| u.scheme() != "https" || u.as_str().len() > 2000) {
        return invalid("card.privacy_policy_url: must be an https address of at most 2000 characters");
    }
    let template_ok = |t: &String| {
        (1..=64).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if card.template_id.as_ref().is_some_and(|t| !template_ok(t)) {
        return invalid(
            "card.template_id: 1 to 64 letters, digits, `_` or `-`, as the card builder shows it",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(names: &[&str]) -> Result<Vec<String>, AuthError> {
        check_scopes(names.iter().map(|s| (*s).to_owned()).collect())
    }

    #[test]
    fn a_refresh_token_is_always_asked_for_and_nothing_else_is_added() {
        assert_eq!(scopes(&[]).unwrap(), ["offline_access"]);
        assert_eq!(scopes(&["b:x", "offline_access", "b:x"]).unwrap(), ["b:x", "offline_access"]);
    }

    #[test]
    fn scopes_are_bounded() {
        let many: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
        assert!(check_scopes(many).unwrap_err().to_string().contains("at most 50"));
        assert!(scopes(&["a b"]).unwrap_err().to_string().contains("entry 0"));
    }

    #[test]
    fn cards_are_checked() {
        let card = |f: fn(&mut CardOptions)| {
            let mut options = CardOptions::default();
            f(&mut options);
            check_card(&options)
        };
        assert!(card(|_| ()).is_ok());
        assert!(card(|c| c.custom_message = Some("好".repeat(1000))).is_ok());
        assert!(card(|c| c.custom_message = Some("好".repeat(1001))).is_err());
        assert!(card(|c| c.privacy_policy_url = "http://example.com".parse().ok()).is_err());
        assert!(card(|c| c.template_id = Some("a\"b".to_owned())).is_err());
    }
}
