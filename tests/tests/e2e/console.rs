//! The operator console in a real browser, on `larkauth standalone` and a simulated Lark.

use std::{collections::BTreeMap, net::TcpListener};

use anyhow::{Context, ensure};
use larkauth_lark_sim::{Sim, SimApp, SimConfig, SimHandle, SimUser};
use larkauth_tests::{Api, Kind, Service, TIMEOUT, eventually};

use crate::browser;

const APP_ID: &str = "cli_0123456789abcdef";
const API_KEY: &str = "test-api-key-0123456789abcdef";
/// Chinese and English names.
const PEOPLE: [(&str, &str); 5] = [
    ("李雷", "Li Lei"),
    ("韩梅梅", "Han Meimei"),
    ("王芳", "Wang Fang"),
    ("张伟", "Zhang Wei"),
    ("陈静", "Chen Jing"),
];

struct Company {
    sim: SimHandle,
    api: Api,
    service: Service,
    people: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Company {
    async fn start(address: &str) -> anyhow::Result<Self> {
        let redirect_uri = format!("http://{address}/oauth/callback");
        let app = SimApp::new(APP_ID, "simulated-app-secret").with_redirect_uri(&redirect_uri);
        let mut config = SimConfig::default().with_app(app);
        config.users = (1..).zip(PEOPLE).map(|(n, (name, en_name))| person(n, name, en_name)).collect();
        let sim = Sim::start(config).await?;
        let people = sim.users().iter().map(|user| sim.open_id(APP_ID, user)).collect();
        let folder = tempfile::tempdir()?;
        let env: BTreeMap<String, String> = [
            ("DATA_DIR", folder.path().join("data").display().to_string()),
            ("HTTP_ADDR", address.to_owned()),
            ("OAUTH_REDIRECT_URI", redirect_uri),
            ("LARK_BASE_URL", sim.base_url().to_owned()),
            ("LARK_ACCOUNTS_URL", sim.accounts_url().to_owned()),
            ("APP_ID", APP_ID.to_owned()),
            ("APP_SECRET", "simulated-app-secret".to_owned()),
            ("API_KEY", API_KEY.to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let mut service = Service::spawn(Kind::Cli, &["standalone"], &env)?;
        service.address().await?;
        let api = Api::new(format!("http://{address}"), API_KEY)?;
        let company = Self { sim, api, service, people, _folder: folder };
        let connected = async || Ok((company.sim.connections(APP_ID) == 1).then_some(()));
        eventually(TIMEOUT, connected).await.with_context(|| company.service.output())?;
        Ok(company)
    }

    /// Invites a person, who answers the card with this button.
    async fn answer(&self, open_id: &str, button: &str) -> anyhow::Result<()> {
        let session = self.api.invite(APP_ID, open_id).await?;
        let card = eventually(TIMEOUT, async || Ok(self.sim.messages_for(open_id).pop())).await?;
        let click = self.sim.click(&card.message_id, button, open_id).await?;
        if let Some(url) = click.url {
            let redirect = self.sim.consent(&url, open_id).await?;
            self.sim.follow(&redirect).await?;
        }
        let session = self.api.session(session.session_id, 30).await?;
        ensure!(session.state.is_final(), "{session:?}");
        Ok(())
    }
}

fn person(n: u32, name: &str, en_name: &str) -> SimUser {
    SimUser { name: name.to_owned(), en_name: en_name.to_owned(), ..SimUser::numbered(n) }
}

#[tokio::test(flavor = "multi_thread")]
async fn console_in_browser_passes_its_tests() -> anyhow::Result<()> {
    browser::check_setup()?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let company = Company::start(&address).await?;
    for open_id in &company.people[..3] {
        company.answer(open_id, "authorize").await?;
    }
    company.answer(&company.people[3], "cancel").await?;
    company.api.invite(APP_ID, &company.people[4]).await?;

    let output = browser::run(
        &["console.test.mjs"],
        &[
            ("LARKAUTH_CONSOLE_URL", format!("http://{address}/console")),
            ("LARKAUTH_CONSOLE_KEY", API_KEY.to_owned()),
        ],
    )
    .await?;
    let (status, log) = company.service.terminate().await?;
    ensure!(
        output.status.success(),
        "{}{}\n== standalone\n{log}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(status.success(), "standalone ended with {status}:\n{log}");
    Ok(())
}
