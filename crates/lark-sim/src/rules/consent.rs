//! The consent page: authorization code flow with PKCE (RFC 6749, RFC 7636).

use std::collections::BTreeSet;

use larkauth_models::Timestamp;
use url::Url;

use crate::{error::SimError, state::State, users::UserStatus};

/// Path of the consent page.
pub(crate) const AUTHORIZE_PATH: &str = "/open-apis/authen/v1/authorize";

/// A valid request for consent.
#[derive(Clone, Debug)]
pub(crate) struct Consent {
    pub(crate) app_id: String,
    pub(crate) app_name: String,
    /// Exactly as in the request.
    pub(crate) redirect_uri: String,
    target: Url,
    pub(crate) scope: String,
    state: Option<String>,
    challenge: Option<String>,
}

impl Consent {
    /// Reads and checks the query of the page.
    pub(crate) fn read(state: &State, query: &[(String, String)]) -> Result<Self, SimError> {
        const MAX_SCOPES: usize = 50;
        let param = |name: &str| {
            query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
        };
        let app_id = param("client_id")
            .or_else(|| param("app_id"))
            .ok_or(SimError::Consent("client_id is missing"))?;
        let app = state.apps.get(app_id).filter(|app| app.enabled);
        let app = app.ok_or(SimError::Consent("20048: the application does not exist or is disabled"))?;
        let uri = param("redirect_uri").ok_or(SimError::Consent("redirect_uri is missing"))?;
        if !app.redirect_uris.contains(uri) {
            return Err(SimError::Consent("20029: redirect_uri is not registered"));
        }
        let target = Url::parse(uri).map_err(|_| SimError::Consent("20029: redirect_uri is no URL"))?;
        // The historical page does not require it.
        if param("response_type").is_some_and(|kind| kind != "code") {
            return Err(SimError::Consent("response_type is not code"));
        }
        let challenge = param("code_challenge").cloned();
        if challenge.is_some() && param("code_challenge_method").is_none_or(|method| method != "S256") {
            return Err(SimError::Consent("code_challenge_method is not S256"));
        }
        let scope = param("scope").cloned().unwrap_or_default();
        let scopes: Vec<_> = scope.split_whitespace().collect();
        if scopes.len() > MAX_SCOPES || scopes.iter().collect::<BTreeSet<_>>().len() != scopes.len() {
            return Err(SimError::Consent("20067: more than 50 scopes, or one twice"));
        }
        Ok(Self {
            app_id: app_id.clone(),
            app_name: app.app_name.clone(),
            redirect_uri: uri.clone(),
            target,
            scope,
            state: param("state").cloned(),
            challenge,
        })
    }

    fn redirect(&self, answer: (&str, &str)) -> Url {
        let mut url = self.target.clone();
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair(answer.0, answer.1);
        if let Some(state) = &self.state {
            pairs.append_pair("state", state);
        }
        drop(pairs);
        url
    }
}

/// Records the decision of the person, `None` for a refusal. Returns the URL that the browser is redirected to.
pub(crate) fn authorize(
    state: &mut State,
    now: Timestamp,
    consent: &Consent,
    union_id: Option<&str>,
) -> Result<Url, SimError> {
    let Some(union_id) = union_id else { return Ok(consent.redirect(("error", "access_denied"))) };
    let user = state.users.get(union_id).ok_or(SimError::NoUser)?;
    match user.status {
        UserStatus::Active | UserStatus::BotStopped => {}
        UserStatus::OutOfRange => {
            return Err(SimError::Consent("20010: the application is not available to this person"));
        }
        UserStatus::Frozen | UserStatus::Resigned | UserStatus::Exited | UserStatus::NotRegistered => {
            return Err(SimError::Consent("20066: this person cannot log in"));
        }
    }
    let uri = Some(consent.redirect_uri.clone());
    let code =
        state.grant_code(now, &consent.app_id, union_id, &consent.scope, uri, consent.challenge.clone());
    Ok(consent.redirect(("code", &code)))
}
