//! The face that a session's card shows, and its content.

use std::time::Duration;

use larkauth_lark::{
    api::{AuthorizeRequest, MAX_CARD_BYTES, pkce_challenge},
    card::{self, CardContent},
};
use larkauth_models::{AuthSession, CardFace, ConsentSecrets, SessionState};
use larkauth_storage::NewSession;
use serde_json::Value;

use crate::{apps::App, context::Context};

/// Returns the face that a session's state asks for. While consent is open the card keeps its authorize button.
pub(crate) const fn face_of(state: SessionState) -> CardFace {
    match state {
        SessionState::Pending => CardFace::Invitation,
        SessionState::Completed => CardFace::Done,
        SessionState::Rejected => CardFace::Declined,
        SessionState::Expired => CardFace::Expired,
        SessionState::Failed => CardFace::Failed,
    }
}

/// Returns the face that a session asks for.
pub(crate) const fn face_of_session(session: &AuthSession) -> CardFace {
    match session.state {
        SessionState::Pending => first_face(session),
        state => face_of(state),
    }
}

/// Returns the face with which the card of a session was sent.
pub(crate) const fn first_face(session: &AuthSession) -> CardFace {
    match session.card.reauthorize {
        Some(_) => CardFace::Reauthorize,
        None => CardFace::Invitation,
    }
}

impl Context {
    /// Returns the English name of the person of a completed session, where the profile has one. A profile that cannot be
    /// read is logged, and the name is left out.
    pub async fn english_name(&self, session: &AuthSession) -> Option<String> {
        let open_id = session.person.open_id.as_ref().filter(|_| session.state == SessionState::Completed)?;
        match self.store.profile(&session.app_id, open_id).await {
            Ok(profile) => profile?.en_name,
            Err(error) => {
                tracing::warn!(%error, "auth.profile: the English name is left out");
                None
            }
        }
    }
}

/// Renders the card as message content.
pub(crate) async fn render(context: &Context, app: &App, session: &AuthSession, face: CardFace) -> Value {
    with_content(context, app, session, face, card::render).await
}

/// Renders the card for the answer to a click. Returns whether the result shows the face.
pub(crate) async fn render_answer(
    context: &Context,
    app: &App,
    session: &AuthSession,
    face: CardFace,
) -> (Value, bool) {
    with_content(context, app, session, face, card::render_answer).await
}

/// Renders the card for an update: the forms to try, in this order.
pub(crate) async fn render_update(
    context: &Context,
    app: &App,
    session: &AuthSession,
    face: CardFace,
) -> Vec<Value> {
    with_content(context, app, session, face, card::render_update).await
}

async fn with_content<T>(
    context: &Context,
    app: &App,
    session: &AuthSession,
    face: CardFace,
    render: fn(&CardContent<'_>) -> T,
) -> T {
    let authorize_url = authorize_url(app, session);
    let en_name = context.english_name(session).await;
    render(&CardContent {
        face,
        session_id: session.id,
        scopes: &session.scopes,
        options: &session.card,
        authorize_url: authorize_url.as_ref(),
        valid_for: (session.expires_at - context.now()).to_std().ok().filter(|left| *left > Duration::ZERO),
        person_name: session.user_name.as_deref(),
        person_en_name: en_name.as_deref(),
        failure: session.failure_reason,
    })
}

/// Returns whether Lark accepts the session's card with each of its open faces. The faces after the end hold nothing that
/// the caller chose and are always small.
pub(crate) fn fits(app: &App, new: &NewSession) -> bool {
    let authorize_url = consent_page(app, &new.scopes, &new.consent);
    [CardFace::Invitation, CardFace::Processing, CardFace::Reauthorize].into_iter().all(|face| {
        let card = card::render(&CardContent {
            face,
            session_id: new.id,
            scopes: &new.scopes,
            options: &new.card,
            authorize_url: Some(&authorize_url),
            valid_for: (new.expires_at - new.created_at).to_std().ok(),
            person_name: None,
            person_en_name: None,
            failure: None,
        });
        card.to_string().len() <= MAX_CARD_BYTES
    })
}

/// Returns the consent page of a pending session.
pub(crate) fn authorize_url(app: &App, session: &AuthSession) -> Option<url::Url> {
    Some(consent_page(app, &session.scopes, session.consent.as_ref()?))
}

fn consent_page(app: &App, scopes: &[String], consent: &ConsentSecrets) -> url::Url {
    let code_challenge = pkce_challenge(&consent.pkce_verifier);
    app.client.authorize_url(&AuthorizeRequest {
        redirect_uri: &app.application.redirect_uri,
        scopes,
        state: &consent.state,
        code_challenge: &code_challenge,
    })
}
