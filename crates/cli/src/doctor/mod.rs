//! `larkauth doctor`: checks every part, changes nothing, and names the cure.
//!
//! `parts` checks this side (settings, database, keys, broker), `lark` the platform, `edge` the addresses that others
//! reach, `traffic` what the running gateway counted.
//! To add a check: a function that returns a [`Finding`], called where its inputs are known.

mod deadline;
mod edge;
mod finding;
mod lark;
mod parts;
mod traffic;

use std::process::ExitCode;

use futures::future::join_all;
use larkauth_config::Settings;
use larkauth_models::{Application, Brand};

use crate::{
    exit,
    globals::{Globals, quiet},
};

use self::finding::{Finding, print_all};
pub(crate) use self::{
    edge::{redirect_uri, unencrypted},
    finding::page,
    lark::client,
};

/// Check settings, database, broker, keys, clock, Lark and the redirect URI, and name the cure
///
/// Changes nothing, except that queues missing on the broker are declared. Each line is ✓ (fine), ! (look at it) or ✗
/// (does not work). Ends with 1 when there is a ✗.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth doctor\n  larkauth doctor --json | jq '.checks[] | select(.verdict == \"wrong\")'"
)]
pub(crate) struct Arguments {}

pub(crate) async fn run(_: Arguments, globals: &Globals) -> anyhow::Result<ExitCode> {
    let findings = match Settings::load(&globals.options()) {
        Err(error) => vec![Finding::wrong("settings", error.to_string()).page(page::THIS_SIDE)],
        Ok(settings) => {
            // Findings are reported once, below. The parts log only when RUST_LOG is set.
            let telemetry = match settings.telemetry.filter {
                Some(_) => Some(larkauth_telemetry::init(&quiet(&settings))?),
                None => None,
            };
            let findings = Box::pin(examine(&settings)).await?;
            if let Some(telemetry) = telemetry {
                telemetry.shutdown().await;
            }
            findings
        }
    };
    let fine = print_all(&findings, globals.format())?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

async fn examine(settings: &Settings) -> anyhow::Result<Vec<Finding>> {
    let mut findings = parts::settings(settings);
    let (store, broker, spool, listen, counted) = futures::join!(
        parts::store(settings),
        parts::broker(settings),
        parts::spool(settings),
        edge::listen(&settings.network, &settings.http),
        traffic::counted(settings.http.addr)
    );
    let (stored, of_store) = store;
    findings.extend(of_store);
    findings.extend(broker);
    findings.push(spool);
    findings.push(traffic::relay(settings));
    findings.extend(listen);
    findings.extend(counted);

    let is_known = stored.is_some();
    let apps = applications(settings, stored.unwrap_or_default());
    let lark = larkauth_runtime::lark_settings(settings)?;
    let mut brands: Vec<Brand> = apps.iter().map(|app| app.brand).collect();
    brands.push(settings.lark.brand);
    brands.sort_by_key(|brand| brand.as_str());
    brands.dedup_by_key(|brand| lark.endpoints(*brand).base_url.clone());
    let hosts = join_all(brands.into_iter().map(|brand| lark::host(&lark, brand)));
    let of_apps = join_all(apps.iter().map(|app| async {
        let (platform, redirect) =
            futures::join!(lark::application(&lark, app), redirect_uri(&lark.network, app));
        platform.into_iter().chain(redirect).collect::<Vec<_>>()
    }));
    let (hosts, of_apps) = futures::join!(hosts, of_apps);
    findings.extend(hosts.into_iter().flatten());
    // An unreadable database is reported above. It may hold applications.
    if apps.is_empty() && is_known {
        let finding = Finding::doubtful("applications", "none is registered and enabled");
        findings
            .push(finding.cure("set APP_ID and APP_SECRET, or run `larkauth apps add`", page::CREDENTIALS));
    }
    findings.extend(of_apps.into_iter().flatten());
    Ok(findings)
}

/// Returns the enabled applications: the stored ones, and the one of the settings, which replaces its stored version at
/// the next start.
fn applications(settings: &Settings, stored: Vec<Application>) -> Vec<Application> {
    let mut apps = stored;
    if let Some(app) = &settings.application {
        let known = apps.iter().position(|known| known.app_id == app.app_id);
        let enabled = known.is_none_or(|at| apps[at].enabled);
        if let Some(at) = known {
            apps.remove(at);
        }
        apps.push(Application { enabled, ..app.clone() });
    }
    apps.retain(|app| app.enabled);
    apps
}
