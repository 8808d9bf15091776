//! `larkauth standalone`: killed at any moment, started twice, migrated to servers.

use std::{collections::BTreeMap, net::TcpListener, path::Path, time::Duration};

use anyhow::{Context, ensure};
use futures::{StreamExt, future::try_join_all, stream};
use larkauth_contracts::rest::SessionView;
use larkauth_lark_sim::{Sim, SimApp, SimConfig, SimHandle};
use larkauth_messaging::testing::TestBus;
use larkauth_models::{ExposeSecret, FailureReason, SessionState};
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_tests::{Api, Kind, Service, eventually};

use crate::secrets::Evidence;

pub(crate) const APP_ID: &str = "cli_0123456789abcdef";
const API_KEY: &str = "test-api-key-0123456789abcdef";
const KEYS: &str = "moving:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// Deadline of every wait. The claim of a killed process on a code lasts a minute before the next one abandons it.
const TIMEOUT: Duration = Duration::from_secs(150);

/// A simulated Lark and the settings of a standalone that belongs to it.
pub(crate) struct Home {
    pub(crate) sim: SimHandle,
    pub(crate) api: Api,
    env: BTreeMap<String, String>,
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) async fn new(people: u32) -> anyhow::Result<Self> {
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let redirect_uri = format!("http://{addr}/oauth/callback");
        let app = SimApp::new(APP_ID, "simulated-app-secret").with_redirect_uri(&redirect_uri);
        let sim = Sim::start(SimConfig::default().with_users(people).with_app(app)).await?;
        let folder = tempfile::tempdir()?;
        let env = [
            ("DATA_DIR", folder.path().join("data").display().to_string()),
            ("HTTP_ADDR", addr.to_string()),
            ("OAUTH_REDIRECT_URI", redirect_uri),
            ("LARK_BASE_URL", sim.base_url().to_owned()),
            ("LARK_ACCOUNTS_URL", sim.accounts_url().to_owned()),
            ("APP_ID", APP_ID.to_owned()),
            ("APP_SECRET", "simulated-app-secret".to_owned()),
            ("API_KEY", API_KEY.to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Self { sim, api: Api::new(format!("http://{addr}"), API_KEY)?, env, folder })
    }

    fn database(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("data/larkauth.db").display())
    }

    pub(crate) fn person(&self, n: usize) -> String {
        self.sim.open_id(APP_ID, &self.sim.users()[n])
    }

    pub(crate) async fn standalone(&self) -> anyhow::Result<Service> {
        let mut service = Service::spawn(Kind::Cli, &["standalone"], &self.env)?;
        service.address().await?;
        eventually(TIMEOUT, async || Ok((self.sim.connections(APP_ID) == 1).then_some(())))
            .await
            .with_context(|| {
                format!("{} connections:\n{}", self.sim.connections(APP_ID), service.output())
            })?;
        Ok(service)
    }

    /// Clicks, as the person, until the session has ended, also while the services are down.
    pub(crate) async fn authorize(&self, session: &SessionView, person: &str) -> anyhow::Result<SessionView> {
        let ended = eventually(TIMEOUT, async || {
            let Ok(now) = self.api.session(session.session_id, 0).await else { return Ok(None) };
            if now.state.is_final() {
                return Ok(Some(now));
            }
            if let Some(card) = self.sim.messages_for(person).pop()
                && let Ok(click) = self.sim.click(&card.message_id, "authorize", person).await
                && let Some(url) = click.url
                && let Ok(redirect) = self.sim.consent(&url, person).await
            {
                // The browser shows an error while nothing listens; the person clicks again.
                let _ = self.sim.follow(&redirect).await;
            }
            Ok(None)
        });
        ended.await.with_context(|| format!("{person} is stuck"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standalone_killed_during_authorizations_loses_nothing() -> anyhow::Result<()> {
    const PEOPLE: usize = 24;
    let home = Home::new(24).await?;
    let service = home.standalone().await?;
    let people: Vec<String> = (0..PEOPLE).map(|n| home.person(n)).collect();
    let sessions = try_join_all(people.iter().map(|person| home.api.invite(APP_ID, person))).await?;

    // Killed twice while people authorize, four at a time.
    let authorizing = stream::iter(sessions.iter().zip(&people))
        .map(async |(session, person)| (home.authorize(session, person).await, person))
        .buffer_unordered(4)
        .collect::<Vec<_>>();
    let killing = async {
        let mut service = service;
        for through in [3, 9] {
            eventually(TIMEOUT, async || {
                let done = home
                    .api
                    .send(reqwest::Method::GET, "/v1/auth/sessions?state=completed&limit=200", None)
                    .await;
                let done = done.ok().and_then(|page| page.json["items"].as_array().map(Vec::len));
                Ok(done.filter(|done| *done >= through))
            })
            .await
            .with_context(|| format!("not {through} are through:\n{}", service.output()))?;
            service.kill().await?;
            service = home.standalone().await?;
        }
        anyhow::Ok(service)
    };
    let (ended, service) = tokio::join!(authorizing, killing);
    let service = service?;

    let mut completed = 0;
    for (session, person) in ended {
        let session = session?;
        let token = home.api.token(APP_ID, person).await?;
        match session.state {
            SessionState::Completed => {
                completed += 1;
                assert_eq!(token.status, 200, "{token:?}");
            }
            // Killed before Lark's answer to the code was in escrow: said so, and the code is not used again.
            SessionState::Failed => {
                assert_eq!(
                    session.failure_reason,
                    Some(FailureReason::ExchangeOutcomeUnknown),
                    "{session:?}"
                );
                assert_eq!(token.status, 404);
            }
            other => panic!("{person} ended as {other}"),
        }
    }
    assert!(completed >= PEOPLE / 2, "only {completed} of {PEOPLE}");
    // Every card says how it ended.
    for person in &people {
        let ended =
            |card: &serde_json::Value| ["green", "red"].iter().any(|c| card["header"]["template"] == **c);
        home.sim.wait_for_card(person, TIMEOUT, ended).await?;
    }
    assert_eq!(home.sim.violations(), []);
    let (status, output) = service.terminate().await?;
    ensure!(status.success(), "{output}");
    Ok(())
}

/// Logs at trace level, what the commands print, and every byte of the data folder but the keys themselves.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_standalone_and_its_commands_are_leaked_nowhere() -> anyhow::Result<()> {
    let mut home = Home::new(2).await?;
    home.env.insert("RUST_LOG".to_owned(), "trace".to_owned());
    let service = home.standalone().await?;
    let (agrees, declines) = (home.person(0), home.person(1));
    let session = home.api.invite(APP_ID, &agrees).await?;
    assert_eq!(home.authorize(&session, &agrees).await?.state, SessionState::Completed);
    let declined = home.api.invite(APP_ID, &declines).await?;
    let card = home.sim.wait_for_card(&declines, TIMEOUT, |_| true).await?;
    home.sim.click(&card.message_id, "cancel", &declines).await?;
    assert_eq!(home.api.session(declined.session_id, 30).await?.state, SessionState::Rejected);

    let mut evidence = Evidence::default();
    for command in [
        &["session", "list"][..],
        &["session", "show", &session.session_id.to_string(), "--json"],
        &["token", "show", "--app", APP_ID, "--open-id", &agrees],
        &["apps", "list"],
        &["apps", "show", APP_ID, "--json"],
        &["keys", "list"],
        &["dead-letters", "list"],
        &["doctor"],
    ] {
        let (status, output) = Service::spawn(Kind::Cli, command, &home.env)?.wait().await?;
        ensure!(status.success(), "{command:?}: {output}");
        evidence.add(format!("output of {command:?}"), output);
    }
    for entry in std::fs::read_dir(home.folder.path().join("data"))? {
        let path = entry?.path();
        if path.is_file() && path.file_name().is_some_and(|name| name != "encryption-keys") {
            evidence.add(path.display().to_string(), String::from_utf8_lossy(&std::fs::read(&path)?));
        }
    }
    let (status, output) = service.terminate().await?;
    ensure!(status.success(), "{output}");
    evidence.add("output of standalone", output);

    assert!(evidence.of("output of standalone").contains("\"DEBUG\""), "the level is as low as it gets");
    assert!(evidence.of(&home.folder.path().display().to_string()).contains(APP_ID), "the database was read");
    let mut secrets = home.sim.issued_secrets();
    secrets.extend(["simulated-app-secret".to_owned(), API_KEY.to_owned()]);
    let keys = std::fs::read_to_string(home.folder.path().join("data/encryption-keys"))?;
    secrets.extend(keys.trim().split_once(':').map(|(_, key)| key.to_owned()));
    let leaks = evidence.leaks(&secrets);
    ensure!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn standalone_on_folder_in_use_is_refused() -> anyhow::Result<()> {
    let home = Home::new(1).await?;
    let first = home.standalone().await?;
    let mut second = Service::spawn(Kind::Cli, &["standalone", "--http-addr", "127.0.0.1:0"], &home.env)?;
    let (status, output) = second.wait().await?;
    assert_eq!(status.code(), Some(1));
    assert!(output.contains("another larkauth") && output.contains("DATA_DIR"), "{output}");
    let (status, _) = first.terminate().await?;
    assert!(status.success());
    // A folder that was left in order is taken again at once.
    home.standalone().await?.terminate().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn standalone_migrated_to_servers_keeps_everything() -> anyhow::Result<()> {
    let mut home = Home::new(2).await?;
    home.env.insert("ENCRYPTION_KEYS".to_owned(), KEYS.to_owned());
    let service = home.standalone().await?;
    let (done, open) = (home.person(0), home.person(1));
    let session = home.api.invite(APP_ID, &done).await?;
    assert_eq!(home.authorize(&session, &done).await?.state, SessionState::Completed);
    let token = home.api.token(APP_ID, &done).await?.json["access_token"].clone();
    let invited = home.api.invite(APP_ID, &open).await?;
    home.sim.wait_for_card(&open, TIMEOUT, |_| true).await?;
    service.terminate().await?;

    let database = TestDatabase::create_empty().await;
    let bus = TestBus::create().await;
    let url = database.url().expose_secret().to_owned();
    let env = BTreeMap::from([("ENCRYPTION_KEYS".to_owned(), KEYS.to_owned())]);
    for _ in 0..2 {
        // The second time finds everything there.
        let moving = ["migrate", "--from", &home.database(), "--to", &url];
        let (status, output) = Service::spawn(Kind::Cli, &moving, &env)?.wait().await?;
        ensure!(status.success(), "{output}");
        assert!(output.contains("everything is there"), "{output}");
    }

    home.env.extend([
        ("DATABASE_URL".to_owned(), url),
        ("AMQP_URL".to_owned(), bus.url().to_owned()),
        ("AMQP_PREFIX".to_owned(), bus.prefix().to_owned()),
    ]);
    let mut gateway = Service::spawn(Kind::Gateway, &[], &home.env)?;
    gateway.address().await?;
    home.env.insert("HTTP_ADDR".to_owned(), "127.0.0.1:0".to_owned());
    let mut worker = Service::spawn(Kind::AuthWorker, &[], &home.env)?;
    worker.address().await?;
    eventually(TIMEOUT, async || Ok((home.sim.connections(APP_ID) == 1).then_some(()))).await?;

    assert_eq!(home.api.token(APP_ID, &done).await?.json["access_token"], token);
    // An invitation that was open when everything moved is answered on the other side.
    assert_eq!(home.authorize(&invited, &open).await?.state, SessionState::Completed);
    for service in [gateway, worker] {
        let (status, output) = service.terminate().await?;
        ensure!(status.success(), "{output}");
    }
    assert!(Path::new(home.database().trim_start_matches("sqlite:")).exists(), "the source stays as it was");
    bus.teardown().await;
    Ok(())
}
