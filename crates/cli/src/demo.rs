use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use larkauth_config::{LoadOptions, Service, Settings};
use larkauth_contracts::rest::{CreateSession, SessionView, TokenView};
use larkauth_lark_sim::{Sim, SimApp, SimConfig, SimHandle};
use larkauth_models::{AppId, Entropy, ExposeSecret, OpenId, OsEntropy, SessionState};
use larkauth_runtime::Running;
use larkauth_telemetry::{LogFormat, TelemetryConfig};

use crate::report;

/// Play one whole authorization against a simulated Lark, in this terminal
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Play it without anybody clicking, print each step, and end
    #[arg(long, required = true)]
    auto: bool,
}

/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the demo looks when the environment does not say.
const USUAL: [(&str, &str); 2] = [
    ("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres"),
    ("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"),
];

pub(crate) async fn run(_: Arguments, config_file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let port = free_port()?;
    let base = format!("http://127.0.0.1:{port}");
    let sim = simulated_lark(&base).await?;
    report::done("a simulated Lark is running", sim.base_url());
    let stage = Stage::build(&sim, &base, config_file).await?;
    let played = play(&sim, &stage).await;
    stage.tear_down().await?;
    played?;
    let violations = sim.violations();
    ensure!(violations.is_empty(), "the simulated Lark saw what must never happen: {violations:?}");
    sim.shutdown().await;
    report::say("\nThat was one authorization: everything but Lark was real.");
    Ok(ExitCode::SUCCESS)
}

async fn play(sim: &Sim, stage: &Stage) -> anyhow::Result<()> {
    let app = sim.apps().into_iter().next().context("the simulator has an application")?;
    let user = sim.users().into_iter().next().context("the simulator has people")?;
    let person = sim.open_id(&app.app_id, &user);

    let session = stage.invite(&app, &person).await?;
    report::done("a service asked for consent", &format!("session {}", session.session_id));

    let card = sim.wait_for_card(&person, PATIENCE, |_| true).await?;
    report::done("the card arrived in the chat", &format!("for {} / {}", user.name, user.en_name));

    let click = sim.click(&card.message_id, "authorize", &person).await?;
    ensure!(click.answered, "the click was not answered within 3 s");
    report::done("they clicked Authorize", &format!("answered in {} ms", click.elapsed.as_millis()));

    let redirect = sim.consent(&click.url.context("the button opens no page")?, &person).await?;
    let page = sim.follow(&redirect).await?;
    ensure!(page.status == 200, "the result page answered {}", page.status);
    report::done("they agreed on the consent page", "the browser came back with a code");

    let session = stage.session(&session).await?;
    ensure!(session.state == SessionState::Completed, "the session became {}", session.state);
    report::done("the code was exchanged, the token stored encrypted", session.state.as_str());

    sim.wait_for_card(&person, PATIENCE, |card| card["header"]["template"] == "green").await?;
    report::done("the card turned green", "");

    let token = stage.token(&app, &person).await?;
    report::done("a service reads the token", &report::masked(&token.access_token));
    Ok(())
}

/// The services at work, in this process, on a schema and a broker prefix of their own.
struct Stage {
    services: Vec<Running>,
    schema: larkauth_storage::ScratchSchema,
    broker: larkauth_messaging::RabbitMqOptions,
    http: reqwest::Client,
    base: String,
    api_key: String,
}

impl Stage {
    async fn build(sim: &Sim, base: &str, config_file: Option<PathBuf>) -> anyhow::Result<Self> {
        let app = sim.apps().into_iter().next().context("the simulator has an application")?;
        let tag = format!("larkauth_demo_{}", std::process::id());
        let mut pairs: Vec<(String, String)> = std::env::vars().collect();
        for (name, usual) in USUAL {
            if !pairs.iter().any(|(known, value)| known == name && !value.is_empty()) {
                report::warn(&format!("{name} is not set; trying {usual}"));
                pairs.push((name.to_owned(), usual.to_owned()));
            }
        }
        let command = LoadOptions { config_file: config_file.clone(), service: Service::Command };
        let given = Settings::from_pairs(&command, pairs.clone())?;
        let schema = larkauth_runtime::scratch_schema(&given, &tag).await?;
        let api_key = OsEntropy.secret_token().expose_secret().to_owned();
        // 43 characters of base64url are 32 bytes.
        let key = OsEntropy.secret_token().expose_secret().replace('-', "+").replace('_', "/");
        let overrides = [
            ("DATABASE_URL", schema.url().expose_secret().to_owned()),
            ("AMQP_PREFIX", tag.replace('_', "-")),
            ("ENCRYPTION_KEYS", format!("demo:{key}=")),
            ("API_KEY", api_key.clone()),
            ("APP_ID", app.app_id.clone()),
            ("APP_SECRET", app.secret.expose_secret().to_owned()),
            ("LARK_BASE_URL", sim.base_url().to_owned()),
            ("LARK_ACCOUNTS_URL", sim.accounts_url().to_owned()),
            ("OAUTH_REDIRECT_URI", format!("{base}/oauth/callback")),
        ];
        pairs.retain(|(name, _)| !overrides.iter().any(|(known, _)| known == name) && name != "HTTP_ADDR");
        pairs.extend(overrides.map(|(name, value)| (name.to_owned(), value)));
        let settings = |service, addr: String| {
            let pairs = pairs.iter().cloned().chain([("HTTP_ADDR".to_owned(), addr)]);
            Settings::from_pairs(&LoadOptions { config_file: config_file.clone(), service }, pairs)
        };
        let anywhere = || "127.0.0.1:0".to_owned();
        let gateway = settings(Service::Gateway, base.trim_start_matches("http://").to_owned())?;
        let _telemetry = larkauth_telemetry::init(&TelemetryConfig {
            log_format: LogFormat::Pretty,
            filter: Some(gateway.telemetry.filter.clone().unwrap_or_else(|| "error".to_owned())),
            ..gateway.telemetry.clone()
        })?;
        let broker = larkauth_runtime::broker_options(&gateway, larkauth_telemetry::Metrics::new()?)?;
        let services = vec![
            larkauth_auth_worker::start(settings(Service::AuthWorker, anywhere())?).await?,
            larkauth_token_refresher::start(settings(Service::TokenRefresher, anywhere())?).await?,
            larkauth_gateway::start(gateway).await?,
        ];
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        let stage = Self { services, schema, broker, http, base: base.to_owned(), api_key };
        stage.until_ready().await?;
        report::done("gateway, auth-worker and token-refresher are ready", &stage.base);
        Ok(stage)
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let ready = async {
            while !self.services.iter().all(|service| service.health.report().ready) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, ready).await.is_err() {
            let parts = self.services.iter().flat_map(|service| service.health.report().parts);
            let reasons: Vec<_> = parts.filter_map(|part| Some(format!("{}: {}", part.name, part.reason?))).collect();
            bail!("not ready: {}", reasons.join("; "));
        }
        Ok(())
    }

    async fn invite(&self, app: &SimApp, person: &str) -> anyhow::Result<SessionView> {
        let body = CreateSession {
            app_id: AppId::new(app.app_id.as_str())?,
            open_id: Some(OpenId::new(person)?),
            user_id: None,
            auth_method: None,
            scopes: None,
            card: None,
        };
        self.call(self.http.post(format!("{}/v1/auth/sessions", self.base)).json(&body)).await
    }

    async fn session(&self, session: &SessionView) -> anyhow::Result<SessionView> {
        self.call(self.http.get(format!("{}/v1/auth/sessions/{}?wait=15", self.base, session.session_id))).await
    }

    async fn token(&self, app: &SimApp, person: &str) -> anyhow::Result<TokenView> {
        self.call(self.http.get(format!("{}/v1/apps/{}/users/{person}/token", self.base, app.app_id))).await
    }

    async fn call<T: serde::de::DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> anyhow::Result<T> {
        let answer = request.bearer_auth(&self.api_key).send().await.context("the gateway does not answer")?;
        let status = answer.status();
        let body = answer.text().await?;
        // A problem document says what happened and holds no secret.
        ensure!(status.is_success(), "the gateway answered {status}: {body}");
        Ok(serde_json::from_str(&body)?)
    }

    async fn tear_down(self) -> anyhow::Result<()> {
        for service in self.services.into_iter().rev() {
            service.stop();
            service.wait().await?;
        }
        larkauth_messaging::RabbitMq::remove_topology(self.broker).await?;
        Ok(self.schema.remove().await?)
    }
}

async fn simulated_lark(base: &str) -> anyhow::Result<SimHandle> {
    let mut config = SimConfig::demo();
    for app in &mut config.apps {
        app.redirect_uris = vec![format!("{base}/oauth/callback")];
    }
    Ok(Sim::start(config).await?)
}

/// A port that is free now, for the gateway: the consent page must know it before the gateway listens.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
