use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use larkauth_auth::{
    AppRegistry, AuditTimings, Context, ContextParts, EscrowSpool, LarkSettings, Policy, handlers,
    sessions::Invite,
};
use larkauth_contracts::{
    message::{
        AuthorizationCodeReceived, CardActionKind, CardActionTriggered, Envelope, InvitationRequested,
        Message, Reply, SealedText,
    },
    topology::Queue,
};
use larkauth_lark::{Endpoints, HttpTimeouts, http_client};
use larkauth_lark_sim::{Sim, SimApp, SimConfig, SimHandle};
use larkauth_messaging::{
    Bus, BusError, BusHealth, Consume, DeadLetter, Delivery, Disposition, Handler, Offer, Offered, Outgoing,
    PendingReply,
};
use larkauth_models::{
    Actor, AppId, Application, AuthMethod, AuthSession, Brand, CardOptions, Clock, EventId, ExposeSecret,
    ManualClock, MessageId, OpenId, OsEntropy, Person, SecretString, SessionId, Timestamp, TokenApi,
};
use larkauth_net::Network;
use larkauth_storage::{
    InvitationLimit, Store,
    testing::{act, test_cipher},
};
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_telemetry::Metrics;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

/// Who asks in these tests.
pub(crate) const ACTOR: Actor = Actor::service("test");

/// Token of a process that is not stopping.
pub(crate) fn running() -> CancellationToken {
    CancellationToken::new()
}
pub(crate) const APP: &str = "cli_0123456789abcdef";
pub(crate) const SECRET: &str = "simulated-app-secret-0123456789";
const REDIRECT: &str = "http://127.0.0.1:8080/oauth/callback";

/// What a test may choose.
pub(crate) struct Setup {
    pub(crate) sim: SimConfig,
    /// How far Lark's clock is ahead.
    pub(crate) lark_ahead: TimeDelta,
    pub(crate) token_api: TokenApi,
    pub(crate) policy: Policy,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            sim: SimConfig::default().with_users(3),
            lark_ahead: TimeDelta::zero(),
            token_api: TokenApi::V2,
            policy: policy(100),
        }
    }
}

/// The defaults, with so many invitations for a person per minute. Every read asks the database, which tests change directly.
pub(crate) fn policy(invitations: u32) -> Policy {
    Policy {
        source: "/larkauth/test".to_owned(),
        audit: AuditTimings { interval: Duration::from_millis(10), ..AuditTimings::default() },
        invitation_limit: InvitationLimit { max: invitations, window: Duration::from_secs(60) },
        read_staleness: Duration::ZERO,
        ..Policy::default()
    }
}

/// A clock that differs from another one.
#[derive(Debug)]
pub(crate) struct SkewedClock {
    from: Arc<ManualClock>,
    ahead: Mutex<TimeDelta>,
}

impl SkewedClock {
    pub(crate) const fn new(from: Arc<ManualClock>, ahead: TimeDelta) -> Self {
        Self { from, ahead: Mutex::new(ahead) }
    }

    pub(crate) fn jump(&self, by: TimeDelta) {
        *self.ahead.lock().unwrap() += by;
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        self.from.now() + *self.ahead.lock().unwrap()
    }
}

/// A context with everything it needs. Time stands still for all of it.
pub(crate) struct Fixture {
    pub(crate) context: Context,
    /// What the context was built from, to look behind it or to build another one.
    pub(crate) parts: ContextParts,
    pub(crate) bus: Arc<Recorder>,
    pub(crate) clock: Arc<ManualClock>,
    /// The clock of the simulated Lark.
    pub(crate) lark_clock: Arc<SkewedClock>,
    pub(crate) sim: SimHandle,
    pub(crate) database: TestDatabase,
    /// Where Lark posts callbacks: answered with nothing, so that a test can look at them.
    pub(crate) callbacks: MockServer,
    /// Parent of the folder for tokens that neither store nor bus takes.
    pub(crate) spool: TempDir,
}

/// A person with a card in the chat.
#[derive(Clone)]
pub(crate) struct Invited {
    pub(crate) session_id: SessionId,
    pub(crate) message_id: MessageId,
    pub(crate) open_id: OpenId,
}

impl Fixture {
    /// Changes the database behind the operations.
    pub(crate) async fn sql(&self, statements: &'static str) {
        let mut connection = self.database.connection().await;
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    }

    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let start = Timestamp::from_timestamp_micros(1_790_000_000_123_456).unwrap();
        let clock = Arc::new(ManualClock::at(start));
        let callbacks = MockServer::start().await;
        Mock::given(any())
            .respond_with(ResponseTemplate::new(200).set_body_string("{}"))
            .mount(&callbacks)
            .await;
        let app = SimApp::new(APP, SECRET).with_redirect_uri(REDIRECT).with_callback_url(callbacks.uri());
        let lark_clock = Arc::new(SkewedClock::new(clock.clone(), setup.lark_ahead));
        let sim = Sim::start(setup.sim.with_app(app).with_clock(lark_clock.clone())).await.unwrap();

        let database = TestDatabase::create().await;
        let store: Arc<dyn Store> = Arc::new(database.store().await);
        let hosts = Endpoints {
            base_url: sim.base_url().parse().unwrap(),
            accounts_url: sim.accounts_url().parse().unwrap(),
        };
        let lark = LarkSettings {
            http: http_client(&HttpTimeouts::default(), &Network::default()).unwrap(),
            network: Network::default(),
            feishu: hosts.clone(),
            lark: hosts,
            rate_limiter: Arc::new(larkauth_lark::api::LocalRateLimiter::default()),
        };
        let (bus, metrics) = (Arc::new(Recorder::default()), Metrics::new().unwrap());
        let spool = tempfile::tempdir().unwrap();
        let policy = setup.policy;
        let apps = AppRegistry::new(store.clone(), lark, clock.clone(), metrics.clone(), &policy);
        let parts = ContextParts {
            apps: Arc::new(apps),
            store,
            bus: bus.clone(),
            cipher: test_cipher(),
            spool: EscrowSpool::new(spool.path().join("escrow")),
            clock: clock.clone(),
            entropy: Arc::new(OsEntropy),
            metrics,
            policy,
        };
        let context = Context::new(parts.clone());
        let fixture = Self { context, parts, bus, clock, lark_clock, sim, database, callbacks, spool };
        let application = fixture.application(APP, setup.token_api);
        fixture.parts.store.put_application(&application, &act(start)).await.unwrap();
        fixture
    }

    pub(crate) fn application(&self, app_id: &str, token_api: TokenApi) -> Application {
        Application {
            app_id: AppId::new(app_id).unwrap(),
            app_secret: SecretString::from(SECRET),
            verification_token: None,
            encrypt_key: None,
            brand: Brand::Feishu,
            token_api,
            redirect_uri: REDIRECT.parse().unwrap(),
            default_scopes: vec!["offline_access".to_owned()],
            enabled: true,
            frozen_since: None,
            frozen_reason: None,
        }
    }

    /// Opens the breaker of the application, as another process does. The cached registration is dropped.
    pub(crate) async fn open_breaker(&self, reason: &str) {
        let (app_id, now) = (self.app_id(), self.context.now());
        assert!(self.parts.store.set_application_frozen(&app_id, Some(reason), now).await.unwrap());
        self.context.set_application_enabled(&ACTOR, now, &app_id, true).await.unwrap();
    }

    pub(crate) fn app_id(&self) -> AppId {
        AppId::new(APP).unwrap()
    }

    /// The n-th person, from 0.
    pub(crate) fn person(&self, n: usize) -> OpenId {
        OpenId::new(self.sim.open_id(APP, &self.sim.users()[n])).unwrap()
    }

    pub(crate) fn invitation(&self, person: Person) -> Invite {
        Invite {
            app_id: self.app_id(),
            person,
            auth_method: AuthMethod::WebsocketCard,
            scopes: None,
            card: CardOptions::default(),
        }
    }

    /// The n-th person is asked and has the card.
    pub(crate) async fn invited(&self, n: usize) -> Invited {
        let open_id = self.person(n);
        self.invited_as(n, Person { open_id: Some(open_id), user_id: None }).await
    }

    pub(crate) async fn invited_as(&self, n: usize, person: Person) -> Invited {
        let session = self.context.invite(&ACTOR, self.context.now(), self.invitation(person)).await.unwrap();
        let message = self.bus.take::<InvitationRequested>();
        assert_eq!(self.deliver(message).await, Disposition::DONE);
        let message_id = self.session(session.id).await.message_id.unwrap();
        Invited { session_id: session.id, message_id, open_id: self.person(n) }
    }

    pub(crate) async fn session(&self, id: SessionId) -> AuthSession {
        self.context.session(&ACTOR, self.context.now(), id).await.unwrap()
    }

    /// A message as the gateway would publish it now, with a fresh id.
    pub(crate) fn message<T: Message>(&self, data: T) -> Envelope<T> {
        let id = self.context.new_uuid().to_string();
        Envelope::new(EventId::new(id).unwrap(), "/larkauth/test", self.clock.now(), self.app_id(), data)
    }

    pub(crate) async fn deliver<T: Message>(&self, message: Envelope<T>) -> Disposition {
        self.handle(delivery(&message)).await
    }

    /// Hands a delivery to the handler of its queue.
    pub(crate) async fn handle(&self, delivery: Delivery) -> Disposition {
        let queue = queue_of(&delivery.routing_key);
        let consumers = handlers::consumers(&self.context, 1);
        let (_, handler) = consumers.into_iter().find(|(what, _)| what.queue == queue).unwrap();
        handler.handle(delivery).await
    }

    pub(crate) fn click(&self, on: &Invited, action: CardActionKind) -> Envelope<CardActionTriggered> {
        self.message(CardActionTriggered {
            session_id: on.session_id,
            action,
            operator_open_id: on.open_id.clone(),
            operator_user_id: None,
            operator_union_id: None,
            message_id: Some(on.message_id.clone()),
            code: None,
        })
    }

    /// The n-th person consents to this invitation. Returns the code of the redirect.
    pub(crate) async fn consent(&self, to: &Invited, n: usize) -> SecretString {
        let mut session = self.session(to.session_id).await;
        // The card's button opens the page that a caller without a card is given.
        session.auth_method = AuthMethod::Oauth;
        let page = self.context.consent_page(&ACTOR, self.context.now(), &session).await;
        let url = page.unwrap().unwrap();
        let redirect = self.sim.consent(url.as_str(), self.person(n).as_str()).await.unwrap();
        let redirect = Url::parse(&redirect).unwrap();
        let code = redirect.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
        SecretString::from(code)
    }

    pub(crate) fn sealed(&self, session_id: SessionId, code: &SecretString) -> SealedText {
        let context = ["message.authorization_code", &session_id.to_string()];
        SealedText(self.parts.cipher.seal(&context, code).unwrap().to_text())
    }

    /// The code as the gateway hands it on, bound to its session.
    pub(crate) async fn code_message(
        &self,
        to: &Invited,
        code: &SecretString,
    ) -> Envelope<AuthorizationCodeReceived> {
        let sha256 = Sha256::digest(code.expose_secret()).into();
        self.parts.store.bind_code(to.session_id, &sha256).await.unwrap();
        let code = self.sealed(to.session_id, code);
        self.message(AuthorizationCodeReceived { session_id: to.session_id, code })
    }

    /// The person clicks in the simulated chat. Returns the callback as Lark posts it.
    pub(crate) async fn callback(&self, on: &Invited, button: &str, with_code: bool) -> Vec<u8> {
        let (message, person) = (on.message_id.as_str(), on.open_id.as_str());
        let click = if with_code {
            self.sim.click_with_code(message, button, person).await
        } else {
            self.sim.click(message, button, person).await
        };
        assert!(click.unwrap().answered);
        self.callbacks.received_requests().await.unwrap().pop().unwrap().body
    }

    /// The code inside a card callback.
    pub(crate) async fn card_code(&self, on: &Invited) -> SecretString {
        let body: serde_json::Value =
            serde_json::from_slice(&self.callback(on, "authorize", true).await).unwrap();
        SecretString::from(body["event"]["action"]["value"]["authorization_code"].as_str().unwrap())
    }

    /// The colour of the card in the chat now.
    pub(crate) fn colour(&self, of: &Invited) -> String {
        let card = self.sim.card(of.message_id.as_str()).unwrap();
        card["header"]["template"].as_str().unwrap().to_owned()
    }
}

fn queue_of(routing_key: &str) -> Queue {
    match routing_key.split('.').next().unwrap() {
        "invitation" => Queue::Invitations,
        "oauth" => Queue::OauthRedirects,
        "token" => Queue::Escrows,
        "card" if routing_key.starts_with("card.action") => Queue::CardActions,
        _ => Queue::CardFaces,
    }
}

/// A first delivery of the message.
pub(crate) fn delivery<T: Message>(message: &Envelope<T>) -> Delivery {
    let outgoing = Outgoing::new(message).unwrap();
    Delivery {
        id: outgoing.id,
        routing_key: outgoing.routing_key.to_owned(),
        r#type: outgoing.r#type.to_owned(),
        body: outgoing.body,
        headers: outgoing.headers,
        attempt: 1,
        redelivered: false,
        reply_to: None,
    }
}

/// The reply of a disposition that has one.
pub(crate) fn reply(disposition: Disposition) -> Reply {
    match disposition {
        Disposition::Done { reply: Some(body) } => serde_json::from_slice(&body).unwrap(),
        other => panic!("no reply: {other:?}"),
    }
}

/// What the person sees: the toast's words and the card's colour.
pub(crate) fn seen(reply: &Reply) -> (String, Option<String>) {
    let answer = reply.answer.as_ref().unwrap();
    let colour = answer["card"]["data"]["header"]["template"].as_str().map(str::to_owned);
    (answer["toast"]["content"].as_str().unwrap().to_owned(), colour)
}

/// A bus that records what is published and has no consumer.
pub(crate) struct Recorder {
    published: Mutex<VecDeque<Published>>,
    /// What is for other programs.
    pub(crate) offered: Mutex<Vec<Offer>>,
    down: AtomicBool,
    health: watch::Sender<BusHealth>,
}

pub(crate) struct Published {
    pub(crate) message: Outgoing,
    pub(crate) later: Option<(Queue, Duration)>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            published: Mutex::default(),
            offered: Mutex::default(),
            down: AtomicBool::new(false),
            health: watch::Sender::new(BusHealth::Up),
        }
    }
}

impl Recorder {
    pub(crate) fn go_down(&self) {
        self.down.store(true, Ordering::SeqCst);
    }

    pub(crate) fn come_back(&self) {
        self.down.store(false, Ordering::SeqCst);
    }

    /// Takes the first message of this type out.
    pub(crate) fn take<T: Message>(&self) -> Envelope<T> {
        self.take_delayed::<T>().0
    }

    /// The same, and what it has to wait for.
    pub(crate) fn take_delayed<T: Message>(&self) -> (Envelope<T>, Option<(Queue, Duration)>) {
        let mut published = self.published.lock().unwrap();
        let index = published.iter().position(|p| p.message.r#type == T::TYPE);
        let index = index.unwrap_or_else(|| panic!("no {} was published", T::TYPE));
        let Published { message, later } = published.remove(index).unwrap();
        (Envelope::decode(&message.body).unwrap(), later)
    }

    /// The types of what is left.
    pub(crate) fn left(&self) -> Vec<&'static str> {
        self.published.lock().unwrap().iter().map(|p| p.message.r#type).collect()
    }

    fn note(&self, message: Outgoing, later: Option<(Queue, Duration)>) -> Result<(), BusError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(BusError::Unavailable { during: "publish", message: "switched off".to_owned() });
        }
        self.published.lock().unwrap().push_back(Published { message, later });
        Ok(())
    }
}

#[async_trait]
impl Bus for Recorder {
    async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        self.note(message, None)
    }
    async fn request(&self, message: Outgoing) -> Result<PendingReply, BusError> {
        self.note(message, None)?;
        Err(BusError::Unavailable { during: "request", message: "there is no consumer".to_owned() })
    }
    async fn offer(&self, offer: Offer) -> Result<Offered, BusError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(BusError::Unavailable { during: "publish", message: "switched off".to_owned() });
        }
        self.offered.lock().unwrap().push(offer);
        Ok(Offered::Unsupported)
    }
    async fn publish_later(&self, message: Outgoing, queue: Queue, delay: Duration) -> Result<(), BusError> {
        self.note(message, Some((queue, delay)))
    }
    async fn consume(
        &self,
        _: Consume,
        _: Arc<dyn Handler>,
        shutdown: CancellationToken,
    ) -> Result<(), BusError> {
        shutdown.cancelled().await;
        Ok(())
    }
    async fn depth(&self, _: Queue) -> Result<u64, BusError> {
        Ok(0)
    }
    async fn dead_letter_depth(&self) -> Result<u64, BusError> {
        Ok(0)
    }
    async fn dead_letters(&self, _: u32) -> Result<Vec<DeadLetter>, BusError> {
        Ok(Vec::new())
    }
    async fn requeue_dead_letter(&self, _: &EventId) -> Result<bool, BusError> {
        Ok(false)
    }
    async fn drop_dead_letter(&self, _: &EventId) -> Result<bool, BusError> {
        Ok(false)
    }
    fn health(&self) -> watch::Receiver<BusHealth> {
        self.health.subscribe()
    }
    async fn close(&self) {}
}
