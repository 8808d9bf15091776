use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use anyhow::{Context, ensure};
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use larkauth_lark_sim::{Message, Sim, SimApp, SimConfig, SimHandle};
use larkauth_messaging::testing::{TcpProxy, TestBus};
use larkauth_models::{ExposeSecret, SecretString, SessionId};
use larkauth_storage_postgres::testing::TestDatabase;

use crate::{
    api::Api,
    service::{Kind, Service},
    wait::{TIMEOUT, eventually},
};

const APP_ID: &str = "cli_0123456789abcdef";
const APP_SECRET: &str = "simulated-app-secret-0123456789";
const API_KEY: &str = "test-api-key-0123456789abcdef";
/// 32 bytes of 7, as the storage crate's test cipher has them, so that tests can look into the database.
const ENCRYPTION_KEYS: &str = "test:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// Options of a world.
pub struct Options {
    /// The simulated platform; application and redirect URI are filled in.
    pub sim: SimConfig,
    /// Settings for all services, besides those that make up the world.
    pub env: Vec<(&'static str, String)>,
    /// Which services to start.
    pub start: Vec<Kind>,
    /// Whether the gateway has a second listener for browsers and Lark.
    pub two_listeners: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sim: SimConfig::default().with_users(3),
            env: Vec::new(),
            start: vec![Kind::Gateway, Kind::AuthWorker, Kind::TokenRefresher],
            two_listeners: false,
        }
    }
}

/// A company with a simulated Lark and real larkauth services. Nothing is shared with other worlds. Dropping it removes
/// everything.
pub struct World {
    /// The platform.
    pub sim: SimHandle,
    /// The gateway's REST API, with the bootstrap key.
    pub api: Api,
    /// What browsers and Lark reach of the gateway.
    pub public: Api,
    /// The running services.
    pub services: Vec<Service>,
    /// Between the services and the database.
    pub database_proxy: TcpProxy,
    /// Between the services and the broker.
    pub broker_proxy: TcpProxy,
    /// The database itself.
    pub database: TestDatabase,
    /// The broker, with a prefix of its own.
    pub bus: TestBus,
    env: BTreeMap<String, String>,
    /// Removed with the world.
    _spool: tempfile::TempDir,
}

impl World {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// When anything does not start.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let base = format!("http://127.0.0.1:{port}");
        let public = match options.two_listeners {
            true => format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?),
            false => base.clone(),
        };
        let redirect_uri = format!("{public}/oauth/callback");
        let app = SimApp {
            callback_url: Some(format!("{public}/lark/callback/{APP_ID}")),
            ..SimApp::new(APP_ID, APP_SECRET)
                .with_redirect_uri(&redirect_uri)
                .with_callback_secrets("simulated-verification-token", "simulated-encrypt-key")
        };
        let sim = Sim::start(options.sim.with_app(app)).await?;
        let database = TestDatabase::create().await;
        let bus = TestBus::create().await;
        let url = database.url();
        let database_proxy = TcpProxy::start(host_and_port(&url)?).await;
        let broker_proxy = TcpProxy::start(bus.target()).await;
        let spool = tempfile::tempdir()?;
        let mut env = BTreeMap::new();
        for (name, value) in [
            ("LARK_BASE_URL", sim.base_url().to_owned()),
            ("LARK_ACCOUNTS_URL", sim.accounts_url().to_owned()),
            ("DATABASE_URL", through(&url, &database_proxy)?),
            ("AMQP_URL", bus.url_through(broker_proxy.address())),
            ("AMQP_PREFIX", bus.prefix().to_owned()),
            ("ENCRYPTION_KEYS", ENCRYPTION_KEYS.to_owned()),
            ("API_KEY", API_KEY.to_owned()),
            ("APP_ID", APP_ID.to_owned()),
            ("APP_SECRET", APP_SECRET.to_owned()),
            ("LARK_VERIFICATION_TOKEN", "simulated-verification-token".to_owned()),
            ("LARK_ENCRYPT_KEY", "simulated-encrypt-key".to_owned()),
            ("OAUTH_REDIRECT_URI", redirect_uri),
            ("LOG_FORMAT", "json".to_owned()),
            ("ESCROW_SPOOL_DIR", spool.path().display().to_string()),
            ("AUTH_REQUEST_RATE_LIMIT", "1000".to_owned()),
        ] {
            env.insert(name.to_owned(), value);
        }
        if options.two_listeners {
            env.insert("PUBLIC_HTTP_ADDR".to_owned(), public.trim_start_matches("http://").to_owned());
        }
        env.extend(options.env.into_iter().map(|(name, value)| (name.to_owned(), value)));
        env.insert("GATEWAY_ADDR".to_owned(), format!("127.0.0.1:{port}"));
        let api = Api::new(base, API_KEY)?;
        let public = Api::new(public, API_KEY)?;
        let mut world = Self {
            sim,
            api,
            public,
            services: Vec::new(),
            database_proxy,
            broker_proxy,
            database,
            bus,
            env,
            _spool: spool,
        };
        for kind in options.start {
            world.start_service(kind, &[]).await?;
        }
        Ok(world)
    }

    /// Has every claim on an exchange expire, as if its life had passed.
    ///
    /// # Errors
    /// The database's.
    pub async fn expire_claims(&self) -> anyhow::Result<()> {
        let mut database = self.database.connection().await;
        sqlx::query(
            "update user_auth_sessions set exchange_claimed_until = clock_timestamp() - interval '1 second'
             where exchange_claim is not null",
        )
        .execute(&mut database)
        .await?;
        Ok(())
    }

    /// Returns the id of the application.
    #[must_use]
    pub fn app_id(&self) -> &'static str {
        APP_ID
    }

    /// Returns the open id of the n-th person, from 0.
    #[must_use]
    pub fn person(&self, n: usize) -> String {
        self.sim.open_id(APP_ID, &self.sim.users()[n])
    }

    /// Returns the settings of a service.
    #[must_use]
    pub fn env(&self, kind: Kind) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        let gateway = env.remove("GATEWAY_ADDR").unwrap_or_default();
        let addr = if kind == Kind::Gateway { gateway } else { "127.0.0.1:0".to_owned() };
        env.insert("HTTP_ADDR".to_owned(), addr);
        env
    }

    /// Starts one more process with these settings changed and waits until all its parts work.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_service(&mut self, kind: Kind, change: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut env = self.env(kind);
        env.extend(change.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut service = Service::spawn(kind, &[], &env)?;
        let address = service.address().await?;
        let healthy = wait_for(&address, "/health", "\"status\":\"ok\"").await;
        let output = service.output();
        self.services.push(service);
        healthy.with_context(|| output)
    }

    /// As [`World::start_service`], for a process of which some parts do not work: waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_degraded(&mut self, kind: Kind, change: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut env = self.env(kind);
        env.extend(change.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut service = Service::spawn(kind, &[], &env)?;
        let address = service.address().await?;
        let ready = wait_for(&address, "/readyz", "\"ready\":true").await;
        let output = service.output();
        self.services.push(service);
        ready.with_context(|| output)
    }

    /// Adds up a counter or gauge over all running processes of this kind; `name` without the prefix `lark_service_`,
    /// `labels` as in the text format, like `reason="rejected"`, empty for all.
    ///
    /// # Errors
    /// When a process does not answer.
    pub async fn metric(&mut self, kind: Kind, name: &str, labels: &str) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for service in self.services.iter_mut().filter(|service| service.kind == kind) {
            sum += metric(&service.address().await?, name, labels).await?;
        }
        Ok(sum)
    }

    /// Invites the n-th person and waits for the card.
    ///
    /// # Errors
    /// When no session is made or no card comes.
    pub async fn ask(&self, n: usize) -> anyhow::Result<Asked> {
        let person = self.person(n);
        let session_id = self.api.invite(APP_ID, &person).await?.session_id;
        let message_id = self.card(&person, &session_id.to_string()).await?.message_id;
        Ok(Asked { session_id, person, message_id })
    }

    /// Opens the card's link and agrees, as the person. Returns the URL that the browser is redirected to.
    ///
    /// # Errors
    /// When the card has no link, or the consent page refuses.
    pub async fn consent(&self, asked: &Asked) -> anyhow::Result<String> {
        let card = self.sim.message(&asked.message_id).context("the card is gone")?;
        let url = card.buttons().into_iter().find_map(|button| button.url).context("the card has no link")?;
        Ok(self.sim.consent(&url, &asked.person).await?)
    }

    /// Waits until the head of this card has this colour: green completed, red failed, grey declined or expired, blue
    /// pending.
    ///
    /// # Errors
    /// When it does not within the deadline.
    pub async fn shows(&self, asked: &Asked, colour: &str) -> anyhow::Result<Message> {
        eventually(TIMEOUT, async || {
            let message = self.sim.message(&asked.message_id).context("the card is gone")?;
            Ok((message.card()["header"]["template"] == colour).then_some(message))
        })
        .await
        .with_context(|| {
            format!(
                "the card does not turn {colour}: {:?}\n{}",
                self.sim.card(&asked.message_id),
                self.outputs()
            )
        })
    }

    /// Takes a running service out of the world.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(&mut self, kind: Kind) -> anyhow::Result<Service> {
        let index =
            self.services.iter().position(|s| s.kind == kind).context("no such service is running")?;
        Ok(self.services.remove(index))
    }

    /// Waits for a card of this person whose text contains this.
    ///
    /// # Errors
    /// When none comes.
    pub async fn card(&self, open_id: &str, text: &str) -> anyhow::Result<Message> {
        let shows = |card: &serde_json::Value| card.to_string().contains(text);
        self.sim.wait_for_card(open_id, TIMEOUT, shows).await.with_context(|| {
            format!(
                "no card says {text:?}; there are {:?}\n{}",
                self.sim.messages_for(open_id),
                self.outputs()
            )
        })
    }

    /// Returns the output of all services.
    #[must_use]
    pub fn outputs(&self) -> String {
        self.services.iter().map(|s| format!("== {:?}\n{}", s.kind, s.output())).collect()
    }

    /// Waits until no message waits in any queue, delayed ones included, and none returns for half a second (the
    /// broker does not report unacknowledged ones). Dead letters may wait.
    ///
    /// # Errors
    /// When some are left.
    pub async fn quiet(&self) -> anyhow::Result<()> {
        let queues = self.bus.queue_names();
        let channel = self.bus.channel().await;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let mut empty = 0;
        eventually(TIMEOUT, async || {
            let mut waiting = 0;
            for queue in &queues {
                let queue =
                    channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
                waiting += queue.message_count();
            }
            empty = if waiting == 0 { empty + 1 } else { 0 };
            Ok((empty == 20).then_some(()))
        })
        .await
        .with_context(|| format!("messages are left in the queues\n{}", self.outputs()))
    }

    /// Waits until no message is left, stops all services in order, and checks that they exit with success and that the
    /// simulator recorded no violation.
    ///
    /// # Errors
    /// When a service failed or a violation was recorded.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.quiet().await?;
        for service in self.services.drain(..) {
            let kind = service.kind;
            let (status, output) = service.terminate().await?;
            ensure!(status.success(), "{kind:?} ended with {status}:\n{output}");
        }
        let violations = self.sim.violations();
        ensure!(violations.is_empty(), "the simulator recorded violations: {violations:?}");
        self.sim.shutdown().await;
        self.bus.teardown().await;
        Ok(())
    }
}

/// A person who was asked for consent.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The invitation.
    pub session_id: SessionId,
    /// Their open id.
    pub person: String,
    /// Their card.
    pub message_id: String,
}

async fn metric(address: &str, name: &str, labels: &str) -> anyhow::Result<f64> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
    let text = http.get(format!("http://{address}/metrics")).send().await?.text().await?;
    let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("lark_service_{name}")));
    let lines = lines.filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels));
    Ok(lines.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// Waits until the document at this path contains `wanted`.
async fn wait_for(address: &str, path: &str, wanted: &str) -> anyhow::Result<()> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
    eventually(TIMEOUT, async || {
        let Ok(answer) = http.get(format!("http://{address}{path}")).send().await else { return Ok(None) };
        Ok(answer.text().await?.contains(wanted).then_some(()))
    })
    .await
    .with_context(|| format!("{path} does not become {wanted}"))
}

fn host_and_port(url: &SecretString) -> anyhow::Result<String> {
    let url = reqwest::Url::parse(url.expose_secret())?;
    Ok(format!("{}:{}", url.host_str().unwrap_or("127.0.0.1"), url.port().unwrap_or(5432)))
}

fn through(url: &SecretString, proxy: &TcpProxy) -> anyhow::Result<String> {
    let mut url = reqwest::Url::parse(url.expose_secret())?;
    url.set_host(Some("127.0.0.1"))?;
    url.set_port(Some(proxy.address().port())).ok().context("the address has no port")?;
    Ok(url.into())
}
