//! One scenario on the long connection, played with the official SDKs and with the gateway: the simulator takes real
//! clients for what they are, and the gateway behaves like one.
//!
//! The SDKs need `eval "$(scripts/sdk-setup)" && export LARKAUTH_SDK_PYTHON LARKAUTH_SDK_NODE`.

use std::time::Duration;

use anyhow::{Context, ensure};
use larkauth_lark_sim::{
    ClickOutcome, Effect, Endpoint, Fault, Frames, Limits, Sim, SimConfig, SimHandle, Socket, UserStatus,
    ViolationKind,
};
use larkauth_models::ExposeSecret;
use larkauth_tests::{Kind, Options, SdkProgram, World};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(60);
const TOAST: &str = "已收到 received";

/// A client of the long connection.
trait Client {
    /// The platform it is connected to.
    fn sim(&self) -> &Sim;
    /// Sends a new card with a button `authorize` to a person.
    async fn card(&mut self) -> anyhow::Result<Card>;
    /// Checks that the click arrived whole and received its own answer.
    async fn understood(&mut self, card: &Card, click: &ClickOutcome) -> anyhow::Result<()>;
}

struct Card {
    message_id: String,
    person: String,
}

fn config() -> SimConfig {
    // Clients reconnect after the interval that discovery returns.
    let (at_once, soon) = (Duration::ZERO, Duration::from_secs(1));
    let socket = Socket { reconnect_nonce: at_once, reconnect_interval: soon, ..Socket::default() };
    let limits = Limits { messages_per_user: 50, ..Limits::default() };
    SimConfig { socket, limits, ..SimConfig::demo() }
}

async fn behaves(client: &mut impl Client) -> anyhow::Result<()> {
    let app_id = client.sim().apps()[0].app_id.clone();
    connected(client.sim(), &app_id, 1).await?;
    for frames in [
        Frames::default(),
        Frames::split(2),
        Frames { shuffle: true, ..Frames::split(3) },
        Frames { shuffle: true, interleave: true, ..Frames::split(4) },
        Frames::split(7),
    ] {
        clicked(client, frames).await.with_context(|| format!("{frames:?}"))?;
    }
    for drops in 1..=2 {
        ensure!(client.sim().drop_connections(Some(&app_id)) == 1, "one connection to drop");
        connected(client.sim(), &app_id, drops + 1).await.context("after the connection was cut")?;
        clicked(client, Frames::default()).await.context("after the connection was cut")?;
    }
    let violations = client.sim().violations();
    ensure!(violations.is_empty(), "what a correct client never does: {violations:?}");
    Ok(())
}

/// One connection is open, after so many were opened; the first has pinged (not every SDK pings the next ones at once).
async fn connected(sim: &Sim, app_id: &str, opened: u64) -> anyhow::Result<()> {
    let up = |sim: &Sim| {
        let stats = sim.stats();
        let up = sim.connections(app_id) == 1 && stats.connections_opened == opened && stats.pings >= 1;
        up.then_some(())
    };
    sim.wait_until(TIMEOUT, up).await.with_context(|| format!("not connected: {:?}", sim.stats()))
}

async fn clicked(client: &mut impl Client, frames: Frames) -> anyhow::Result<()> {
    let card = client.card().await?;
    client.sim().faults().push(Fault::at(Endpoint::Push, Effect::Frames(frames)));
    let click = client.sim().click(&card.message_id, "authorize", &card.person).await?;
    ensure!(click.answered && click.error.is_none() && click.toast.is_some(), "not answered well: {click:?}");
    client.understood(&card, &click).await
}

/// The gateway, with the worker behind it.
struct Gateway(World);

impl Client for Gateway {
    fn sim(&self) -> &Sim {
        &self.0.sim
    }

    async fn card(&mut self) -> anyhow::Result<Card> {
        let asked = self.0.ask(0).await?;
        Ok(Card { message_id: asked.message_id, person: asked.person })
    }

    async fn understood(&mut self, card: &Card, click: &ClickOutcome) -> anyhow::Result<()> {
        ensure!(click.card_changed, "the card says nothing new: {click:?}");
        let shown = self.sim().card(&card.message_id).context("the card is gone")?.to_string();
        ensure!(shown.contains("Waiting for your consent"), "another face: {shown}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_on_conformance_scenario_behaves_like_official_client() -> anyhow::Result<()> {
    let sim = SimConfig { apps: Vec::new(), ..config() };
    let start = vec![Kind::Gateway, Kind::AuthWorker];
    let mut gateway = Gateway(World::start(Options { sim, start, ..Options::default() }).await?);
    behaves(&mut gateway).await.with_context(|| gateway.0.outputs())?;
    // The event between the frames is not larkauth's: answered, counted, and kept nowhere.
    let foreign = gateway.0.metric(Kind::Gateway, "foreign_events_total", "p2p_chat_entered").await?;
    assert!((foreign - 1.0).abs() < 0.1, "{foreign}");
    gateway.0.finish().await
}

/// An SDK's client as a child process; killed when dropped.
struct Sdk {
    sim: SimHandle,
    program: SdkProgram,
}

impl Sdk {
    async fn start(script: &str) -> anyhow::Result<Self> {
        let sim = Sim::start(config()).await?;
        let app = sim.apps().remove(0);
        let env = [
            ("LARK_BASE_URL", sim.base_url()),
            ("APP_ID", &app.app_id),
            ("APP_SECRET", app.secret.expose_secret()),
            ("TOAST", TOAST),
        ];
        let mut program = SdkProgram::start(script, &env)?;
        program.step("start").await?;
        Ok(Self { sim, program })
    }

    /// Asks the platform for something the way an application does.
    async fn call(&self, path: &str, bearer: &str, body: Value) -> anyhow::Result<Value> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let url = format!("{}{path}", self.sim.base_url());
        Ok(http.post(url).bearer_auth(bearer).json(&body).send().await?.json().await?)
    }
}

impl Client for Sdk {
    fn sim(&self) -> &Sim {
        &self.sim
    }

    async fn card(&mut self) -> anyhow::Result<Card> {
        let (app, person) = (self.sim.apps().remove(0), self.sim.users().remove(0).open_id);
        let credentials = json!({"app_id": app.app_id, "app_secret": app.secret.expose_secret()});
        let token = self.call("/open-apis/auth/v3/tenant_access_token/internal", "", credentials).await?;
        let token = token["tenant_access_token"].as_str().context("a tenant token")?;
        let card = json!({"schema": "2.0", "config": {"update_multi": true}, "body": {"elements": [
            {"tag": "button", "text": {"tag": "plain_text", "content": "好"},
             "behaviors": [{"type": "callback", "value": {"action": "authorize", "note": "多字节 ".repeat(50)}}]}]}});
        let message = json!({"receive_id": person, "msg_type": "interactive", "content": card.to_string()});
        let sent = self.call("/open-apis/im/v1/messages?receive_id_type=open_id", token, message).await?;
        let message_id = sent["data"]["message_id"].as_str().context("a message id")?.to_owned();
        Ok(Card { message_id, person })
    }

    async fn understood(&mut self, card: &Card, click: &ClickOutcome) -> anyhow::Result<()> {
        ensure!(
            click.toast.as_ref().is_some_and(|toast| toast["content"] == TOAST),
            "another toast: {click:?}"
        );
        let got = self.program.step("click").await?;
        let whole = got["message_id"] == card.message_id.as_str()
            && got["open_id"] == card.person.as_str()
            && got["value"]["action"] == "authorize"
            && got["value"]["note"] == "多字节 ".repeat(50);
        ensure!(whole, "the click did not arrive whole: {got}");
        Ok(())
    }
}

async fn an_sdk_behaves(script: &str) -> anyhow::Result<()> {
    let mut client = Sdk::start(script).await?;
    behaves(&mut client).await?;
    client.sim.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_on_conformance_scenario_accepts_simulator() -> anyhow::Result<()> {
    an_sdk_behaves("python_client.py").await
}

#[tokio::test(flavor = "multi_thread")]
async fn node_sdk_on_conformance_scenario_accepts_simulator() -> anyhow::Result<()> {
    an_sdk_behaves("node_client.mjs").await
}

/// An SDK reads contacts of people in every state, of one who is outside of the contact scope, and of too many at once.
async fn an_sdk_reads_contacts(script: &str) -> anyhow::Result<()> {
    let sim = Sim::start(SimConfig::demo().with_users(5)).await?;
    let app = sim.apps().remove(0);
    let people: Vec<String> = sim.users().into_iter().map(|user| user.open_id).collect();
    let states = [UserStatus::Active, UserStatus::Frozen, UserStatus::Resigned, UserStatus::Exited];
    for (person, status) in people.iter().zip(states.into_iter().chain([UserStatus::OutOfRange])) {
        sim.set_status(person, status)?;
    }
    let read = async |ids: &str| {
        let env = [
            ("LARK_BASE_URL", sim.base_url()),
            ("APP_ID", &app.app_id),
            ("APP_SECRET", app.secret.expose_secret()),
            ("USER_IDS", ids),
        ];
        SdkProgram::start(script, &env)?.step("contacts").await
    };
    let got = read(&people[..5].join(" ")).await?;
    ensure!(got["code"] == 0, "refused: {got}");
    ensure!(got["people"].as_object().is_some_and(|people| people.len() == 4), "one is outside: {got}");
    for (number, flag) in [(1, "is_frozen"), (2, "is_resigned"), (3, "is_exited")] {
        for (person, id) in people.iter().enumerate().take(4) {
            let is_set = got["people"][id][flag] == true;
            ensure!(is_set == (person == number), "{flag} of person {person}: {got}");
        }
    }
    ensure!(got["people"][&people[0]]["name"].is_string() && sim.violations().is_empty(), "{got}");
    let too_many: Vec<_> = (0..51).map(|n| format!("ou_{n:032}")).collect();
    let refused = read(&too_many.join(" ")).await?;
    ensure!(refused["code"] == 99_992_402, "51 ids: {refused}");
    ensure!(sim.violations().iter().any(|violation| violation.kind == ViolationKind::BatchSize));
    sim.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_reads_contacts_of_simulator() -> anyhow::Result<()> {
    an_sdk_reads_contacts("python_contacts.py").await
}

#[tokio::test(flavor = "multi_thread")]
async fn node_sdk_reads_contacts_of_simulator() -> anyhow::Result<()> {
    an_sdk_reads_contacts("node_contacts.mjs").await
}
