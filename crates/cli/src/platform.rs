//! Two calls to Lark that only this command line makes, to look before something is done.

use larkauth_models::{AppId, ExposeSecret, OpenId, SecretString};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use url::Url;

use crate::output::one_line;

/// The longest answer that is read, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// "The application may not do this": long connections are for self-built applications only.
const NOT_ALLOWED: i64 = 403;
/// "The application lacks the scope."
const NO_PERMISSION: i64 = 99_991_672;
/// Lark's "busy" and "internal error" when it is asked for a long connection.
const BUSY: [i64; 2] = [1, 1_000_040_343];

/// Why Lark did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlatformError {
    /// It answered with a code.
    #[error("Lark refuses (code {code}: {message})")]
    Refused {
        /// Lark's number.
        code: i64,
        /// Lark's words, bounded.
        message: String,
    },
    /// It did not answer, or not now.
    #[error("Lark does not answer: {0}")]
    Unavailable(String),
}

impl PlatformError {
    /// Whether the application lacks a permission.
    pub(crate) const fn is_missing_permission(&self) -> bool {
        matches!(self, Self::Refused { code: NO_PERMISSION, .. })
    }

    /// Whether the application itself is at fault, rather than its secret.
    pub(crate) const fn is_not_allowed(&self) -> bool {
        matches!(self, Self::Refused { code: NOT_ALLOWED, .. })
    }
}

/// Asks where the application's long connection would go, and does not connect: a second connection would be given some
/// of the pushes that the gateway waits for.
pub(crate) async fn discover(
    http: &Client,
    base_url: &Url,
    app_id: &AppId,
    secret: &SecretString,
) -> Result<(), PlatformError> {
    let body = json!({ "AppID": app_id, "AppSecret": secret.expose_secret() });
    let request = http.post(join(base_url, "/callback/ws/endpoint")).header("locale", "en").json(&body);
    match call(request).await {
        Ok(_) => Ok(()),
        Err(PlatformError::Refused { code, message }) if BUSY.contains(&code) => {
            Err(PlatformError::Unavailable(message))
        }
        Err(error) => Err(error),
    }
}

/// Finds a person by their mail address; `None` when nobody in the application's range has it. Needs the permission
/// `contact:user.id:readonly`.
pub(crate) async fn open_id_of(
    http: &Client,
    base_url: &Url,
    tenant_token: &SecretString,
    email: &SecretString,
) -> Result<Option<OpenId>, PlatformError> {
    let mut url = join(base_url, "/open-apis/contact/v3/users/batch_get_id");
    url.query_pairs_mut().append_pair("user_id_type", "open_id");
    let body = json!({ "emails": [email.expose_secret()] });
    let answer = call(http.post(url).bearer_auth(tenant_token.expose_secret()).json(&body)).await?;
    let found = answer["data"]["user_list"][0]["user_id"].as_str();
    Ok(found.and_then(|id| OpenId::new(id).ok()))
}

async fn call(request: RequestBuilder) -> Result<Value, PlatformError> {
    // Without the address: it is of no use here, and its query may hold what should not be shown.
    let cut = |error: reqwest::Error| PlatformError::Unavailable(reason(error));
    let mut response = request.send().await.map_err(cut)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(cut)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY {
            return Err(PlatformError::Unavailable("the answer is too long".to_owned()));
        }
    }
    let Ok(answer) = serde_json::from_slice::<Value>(&body) else {
        return Err(PlatformError::Unavailable(format!("HTTP {status}, and no JSON")));
    };
    match answer["code"].as_i64() {
        Some(0) => Ok(answer),
        Some(code) => {
            let message = one_line(answer["msg"].as_str().unwrap_or_default(), 200);
            Err(PlatformError::Refused { code, message })
        }
        None => Err(PlatformError::Unavailable(format!("HTTP {status}, and no code"))),
    }
}

/// What an HTTP error and its causes say, without the address.
pub(crate) fn reason(error: reqwest::Error) -> String {
    one_line(&format!("{:#}", anyhow::Error::new(error.without_url())), 300)
}

fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{body_json, header, method, path, query_param},
    };

    use super::*;

    async fn lark(answer: ResponseTemplate) -> (MockServer, Client, Url) {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path("/open-apis/contact/v3/users/batch_get_id"))
            .and(query_param("user_id_type", "open_id"))
            .and(header("authorization", "Bearer t-1"))
            .and(body_json(json!({ "emails": ["a@example.com"] })))
            .respond_with(answer)
            .mount(&server)
            .await;
        let base = server.uri().parse().unwrap();
        let http = Client::builder().no_proxy().build().unwrap();
        (server, http, base)
    }

    async fn look_up(answer: ResponseTemplate) -> Result<Option<OpenId>, PlatformError> {
        let (_server, http, base) = lark(answer).await;
        open_id_of(&http, &base, &SecretString::from("t-1"), &SecretString::from("a@example.com")).await
    }

    #[tokio::test]
    async fn a_person_is_found_by_mail_or_not() {
        let answer = |user: Value| {
            ResponseTemplate::new(200).set_body_json(json!({ "code": 0, "data": { "user_list": [user] } }))
        };
        let found = look_up(answer(json!({ "email": "a@example.com", "user_id": "ou_1" }))).await.unwrap();
        assert_eq!(found.unwrap().as_str(), "ou_1");
        assert_eq!(look_up(answer(json!({ "email": "a@example.com" }))).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_refusal_is_told_apart_from_trouble() {
        let refused = json!({ "code": 99_991_672, "msg": "no\nscope" });
        let error = look_up(ResponseTemplate::new(400).set_body_json(refused)).await.unwrap_err();
        assert!(error.is_missing_permission());
        assert_eq!(error.to_string(), "Lark refuses (code 99991672: no scope)");
        let trouble = look_up(ResponseTemplate::new(502).set_body_string("<html>")).await.unwrap_err();
        assert!(matches!(trouble, PlatformError::Unavailable(_)) && !trouble.is_missing_permission());
    }
}
