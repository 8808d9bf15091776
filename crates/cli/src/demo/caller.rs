use std::time::Duration;

use anyhow::{Context, ensure};
use larkauth_contracts::rest::{CardRequest, CreateSession, RefreshToken, SessionView, TokenView};
use larkauth_models::{AppId, ExposeSecret, OpenId, SecretString, SessionId};
use larkauth_net::Network;
use larkauth_telemetry::HealthReport;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Maximum duration of one step of the demo.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// Deadline of the health document.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// How a person repeats a call by hand.
#[derive(Clone)]
pub(crate) struct ByHand {
    /// Address of the gateway for a person.
    pub(crate) base: String,
    /// The API key, or a variable that holds it.
    pub(crate) key: String,
}

/// A service of the company that calls the gateway's REST API.
#[derive(Clone)]
pub(crate) struct Caller {
    http: Client,
    base: String,
    key: SecretString,
    by_hand: ByHand,
}

impl Caller {
    /// Returns a caller of the gateway at `base` with this API key.
    pub(crate) fn new(base: &str, key: SecretString, by_hand: ByHand) -> anyhow::Result<Self> {
        let http = Network::default().client_builder().timeout(STEP_TIMEOUT).build()?;
        Ok(Self { http, base: base.to_owned(), key, by_hand })
    }

    /// Returns the address of the gateway.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    fn token_url(&self, app_id: &str, open_id: &str) -> String {
        token_url(&self.base, app_id, open_id)
    }

    /// Reads the health of the services.
    pub(crate) async fn health(&self) -> anyhow::Result<HealthReport> {
        let request = self.http.get(format!("{}/health", self.base)).timeout(HEALTH_TIMEOUT);
        read(self.send(request).await?)
    }

    /// Returns the command that reads a person's token.
    pub(crate) fn token_by_hand(&self, app_id: &str, open_id: &str) -> String {
        let ByHand { base, key } = &self.by_hand;
        format!("curl -H \"Authorization: Bearer {key}\" {}", token_url(base, app_id, open_id))
    }

    /// Asks a person for consent. Returns status and body of any answer.
    pub(crate) async fn invite(
        &self,
        app_id: &str,
        open_id: &str,
        card: Option<CardRequest>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let body = CreateSession {
            app_id: AppId::new(app_id)?,
            open_id: Some(OpenId::new(open_id)?),
            user_id: None,
            auth_method: None,
            scopes: None,
            card,
        };
        self.send(self.http.post(format!("{}/v1/auth/sessions", self.base)).json(&body)).await
    }

    /// Waits until the session has ended.
    pub(crate) async fn ended(&self, session_id: SessionId) -> anyhow::Result<SessionView> {
        let url = format!("{}/v1/auth/sessions/{session_id}?wait=15", self.base);
        read(self.send(self.http.get(url)).await?)
    }

    /// Reads a person's token. Returns status and body of any answer.
    pub(crate) async fn token(&self, app_id: &str, open_id: &str) -> anyhow::Result<(StatusCode, Value)> {
        self.send(self.http.get(self.token_url(app_id, open_id))).await
    }

    /// Has a person's token refreshed. Returns status and body of any answer.
    pub(crate) async fn refresh(&self, app_id: &str, open_id: &str) -> anyhow::Result<(StatusCode, Value)> {
        let url = format!("{}/refresh", self.token_url(app_id, open_id));
        self.send(self.http.post(url).json(&RefreshToken { generation: None })).await
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<(StatusCode, Value)> {
        let sent = request.bearer_auth(self.key.expose_secret()).send().await;
        let answer = sent.map_err(reqwest::Error::without_url).context("the gateway does not answer")?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(reqwest::Error::without_url)?;
        Ok((status, serde_json::from_slice(&body).context("the gateway's answer is not JSON")?))
    }
}

fn token_url(base: &str, app_id: &str, open_id: &str) -> String {
    format!("{base}/v1/apps/{app_id}/users/{open_id}/token")
}

/// Returns the body of a successful answer. Fails for any other.
pub(crate) fn read<T: DeserializeOwned>((status, body): (StatusCode, Value)) -> anyhow::Result<T> {
    // A problem document says what happened and holds no secret.
    ensure!(status.is_success(), "the gateway answered {status}: {body}");
    Ok(serde_json::from_value(body)?)
}

/// Returns the start of the token and its length.
pub(crate) fn masked(token: &TokenView) -> String {
    crate::report::masked(&token.access_token)
}
