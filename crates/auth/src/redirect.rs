//! The redirect of the consent page.

use larkauth_contracts::message::{AuthorizationCodeReceived, AuthorizationDenied, Message};
use larkauth_models::{AuthSession, ExposeSecret, SecretString, SessionState};
use larkauth_storage::CodeBinding;

use crate::{context::Context, error::AuthError, event_id::event_id, seal};

/// The answer in the redirect's query.
#[derive(Clone, Debug)]
pub enum Consent {
    /// `code=…`
    Code(SecretString),
    /// `error=access_denied`
    Denied,
    /// Another `error=…`
    Error,
}

/// The page for the person.
#[derive(Clone, Debug)]
pub enum Landing {
    /// The session as it is now. A pending one is being processed by the worker.
    Session(Box<AuthSession>),
    /// The `state` belongs to no session.
    UnknownState,
    /// The `state` came back with another code before.
    StateUsed,
    /// The consent page reported an error; the session is still open.
    ConsentFailed,
}

impl Context {
    /// Takes a redirect: checks the `state`, publishes code or refusal and waits for the worker up to
    /// [`Policy::redirect_deadline`](crate::Policy::redirect_deadline). A repeated redirect has no second effect.
    ///
    /// # Errors
    /// The store's or the bus's. The person may reload: no code was used.
    pub async fn take_redirect(&self, state: &SecretString, consent: Consent) -> Result<Landing, AuthError> {
        let Some(session) = self.store.session_by_state(&seal::sha256(state.expose_secret())).await? else {
            return Ok(Landing::UnknownState);
        };
        tracing::Span::current()
            .record("session_id", tracing::field::display(session.id))
            .record("app_id", tracing::field::display(&session.app_id));
        if session.state != SessionState::Pending {
            return Ok(Landing::Session(Box::new(session)));
        }
        if session.expires_at <= self.now() {
            return Ok(Landing::Session(Box::new(AuthSession { state: SessionState::Expired, ..session })));
        }
        let session_id = session.id;
        match consent {
            Consent::Error => Ok(Landing::ConsentFailed),
            Consent::Denied => {
                self.ask_worker(
                    &session,
                    event_id("denied", &session_id.to_string()),
                    AuthorizationDenied { session_id },
                )
                .await
            }
            Consent::Code(code) => {
                let code_sha256 = seal::sha256(code.expose_secret());
                match self.store.bind_code(session_id, &code_sha256).await? {
                    CodeBinding::OtherCode => return Ok(Landing::StateUsed),
                    CodeBinding::NotPending => {
                        return Ok(Landing::Session(Box::new(self.existing_session(session_id).await?)));
                    }
                    CodeBinding::Bound | CodeBinding::SameCode => {}
                }
                let owner = session_id.to_string();
                let sealed = seal::seal(&self.cipher, seal::CODE, &owner, &code)?;
                // One code, one event: a reloaded page publishes the same id again, another code has another.
                let event_id = event_id("code", &format!("{owner}-{}", hex::encode(code_sha256)));
                let message = AuthorizationCodeReceived { session_id, code: sealed };
                self.ask_worker(&session, event_id, message).await
            }
        }
    }

    async fn ask_worker<T: Message>(
        &self,
        session: &AuthSession,
        event_id: larkauth_models::EventId,
        message: T,
    ) -> Result<Landing, AuthError> {
        let outgoing = self.outgoing(event_id, &session.app_id, message)?;
        let mut reply = self.bus.request(outgoing).await?;
        // The reply only says that it is time to look; the store knows what happened.
        reply.wait(self.policy.redirect_deadline).await;
        Ok(Landing::Session(Box::new(self.existing_session(session.id).await?)))
    }
}
