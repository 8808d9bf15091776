//! `GET /oauth/callback`: the browser comes back from the consent page and is shown how it went.

mod page;
mod words;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, header},
    response::Response,
};
use larkauth_auth::{
    AuthError,
    redirect::{Consent, Landing},
};
use larkauth_models::{ExposeSecret, SecretString, is_secret_token};
use tokio::time::timeout;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{page::Page, words::Outcome};
use crate::{state::AppState, unknown::sha256};

/// Shorter than the limit of the router, so that the person gets a page and not a problem document.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Longest `code` that is looked at, in bytes.
const MAX_CODE: usize = 4096;

pub(crate) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new().routes(routes!(landing))
}

/// Back from the consent page
///
/// The redirect URI to register in Lark's developer console. Answers a page for the person, in Chinese or English.
#[utoipa::path(
    get, path = "/oauth/callback", operation_id = "oauth_callback", tag = "browser",
    params(
        ("state" = Option<String>, Query, description = "As it was sent to the consent page"),
        ("code" = Option<String>, Query, description = "The authorization code"),
        ("error" = Option<String>, Query, description = "`access_denied` when the person declined"),
    ),
    responses(
        (status = 200, description = "Authorized, or declined", body = String, content_type = "text/html"),
        (status = 202, description = "Being processed; the page looks again by itself", body = String, content_type = "text/html"),
        (status = 400, description = "It failed", body = String, content_type = "text/html"),
        (status = 403, description = "Another person consented than was asked", body = String, content_type = "text/html"),
        (status = 404, description = "Unknown link", body = String, content_type = "text/html"),
        (status = 409, description = "The link was used already", body = String, content_type = "text/html"),
        (status = 410, description = "The invitation has expired", body = String, content_type = "text/html"),
        (status = 503, description = "Not now, please try again", body = String, content_type = "text/html"),
    ),
)]
async fn landing(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let outcome = match read(query.as_deref().unwrap_or_default()) {
        Some((oauth_state, consent)) => take(&state, &oauth_state, consent).await,
        None => Outcome::UnknownLink,
    };
    let languages =
        headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Page::new(&outcome, languages, page::tries_so_far(&headers)).respond()
}

/// `state` and what came with it; `None` when there is no `state` of the form that sessions have.
fn read(query: &str) -> Option<(SecretString, Consent)> {
    let value = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, value)| key == name && !value.is_empty())
    };
    let (_, state) = value("state").filter(|(_, state)| is_secret_token(state))?;
    let consent = match (value("error"), value("code")) {
        (Some((_, error)), _) if error == "access_denied" => Consent::Denied,
        (None, Some((_, code))) if code.len() <= MAX_CODE => {
            Consent::Code(SecretString::from(code.into_owned()))
        }
        _ => Consent::Error,
    };
    Some((SecretString::from(state.into_owned()), consent))
}

async fn take(state: &AppState, oauth_state: &SecretString, consent: Consent) -> Outcome {
    let sha256 = sha256(oauth_state.expose_secret());
    if state.unknown_states.contains(&sha256).await {
        return Outcome::UnknownLink;
    }
    let landing = async {
        let landing = state.context.take_redirect(oauth_state, consent).await?;
        let english_name = match &landing {
            Landing::Session(session) => state.context.english_name(session).await,
            Landing::UnknownState => {
                state.unknown_states.insert(sha256).await;
                None
            }
            _ => None,
        };
        Ok::<_, AuthError>(Outcome::of(landing, english_name.as_deref()))
    };
    match timeout(TIMEOUT, landing).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            tracing::error!(%error, "gateway.redirect.failed: the person is asked to try again");
            Outcome::TryAgain
        }
        Err(_) => {
            tracing::error!("gateway.redirect.late: the person is asked to try again");
            Outcome::TryAgain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "0123456789abcdefABCDEF-_0123456789abcdefABC";

    fn kind(query: &str) -> Option<(String, &'static str)> {
        read(query).map(|(state, consent)| {
            let kind = match consent {
                Consent::Code(_) => "code",
                Consent::Denied => "denied",
                Consent::Error => "error",
            };
            (state.expose_secret().to_owned(), kind)
        })
    }

    #[test]
    fn read_query_returns_state_and_consent() {
        let s = |kind| Some((STATE.to_owned(), kind));
        assert_eq!(kind(&format!("code=c&state={STATE}")), s("code"));
        assert_eq!(kind(&format!("error=access_denied&state={}", STATE.replace('_', "%5F"))), s("denied"));
        // A refusal outweighs a code; neither is an error of the consent page.
        assert_eq!(kind(&format!("error=access_denied&code=c&state={STATE}")), s("denied"));
        assert_eq!(kind(&format!("error=server_error&code=c&state={STATE}")), s("error"));
        assert_eq!(kind(&format!("state={STATE}")), s("error"));
        assert_eq!(kind(&format!("state={STATE}&code={}", "c".repeat(MAX_CODE + 1))), s("error"));
        assert_eq!([kind(""), kind("code=c"), kind("state=&code=c")], [None, None, None]);
        for other in [&STATE[1..], &format!("{STATE}s"), &STATE.replace('_', ".")] {
            assert_eq!(kind(&format!("code=c&state={other}")), None, "{other}");
        }
    }
}
