//! The operator console, on the listener of callers and operators only.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Router,
    extract::ConnectInfo,
    http::{HeaderMap, header, request::Parts},
};
use larkauth_auth::AuthError;
use larkauth_console::{Console, Host, Reached};
use larkauth_models::Origin;
use larkauth_storage::ApiKey;

use crate::{client_address::client_address, middleware::RequestId, state::AppState};

/// Scheme of the client's request, as the proxy before saw it.
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Host and port that the client asked for.
const FORWARDED_HOST: &str = "x-forwarded-host";

pub(crate) fn routes(state: &Arc<AppState>) -> Router<Arc<AppState>> {
    let host = Arc::new(GatewayHost(state.clone()));
    larkauth_console::router(Console::new(state.context.clone(), state.health.clone(), host))
}

/// The gateway, as the console sees it.
struct GatewayHost(Arc<AppState>);

#[async_trait]
impl Host for GatewayHost {
    async fn authenticate(&self, secret: &str) -> Result<Option<Arc<ApiKey>>, AuthError> {
        self.0.api_keys.authenticate(secret).await
    }

    async fn key(&self, sha256: &[u8; 32]) -> Result<Option<Arc<ApiKey>>, AuthError> {
        self.0.api_keys.find(sha256).await
    }

    async fn count(&self, key: &ApiKey) -> Result<(), Duration> {
        self.0.api_keys.count(key).await
    }

    fn reached(&self, parts: &Parts) -> Reached {
        let trusted = &self.0.trusted_proxies;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        let is_proxied = peer.is_some_and(|peer| {
            let peer = peer.ip().to_canonical();
            trusted.iter().any(|network| network.contains(&peer))
        });
        let forwarded = |name| last(&parts.headers, name).filter(|_| is_proxied);
        let asked = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Reached {
            origin: Origin {
                address: peer.map(|peer| client_address(peer, &parts.headers, trusted).to_string()),
                request_id: parts.extensions.get::<RequestId>().map(|RequestId(id)| id.clone()),
            },
            is_tls: forwarded(FORWARDED_PROTO).is_some_and(|proto| proto.eq_ignore_ascii_case("https")),
            host: forwarded(FORWARDED_HOST).or(asked).map(str::to_owned),
        }
    }
}

/// Returns the last entry of a list header: the nearest proxy wrote it.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(name).into_iter().next_back()?.to_str().ok()?;
    values.rsplit(',').next().map(str::trim)
}
