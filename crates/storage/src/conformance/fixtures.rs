//! What every case works with: the stores, a clock, and records with valid values.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_models::{
    AppId, Application, AuthMethod, AuthSession, Brand, CardOptions, Clock, ConsentSecrets, Entropy,
    ManualClock, OpenId, Person, SecretString, SeededEntropy, SessionId, Timestamp, TokenApi, TokenPair,
    UserId, UserProfile,
};
use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

use crate::{
    AuditEntry, Cipher, Completion, Created, ExchangeClaim, InvitationLimit, NewSession, Store,
    testing::{self, test_cipher},
};

/// A database to run a case on; removed when dropped.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Opens another store on the same data, with its own connections, as another process does.
    async fn open(&self, cipher: Cipher) -> Arc<dyn Store>;
}

/// A test bed: a store with two applications, a second store on the same data, and a clock that only the case advances.
pub struct Bed {
    /// The store under test.
    pub store: Arc<dyn Store>,
    /// A second store on the same data.
    pub second: Arc<dyn Store>,
    /// A registered application.
    pub app: AppId,
    /// Another registered application.
    pub other_app: AppId,
    pub(super) clock: ManualClock,
    entropy: SeededEntropy,
    pub(super) backend: Box<dyn Backend>,
}

impl std::fmt::Debug for Bed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bed").finish_non_exhaustive()
    }
}

impl Bed {
    /// Opens two stores on the backend and registers two applications.
    pub async fn new(backend: impl Backend) -> Self {
        let store = backend.open(test_cipher()).await;
        let second = backend.open(test_cipher()).await;
        let start = Timestamp::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let bed = Self {
            store,
            second,
            app: AppId::new("cli_00000000000000a1").unwrap(),
            other_app: AppId::new("cli_00000000000000a2").unwrap(),
            clock: ManualClock::at(start),
            entropy: SeededEntropy::new(11),
            backend: Box::new(backend),
        };
        for app_id in [&bed.app, &bed.other_app] {
            bed.store.put_application(&application(app_id), &bed.act()).await.unwrap();
        }
        bed
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the record of an act now.
    pub(super) fn act(&self) -> AuditEntry {
        testing::act(self.now())
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(super) fn uuid(&self) -> Uuid {
        self.entropy.uuid(&self.clock)
    }

    /// Returns a session that expires after 600 s.
    pub(super) fn new_session(&self, app_id: &AppId, person: Person) -> NewSession {
        NewSession {
            id: SessionId(self.uuid()),
            app_id: app_id.clone(),
            person,
            auth_method: AuthMethod::WebsocketCard,
            scopes: vec!["offline_access".to_owned()],
            card: CardOptions::default(),
            consent: ConsentSecrets {
                state: self.entropy.secret_token(),
                pkce_verifier: self.entropy.secret_token(),
            },
            created_at: self.now(),
            expires_at: self.now() + Duration::from_secs(600),
            takes_card_of: None,
            audit: self.act(),
        }
    }

    pub(super) async fn create(&self, new: &NewSession) -> SessionId {
        assert_eq!(self.store.create_session(new, UNLIMITED).await.unwrap(), Created::Created);
        new.id
    }

    /// Creates a pending session of [`Bed::app`].
    pub(super) async fn pending(&self, open_id: &str) -> SessionId {
        self.create(&self.new_session(&self.app, person(open_id))).await
    }

    /// Creates a pending session that is claimed for 60 s.
    pub(super) async fn claimed(&self, open_id: &str) -> (SessionId, Uuid) {
        let id = self.pending(open_id).await;
        (id, self.claim(id).await)
    }

    pub(super) async fn claim(&self, id: SessionId) -> Uuid {
        self.claim_for(id, Duration::from_secs(60)).await
    }

    /// Claims the exchange for `life` of the database's clock. A claim of no life has expired at once.
    pub(super) async fn claim_for(&self, id: SessionId, life: Duration) -> Uuid {
        let claim = self.uuid();
        let outcome = self.store.claim_exchange(id, None, claim, life).await.unwrap();
        assert_eq!(outcome, ExchangeClaim::Claimed);
        claim
    }

    /// Claims the exchange for `life` and marks the code as sent.
    pub(super) async fn sent_for(&self, id: SessionId, life: Duration) -> Uuid {
        let claim = self.claim_for(id, life).await;
        assert!(self.store.mark_exchange_sent(id, claim).await.unwrap());
        claim
    }

    /// Returns a pair that Lark gives now.
    pub(super) fn pair(&self, token: &str) -> TokenPair {
        TokenPair {
            access_token: secret(token),
            access_expires_at: self.now() + Duration::from_secs(7200),
            refresh_token: Some(secret(&format!("refresh-{token}"))),
            refresh_expires_at: Some(self.now() + Duration::from_secs(604_800)),
            scopes: vec!["offline_access".to_owned(), "contact:user.email:readonly".to_owned()],
        }
    }

    pub(super) fn completion(
        &self,
        session_id: SessionId,
        claim: Uuid,
        open_id: &str,
        token: &str,
    ) -> Completion {
        Completion {
            session_id,
            claim,
            pair: self.pair(token),
            profile: profile(open_id),
            next_attempt_at: None,
            now: self.now(),
            audit: self.act(),
        }
    }

    /// Creates a completed session.
    pub(super) async fn completed(&self, app_id: &AppId, open_id: &str, token: &str) -> SessionId {
        let id = self.create(&self.new_session(app_id, person(open_id))).await;
        let claim = self.claim(id).await;
        assert!(self.store.complete_session(&self.completion(id, claim, open_id, token)).await.unwrap());
        id
    }

    pub(super) async fn get(&self, id: SessionId) -> AuthSession {
        self.second.session(id).await.unwrap().unwrap()
    }

    /// Starts `count` attempts at the same moment, half of them on the second store, and returns their results.
    pub(super) async fn race<T: Send + 'static, F: Future<Output = crate::Result<T>> + Send + 'static>(
        &self,
        count: usize,
        attempt: impl Fn(usize, Arc<dyn Store>) -> F,
    ) -> Vec<T> {
        let start = Arc::new(Barrier::new(count));
        let mut attempts = JoinSet::new();
        for number in 0..count {
            let store = if number % 2 == 0 { &self.store } else { &self.second };
            let attempt = attempt(number, Arc::clone(store));
            let start = Arc::clone(&start);
            attempts.spawn(async move {
                start.wait().await;
                attempt.await
            });
        }
        attempts.join_all().await.into_iter().map(Result::unwrap).collect()
    }
}

pub(super) const UNLIMITED: InvitationLimit =
    InvitationLimit { max: 1_000_000, window: Duration::from_secs(60) };

pub(super) fn application(app_id: &AppId) -> Application {
    Application {
        app_id: app_id.clone(),
        app_secret: secret("app-secret"),
        verification_token: None,
        encrypt_key: None,
        brand: Brand::Feishu,
        token_api: TokenApi::V2,
        redirect_uri: "http://127.0.0.1:8080/oauth/callback".parse().unwrap(),
        default_scopes: vec!["offline_access".to_owned()],
        enabled: true,
        frozen_since: None,
        frozen_reason: None,
    }
}

pub(super) fn profile(open_id: &str) -> UserProfile {
    UserProfile {
        open_id: ou(open_id),
        union_id: Some(format!("on_{open_id}").parse().unwrap()),
        user_id: Some(UserId::new(format!("u_{open_id}")).unwrap()),
        name: Some("小明".to_owned()),
        en_name: Some("Xiao Ming".to_owned()),
        avatar_url: Some("https://example.com/a.png".to_owned()),
        email: Some(secret("ming@example.com")),
        mobile: Some(secret("+8613800138000")),
        tenant_key: Some("tenant-1".to_owned()),
    }
}

pub(super) fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

pub(super) fn ou(open_id: &str) -> OpenId {
    OpenId::new(open_id).unwrap()
}

pub(super) fn person(open_id: &str) -> Person {
    Person { open_id: Some(ou(open_id)), user_id: None }
}

pub(super) fn wins(outcomes: &[bool]) -> usize {
    outcomes.iter().filter(|won| **won).count()
}
