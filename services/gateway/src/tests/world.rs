use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode, request::Parts},
    response::Response,
};
use larkauth_auth::{AppRegistry, Context, ContextParts, EscrowSpool, LarkSettings, Policy};
use larkauth_config::HttpSettings;
use larkauth_contracts::{problem::Problem, topology::Queue};
use larkauth_lark::{HttpTimeouts, api::Endpoints, http_client};
use larkauth_messaging::{
    Bus, BusError, BusHealth, Consume, DeadLetter, Handler, Offer, Offered, Outgoing, PendingReply,
};
use larkauth_models::{
    AppId, Application, AuthMethod, AuthSession, Brand, CardFace, CardOptions, ConsentSecrets, Entropy,
    EventId, MessageId, OpenId, OsEntropy, Person, SecretString, SessionId, SystemClock, Timestamp, TokenApi,
    TokenPair, UserProfile,
};
use larkauth_net::Network;
use larkauth_runtime::Shortcut;
use larkauth_storage::{
    Cipher, Completion, InvitationLimit, NewSession, Store,
    testing::{act, test_cipher},
};
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_telemetry::{Health, Metrics};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    actor::ACTOR,
    callbacks::{self, Callbacks},
    router,
    state::AppState,
};

pub(super) const APP: &str = "cli_0123456789abcdef";
pub(super) const KEY: &str = "a-bootstrap-api-key";
pub(super) const ENCRYPT_KEY: &str = "test key";
pub(super) const PERSON: &str = "ou_person";
pub(super) const EMAIL: &str = "li.lei@example.com";
pub(super) const MOBILE: &str = "+8613800000000";

/// Confirms everything or nothing; never answers a request.
#[derive(Default)]
pub(super) struct FakeBus {
    pub(super) down: AtomicBool,
    pub(super) published: Mutex<Vec<Outgoing>>,
    pub(super) offered: Mutex<Vec<Offer>>,
    pub(super) letters: Mutex<Vec<DeadLetter>>,
}

impl FakeBus {
    fn take(&self, message: Outgoing) -> Result<(), BusError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(BusError::Unavailable { during: "publish", message: "it is down".to_owned() });
        }
        self.published.lock().unwrap().push(message);
        Ok(())
    }
}

impl FakeBus {
    fn remove(&self, id: &EventId) -> bool {
        let mut letters = self.letters.lock().unwrap();
        let place = letters.iter().position(|letter| letter.id == *id);
        place.map(|place| letters.remove(place)).is_some()
    }
}

#[async_trait]
impl Bus for FakeBus {
    async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        self.take(message)
    }
    async fn offer(&self, offer: Offer) -> Result<Offered, BusError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(BusError::Unavailable { during: "publish", message: "it is down".to_owned() });
        }
        self.offered.lock().unwrap().push(offer);
        Ok(Offered::Taken(None))
    }
    async fn request(&self, _: Outgoing) -> Result<PendingReply, BusError> {
        Err(BusError::Unavailable { during: "request", message: "it is down".to_owned() })
    }
    async fn publish_later(&self, message: Outgoing, _: Queue, _: Duration) -> Result<(), BusError> {
        self.take(message)
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
        Ok(self.letters.lock().unwrap().len() as u64)
    }
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, BusError> {
        Ok(self.letters.lock().unwrap().iter().take(limit as usize).cloned().collect())
    }
    async fn requeue_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        Ok(self.remove(id))
    }
    async fn drop_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        Ok(self.remove(id))
    }
    fn health(&self) -> watch::Receiver<BusHealth> {
        watch::channel(BusHealth::Up).1
    }
    async fn close(&self) {}
}

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    /// Checks the form of a problem document and gives it.
    pub(super) fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        assert_eq!(
            (self.header("cache-control"), self.header("x-content-type-options")),
            ("no-store", "nosniff")
        );
        let problem: Problem = self.json();
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.request_id.as_deref(), Some(self.header("x-request-id")));
        assert_eq!(problem.r#type, format!("/docs/problems#{}", problem.code.as_str()));
        assert_eq!(
            problem.retry_after.map(|s| s.to_string()).unwrap_or_default(),
            self.header("retry-after")
        );
        problem
    }
    /// Its code and detail, in one line.
    pub(super) fn summary(&self) -> String {
        let problem = self.problem();
        format!("{} {}: {}", problem.status, problem.code.as_str(), problem.detail.unwrap_or_default())
    }
}

pub(super) struct World {
    pub(super) database: TestDatabase,
    pub(super) context: Context,
    /// What the context stands on, to arrange and to look behind it.
    pub(super) store: Arc<dyn Store>,
    pub(super) callbacks: Arc<Callbacks>,
    deliveries: Option<mpsc::Receiver<callbacks::Sent>>,
    pub(super) stopping: CancellationToken,
    pub(super) router: Router,
    /// What `router` stands on.
    pub(super) state: Option<Arc<AppState>>,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with_bus(Arc::new(FakeBus::default())).await
    }

    pub(super) async fn with_bus(bus: Arc<dyn Bus>) -> Self {
        let database = TestDatabase::create().await;
        let world = Self::on(database, test_cipher(), bus).await;
        world.store.put_application(&application(APP), &act(now())).await.unwrap();
        world
    }

    pub(super) async fn on(database: TestDatabase, cipher: Cipher, bus: Arc<dyn Bus>) -> Self {
        let store =
            larkauth_storage_postgres::PgStore::connect(&database.options(), cipher.clone()).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        // A port without a listener.
        let nowhere = Endpoints {
            base_url: "http://127.0.0.1:1".parse().unwrap(),
            accounts_url: "http://127.0.0.1:1".parse().unwrap(),
        };
        let lark = LarkSettings {
            http: http_client(&HttpTimeouts::default(), &Network::default()).unwrap(),
            network: Network::default(),
            feishu: nowhere.clone(),
            lark: nowhere,
            rate_limiter: Arc::new(larkauth_lark::api::LocalRateLimiter::default()),
        };
        let (clock, metrics) = (Arc::new(SystemClock), Metrics::new().unwrap());
        let policy = Policy {
            source: "/larkauth/gateway".to_owned(),
            invitation_limit: InvitationLimit { max: 2, window: Duration::from_secs(60) },
            ..Policy::default()
        };
        let apps = AppRegistry::new(store.clone(), lark, clock.clone(), metrics.clone(), &policy);
        let context = Context::new(ContextParts {
            apps: Arc::new(apps),
            store: store.clone(),
            bus,
            cipher,
            spool: EscrowSpool::new("no-spool".into()),
            clock,
            entropy: Arc::new(OsEntropy),
            metrics,
            policy,
        });
        let (callbacks, deliveries) = Callbacks::new(context.clone());
        let stopping = CancellationToken::new();
        let http = HttpSettings {
            addr: "127.0.0.1:0".parse().unwrap(),
            public_addr: None,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            callback_enabled: false,
            callback_allow_unsigned: false,
            api_key: Some(KEY.into()),
        };
        let health = Health::new(context.clock().clone());
        let state = AppState::new(context.clone(), &http, callbacks.clone(), health, stopping.clone());
        let router = router::common_router(&state);
        Self {
            database,
            context,
            store,
            callbacks,
            deliveries: Some(deliveries),
            stopping,
            router,
            state: Some(state),
        }
    }

    /// How many more long polls may wait.
    pub(super) fn free_long_polls(&self) -> usize {
        self.state.as_ref().unwrap().long_polls.available_permits()
    }

    /// Records every sent answer; afterwards no answer can be sent any more.
    pub(super) async fn record_sent_answers(&mut self) {
        (self.router, self.state) = (Router::new(), None);
        self.callbacks = Callbacks::new(self.context.clone()).0;
        callbacks::record_sent_answers(self.context.clone(), self.deliveries.take().unwrap()).await.unwrap();
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let (mut head, body) = request.into_parts();
        match self.send_to_shortcut(&mut head).await {
            Some(answer) => answer,
            None => self.send_to_router(Request::from_parts(head, body)).await,
        }
    }

    /// Sends a request to what is before the router.
    pub(super) async fn send_to_shortcut(&self, head: &mut Parts) -> Option<Answer> {
        let shortcut = router::shortcut(self.state.as_ref()?);
        if !shortcut.takes(head) {
            return None;
        }
        Some(Self::read(shortcut.answer(head).await?).await)
    }

    pub(super) async fn send_to_router(&self, request: Request<Body>) -> Answer {
        Self::read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn read(response: Response) -> Answer {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = request("POST", path).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Creates a pending session without a card.
    pub(super) async fn session(&self, auth_method: AuthMethod) -> AuthSession {
        let entropy = OsEntropy;
        let new = NewSession {
            id: SessionId(entropy.uuid(&SystemClock)),
            app_id: app_id(),
            person: Person { open_id: Some(OpenId::new(PERSON).unwrap()), user_id: None },
            auth_method,
            scopes: vec!["offline_access".to_owned()],
            card: CardOptions::default(),
            consent: ConsentSecrets { state: entropy.secret_token(), pkce_verifier: entropy.secret_token() },
            created_at: now(),
            expires_at: now() + chrono::TimeDelta::seconds(600),
            takes_card_of: None,
            audit: act(now()),
        };
        let limit = InvitationLimit { max: 1000, window: Duration::from_secs(60) };
        self.store.create_session(&new, limit).await.unwrap();
        if auth_method.has_card() {
            let message_id = MessageId::new(format!("om_{}", new.id)).unwrap();
            self.store.record_card(new.id, &message_id, CardFace::Invitation).await.unwrap();
        }
        self.context.session(&ACTOR, self.context.now(), new.id).await.unwrap()
    }

    /// Has the session end well, with this token.
    pub(super) async fn complete(&self, session: &AuthSession, access_token: &str, name: &str) {
        let claim = OsEntropy.uuid(&SystemClock);
        let (now, hour) = (now(), chrono::TimeDelta::hours(1));
        let store = &self.store;
        store.bind_code(session.id, &[1; 32]).await.unwrap();
        store.claim_exchange(session.id, None, claim, Duration::from_secs(60)).await.unwrap();
        let completion = Completion {
            session_id: session.id,
            claim,
            pair: TokenPair {
                access_token: access_token.into(),
                access_expires_at: now + hour,
                refresh_token: Some("refresh".into()),
                refresh_expires_at: Some(now + hour),
                scopes: vec!["offline_access".to_owned()],
            },
            profile: UserProfile {
                open_id: OpenId::new(PERSON).unwrap(),
                union_id: None,
                user_id: None,
                name: Some(name.to_owned()),
                en_name: Some(format!("{name} in English")),
                avatar_url: None,
                email: Some(EMAIL.into()),
                mobile: Some(MOBILE.into()),
                tenant_key: None,
            },
            next_attempt_at: None,
            now,
            audit: act(now),
        };
        assert!(store.complete_session(&completion).await.unwrap());
    }
}

pub(super) fn now() -> Timestamp {
    larkauth_models::Clock::now(&SystemClock)
}

pub(super) fn app_id() -> AppId {
    AppId::new(APP).unwrap()
}

pub(super) fn application(app_id: &str) -> Application {
    Application {
        app_id: AppId::new(app_id).unwrap(),
        app_secret: SecretString::from("app secret"),
        verification_token: Some("verification token".into()),
        encrypt_key: Some(ENCRYPT_KEY.into()),
        brand: Brand::Feishu,
        token_api: TokenApi::V2,
        redirect_uri: "http://127.0.0.1:8080/oauth/callback".parse().unwrap(),
        default_scopes: vec!["offline_access".to_owned()],
        enabled: true,
        frozen_since: None,
        frozen_reason: None,
    }
}

/// A request with the bootstrap key.
pub(super) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer {KEY}"))
}
