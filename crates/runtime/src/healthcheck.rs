//! Whether a process on this machine is ready, for a container without a shell.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, ensure};
use larkauth_net::Network;
use larkauth_telemetry::{HealthReport, HealthStatus};

/// Deadline of the answer. Shorter than the usual timeout of a container's health check.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Returns the address of the process that listens on `addr`, as seen from this machine.
fn base_url(addr: SocketAddr) -> String {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // A socket of `[::]` takes IPv4 too, and a container may have no IPv6.
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, addr.port()))
}

/// Succeeds when the process that listens on `addr` is ready (`/readyz`); with `all_parts`, when each of its parts works
/// (`/health`), the long connection of a gateway for example.
///
/// # Errors
/// One line that says what was asked, and the answer or why there is none.
pub async fn healthcheck(addr: SocketAddr, all_parts: bool) -> anyhow::Result<()> {
    let base = base_url(addr);
    if !all_parts {
        return healthcheck_of(&format!("{base}/readyz")).await;
    }
    let report: HealthReport =
        ask(&format!("{base}/health")).await?.json().await.context("the health document cannot be read")?;
    let failing: Vec<_> =
        report.parts.iter().filter(|part| !part.is_ok()).map(|part| part.name.as_str()).collect();
    ensure!(report.status == HealthStatus::Ok, "not working: {}", failing.join(", "));
    Ok(())
}

/// Succeeds when this address answers 200 within three seconds.
///
/// # Errors
/// As [`healthcheck`].
pub async fn healthcheck_of(url: &str) -> anyhow::Result<()> {
    ask(url).await.map(drop)
}

async fn ask(url: &str) -> anyhow::Result<reqwest::Response> {
    let http = Network::default().client_builder().timeout(TIMEOUT).build()?;
    let answer = http.get(url).send().await.map_err(reqwest::Error::without_url);
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    ensure!(answer.status() == reqwest::StatusCode::OK, "{url} answered {}", answer.status());
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Router, http::StatusCode, routing::get};
    use larkauth_models::SystemClock;
    use larkauth_telemetry::{Health, Metrics};
    use tokio::net::TcpListener;

    use super::*;
    use crate::admin::admin_routes;

    /// Listens on loopback. Returns the address as a setting names it.
    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, SocketAddr::from(([0, 0, 0, 0], port)))
    }

    /// Runs a health check against a process with these routes.
    async fn checked(routes: Router, all_parts: bool) -> anyhow::Result<()> {
        let (listener, addr) = listener().await;
        let served = axum::serve(listener, routes);
        tokio::select! {
            result = healthcheck(addr, all_parts) => result,
            _ = served.into_future() => unreachable!(),
        }
    }

    #[test]
    fn base_url_of_unspecified_address_is_loopback() {
        for (addr, expected) in [
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:8080", "http://[::1]:8080"),
            ("192.0.2.1:80", "http://192.0.2.1:80"),
        ] {
            assert_eq!(base_url(addr.parse().unwrap()), expected);
        }
    }

    #[tokio::test]
    async fn healthcheck_succeeds_for_200_only() {
        for (status, said) in [(StatusCode::OK, None), (StatusCode::SERVICE_UNAVAILABLE, Some("503"))] {
            let result =
                checked(Router::new().route("/readyz", get(move || async move { status })), false).await;
            match said {
                None => result.unwrap(),
                Some(said) => assert!(result.unwrap_err().to_string().contains(said)),
            }
        }
    }

    #[tokio::test]
    async fn healthcheck_of_all_parts_names_those_that_fail() {
        let health = Health::new(Arc::new(SystemClock));
        let (bus, database) = (health.register("bus"), health.register_required("database"));
        database.set_ready();
        let routes = || admin_routes(health.clone(), Metrics::new().unwrap());
        checked(routes(), false).await.unwrap();
        assert_eq!(checked(routes(), true).await.unwrap_err().to_string(), "not working: bus");
        bus.set_ready();
        checked(routes(), true).await.unwrap();
    }

    #[tokio::test]
    async fn healthcheck_without_listener_fails() {
        let (listener, addr) = listener().await;
        drop(listener);
        let error = healthcheck(addr, false).await.unwrap_err();
        assert!(error.to_string().contains("does not answer"), "{error:#}");
    }

    #[tokio::test(start_paused = true)]
    async fn healthcheck_of_silent_process_ends_at_its_deadline() {
        let (listener, addr) = listener().await;
        let start = tokio::time::Instant::now();
        healthcheck(addr, false).await.unwrap_err();
        assert!(start.elapsed() >= TIMEOUT && start.elapsed() < 2 * TIMEOUT);
        drop(listener);
    }
}
