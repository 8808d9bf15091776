use std::time::Duration;

use anyhow::{Context, ensure};
use larkauth_contracts::rest::SessionView;
use serde_json::{Value, json};

/// A caller of the gateway's REST API.
#[derive(Clone, Debug)]
pub struct Api {
    /// `http://host:port`
    pub base: String,
    key: String,
    http: reqwest::Client,
}

/// Status and body of an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, if given.
    pub retry_after: Option<u64>,
    /// `Content-Type`.
    pub content_type: String,
    /// JSON body, or `null`.
    pub json: Value,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// Returns a part of the health document, or `null`.
    #[must_use]
    pub fn part(&self, name: &str) -> &Value {
        let mut parts = self.json["parts"].as_array().into_iter().flatten();
        parts.find(|part| part["name"] == name).unwrap_or(&Value::Null)
    }
}

impl Api {
    /// Returns a caller with this key.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(base: String, key: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(90)).no_proxy().build()?;
        Ok(Self { base, key: key.to_owned(), http })
    }

    /// Sends a request with the key.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Self::read(request).await
    }

    /// Sends a request as it is, without the key.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn raw(
        &self,
        build: impl FnOnce(&reqwest::Client, &str) -> reqwest::RequestBuilder,
    ) -> anyhow::Result<Answer> {
        Self::read(build(&self.http, &self.base)).await
    }

    async fn read(request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let response = request.send().await.context("no answer")?;
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let retry_after = header("retry-after").and_then(|v| v.parse().ok());
        let content_type = header("content-type").unwrap_or_default();
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, retry_after, content_type, json, text })
    }

    /// Calls `POST /v1/auth/sessions` for a person. Fails unless it succeeds.
    ///
    /// # Errors
    /// When it does not.
    pub async fn invite(&self, app_id: &str, open_id: &str) -> anyhow::Result<SessionView> {
        self.invite_by("websocket_card", app_id, open_id).await
    }

    /// Calls `POST /v1/auth/sessions` for a person, by a method of authorization. Fails unless it succeeds.
    ///
    /// # Errors
    /// When it does not.
    pub async fn invite_by(&self, method: &str, app_id: &str, open_id: &str) -> anyhow::Result<SessionView> {
        let body = json!({"app_id": app_id, "open_id": open_id, "auth_method": method});
        let answer = self.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body)).await?;
        ensure!(answer.status == 201, "no session: {answer:?}");
        Ok(serde_json::from_value(answer.json)?)
    }

    /// Calls `GET /v1/auth/sessions/{id}?wait=…`. Fails unless it succeeds.
    ///
    /// # Errors
    /// When it does not.
    pub async fn session(&self, id: impl std::fmt::Display, wait: u16) -> anyhow::Result<SessionView> {
        let answer =
            self.send(reqwest::Method::GET, &format!("/v1/auth/sessions/{id}?wait={wait}"), None).await?;
        ensure!(answer.status == 200, "no session: {answer:?}");
        Ok(serde_json::from_value(answer.json)?)
    }

    /// Calls `GET …/token`.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn token(&self, app_id: &str, open_id: &str) -> anyhow::Result<Answer> {
        self.send(reqwest::Method::GET, &format!("/v1/apps/{app_id}/users/{open_id}/token"), None).await
    }
}
