//! The demo page in a real browser: starts `larkauth demo` and runs the tests of `tests/browser` on it.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use larkauth_tests::{Kind, Service, TIMEOUT, eventually};
use tokio::process::Command;

/// What the tests want from `scripts/browser-setup`.
const BROWSER: [&str; 2] = ["LARKAUTH_BROWSER_MODULES", "LARKAUTH_BROWSER_CHROMIUM"];
/// For all tests in the browser together.
const TESTS_TIMEOUT: Duration = Duration::from_secs(300);

#[tokio::test]
async fn demo_page_in_browser_passes_its_tests() -> anyhow::Result<()> {
    check_setup()?;
    let mut demo = Service::spawn(Kind::Cli, &["demo", "--no-open", "--port", "0"], &BTreeMap::new())?;
    let address = address(&mut demo).await?;
    let output = run(&["demo.test.mjs", "result.test.mjs"], &[("LARKAUTH_DEMO_URL", address)]).await?;
    let (status, log) = demo.terminate().await?;
    ensure!(
        output.status.success(),
        "{}{}\n== the demo\n{log}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(status.success(), "the demo ended with {status}:\n{log}");
    Ok(())
}

/// Fails when `scripts/browser-setup` was not run.
pub(crate) fn check_setup() -> anyhow::Result<()> {
    for name in BROWSER {
        if std::env::var_os(name).is_none() {
            bail!(
                "{name} is not set: run eval \"$(scripts/browser-setup)\" and export what it prints, or use scripts/test"
            );
        }
    }
    Ok(())
}

/// Runs these files of tests in a browser, with these variables. One test after the other: what one breaks is broken for
/// all.
pub(crate) async fn run(files: &[&str], env: &[(&str, String)]) -> anyhow::Result<Output> {
    let tests = Command::new("node")
        .args(["--test", "--test-concurrency=1", "--test-reporter=spec"])
        .args(files)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser"))
        .envs(env.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TESTS_TIMEOUT, tests).await;
    Ok(output.context("the tests in the browser do not end")??)
}

/// Where the page is, as the demo says itself.
async fn address(demo: &mut Service) -> anyhow::Result<String> {
    let found = eventually(TIMEOUT, async || {
        let output = demo.output();
        let line = output.lines().find(|line| line.contains("the demo is open"));
        Ok(line.and_then(|line| {
            line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
        }))
    });
    found.await.with_context(|| demo.output())
}
