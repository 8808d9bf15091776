//! The platform: its reachability, the clock, and the applications' credentials.

use std::sync::Arc;

use anyhow::Context;
use larkauth_auth::LarkSettings;
use larkauth_lark::{
    ErrorKind, LarkClient, LarkClientOptions, LocalRateLimiter, NoObserver, http_reason,
    long_connection::{ConnectError, discover},
};
use larkauth_models::{Application, Brand, Clock, SystemClock, Timestamp};
use tokio::net::{TcpStream, lookup_host};
use url::Url;

use super::{
    deadline::with_deadline,
    finding::{Finding, page},
};
use crate::output::time;

/// Largest tolerated clock skew, in seconds. Beyond it, expiries are wrong by more than the safety margins.
const MAX_SKEW: i64 = 60;

/// Checks the host of one cloud, and the clock against it.
pub(super) async fn host(lark: &LarkSettings, brand: Brand) -> Vec<Finding> {
    let base = &lark.endpoints(brand).base_url;
    let host = base.host_str().unwrap_or_default();
    let check = format!("Lark at {host}");
    let looked = with_deadline(async {
        let response = match lark.http.head(base.clone()).send().await {
            Ok(response) => response,
            Err(error) => anyhow::bail!("{}", diagnose(lark, base, http_reason(error)).await),
        };
        let date = response.headers().get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok()).map(|date| date.to_utc()))
    });
    match looked.await {
        Err(error) => {
            let cure =
                "check name lookup, firewall and HTTPS_PROXY; LARK_BASE_URL and LARK_BRAND choose the host";
            vec![Finding::wrong(check, format!("{error:#}")).cure(cure, page::THIS_SIDE)]
        }
        Ok(date) => {
            let mut findings = vec![Finding::ok(check, "answers")];
            findings.extend(date.map(|theirs| clock(theirs, SystemClock.now())));
            findings
        }
    }
}

fn clock(theirs: Timestamp, ours: Timestamp) -> Finding {
    let skew = (ours - theirs).num_seconds();
    if skew.abs() <= MAX_SKEW {
        return Finding::ok("clock", "agrees with Lark's");
    }
    let way = if skew > 0 { "ahead of" } else { "behind" };
    Finding::wrong("clock", format!("this machine's is {} s {way} Lark's", skew.abs())).cure(
        "synchronise the clock (systemd-timesyncd, chrony); otherwise expired tokens count as valid, or valid ones as expired",
        page::THIS_SIDE,
    )
}

/// Returns the failing step, found by trying name lookup and TCP connection alone.
async fn diagnose(lark: &LarkSettings, base: &Url, reason: String) -> String {
    // The proxy looks the name up and connects.
    if lark.network.is_proxied(base) {
        return reason;
    }
    let (Some(host), Some(port)) = (base.host_str(), base.port_or_known_default()) else {
        return reason;
    };
    let addresses: Vec<_> = match lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => return format!("its name cannot be looked up: {error}"),
    };
    match TcpStream::connect(addresses.as_slice()).await {
        Err(error) => format!("no connection to port {port}: {error}"),
        Ok(_) => format!("it can be connected to, but TLS or HTTP fails: {reason}"),
    }
}

/// Checks credentials and long connection of one application.
pub(super) async fn application(lark: &LarkSettings, app: &Application) -> Vec<Finding> {
    let (credentials, connection) = futures::join!(credentials(lark, app), connection(lark, app));
    let mut findings = vec![credentials, connection];
    if let Some(since) = app.frozen_since {
        let said = app.frozen_reason.as_deref().unwrap_or("no reason is known");
        let finding = Finding::doubtful(
            format!("{} invitations", app.app_id),
            format!("stopped since {}: {said}", time(since)),
        );
        findings.push(
            finding.cure(
                "correct this in the developer console; the next session tries again",
                page::CREDENTIALS,
            ),
        );
    }
    findings
}

/// Returns a client of one application without metrics.
pub(crate) fn client(lark: &LarkSettings, app: &Application) -> LarkClient {
    LarkClient::new(LarkClientOptions {
        http: lark.http.clone(),
        endpoints: lark.endpoints(app.brand).clone(),
        app_id: app.app_id.clone(),
        app_secret: app.app_secret.clone(),
        clock: Arc::new(SystemClock),
        observer: Arc::new(NoObserver),
        rate_limiter: Arc::new(LocalRateLimiter::default()),
    })
}

async fn credentials(lark: &LarkSettings, app: &Application) -> Finding {
    let check = format!("{} credentials", app.app_id);
    let asked = with_deadline(async { Ok(client(lark, app).tenant_access_token().await) }).await;
    match asked {
        Ok(Ok(_)) => Finding::ok(check, format!("{} accepts them", app.brand)),
        Ok(Err(error)) if error.kind == ErrorKind::App => Finding::wrong(check, error.to_string()).cure(
            "copy the secret again from the console, and check that the brand is right",
            page::CREDENTIALS,
        ),
        Ok(Err(error)) => {
            Finding::doubtful(check, format!("could not be checked: {error}")).page(page::THIS_SIDE)
        }
        Err(error) => {
            Finding::doubtful(check, format!("could not be checked: {error}")).page(page::THIS_SIDE)
        }
    }
}

async fn connection(lark: &LarkSettings, app: &Application) -> Finding {
    let check = format!("{} long connection", app.app_id);
    let base = &lark.endpoints(app.brand).base_url;
    let asked = with_deadline(async { Ok(discover(&lark.http, base, &app.app_id, &app.app_secret).await) });
    match asked.await.context("discovery") {
        // Discovery does not return the subscription. It is visible in the console only.
        Ok(Ok(())) => Finding::ok(check, "Lark offers one; whether callbacks use it is set in the console"),
        Ok(Err(error @ ConnectError::Rejected { .. })) => {
            let place = if error.is_not_allowed() { page::LONG_CONNECTION } else { page::CREDENTIALS };
            Finding::wrong(check, error.to_string())
                .cure("in the console: a self-built app, published, with \"Receive events through persistent connection\"", place)
        }
        Ok(Err(error)) => {
            Finding::doubtful(check, format!("could not be checked: {error}")).page(page::THIS_SIDE)
        }
        Err(error) => {
            Finding::doubtful(check, format!("could not be checked: {error:#}")).page(page::THIS_SIDE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_skew_above_a_minute_is_wrong() {
        let now = SystemClock.now();
        for (skew, wrong) in [(0, false), (60, false), (-60, false), (61, true), (-3600, true)] {
            let finding = clock(now, now + chrono::TimeDelta::seconds(skew));
            assert_eq!(finding.is_wrong(), wrong, "{skew}");
        }
    }
}
