//! The suite that every [`Store`] must pass.
//!
//! A test file of an implementation is one line, [`conformance_suite!`](crate::conformance_suite) with an expression
//! that makes a [`Backend`]. To add a case: write a `pub async fn name(bed: &Bed)` in one of the modules here, and its
//! name in the list of the macro.

pub mod exchange;
pub mod expiry;
pub mod invitations;
pub mod job_ticks;
pub mod records;
pub mod sessions;

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
    Cipher, Completion, Created, ExchangeClaim, InvitationLimit, NewSession, Store,
    testing::{TestDatabase, TestSqlite, test_cipher},
};

/// A database to run a case on; removed when dropped.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Another handle to the same data, as another process would have it.
    async fn open(&self, cipher: Cipher) -> Arc<dyn Store>;
}

#[async_trait]
impl Backend for TestDatabase {
    async fn open(&self, cipher: Cipher) -> Arc<dyn Store> {
        Arc::new(crate::PgStore::connect(&self.options(), cipher).await.unwrap())
    }
}

#[async_trait]
impl Backend for TestSqlite {
    async fn open(&self, cipher: Cipher) -> Arc<dyn Store> {
        Arc::new(crate::SqliteStore::open(&self.options(), cipher).await.unwrap())
    }
}

/// One `#[tokio::test]` for each case of the suite; the argument makes the [`Backend`](crate::conformance::Backend).
#[macro_export]
macro_rules! conformance_suite {
    ($backend:expr) => {
        $crate::conformance_suite!(@cases $backend;
            exchange::a_code_is_bound_once,
            exchange::an_exchange_is_claimed_held_released_and_abandoned,
            exchange::a_superseded_code_is_not_claimed,
            exchange::one_of_many_claims_wins,
            exchange::completion_stores_token_profile_and_session,
            exchange::completion_needs_the_claim,
            exchange::completion_for_somebody_else_is_refused,
            exchange::completion_fills_in_an_unknown_open_id,
            exchange::the_newest_token_wins,
            exchange::large_tokens_come_back_unchanged,
            exchange::tokens_are_apart_by_application_and_person,
            exchange::profiles_may_lack_everything_but_the_open_id,
            exchange::revoked_tokens_are_gone_until_the_next_consent,
            expiry::due_sessions_expire_and_are_counted,
            expiry::a_live_claim_keeps_a_session_from_expiring,
            expiry::sweepers_share_the_work,
            expiry::completion_and_expiry_exclude_each_other,
            invitations::the_limit_is_exact_under_concurrency,
            invitations::the_window_slides,
            invitations::people_and_applications_are_limited_apart,
            invitations::one_person_under_two_ids_is_one_person,
            invitations::a_hundred_people_at_once,
            job_ticks::claim_tick_once_per_job_and_tick,
            job_ticks::claim_tick_by_many_has_one_winner,
            records::applications_come_back_unchanged,
            records::an_application_is_frozen_once,
            records::events_are_remembered_by_consumer,
            records::events_are_purged_by_age,
            records::api_keys_work_until_revoked,
            records::one_unreadable_row_hides_no_other,
            records::unreadable_values_are_reported_by_place,
            records::keys_can_be_changed,
            records::active_counts_are_by_application,
            sessions::a_new_session_comes_back_unchanged,
            sessions::unknown_sessions_are_not_found,
            sessions::a_session_is_found_by_its_oauth_state,
            sessions::the_first_ending_is_final,
            sessions::one_of_many_endings_wins,
            sessions::lists_are_filtered,
            sessions::lists_are_paged_through_equal_times,
            sessions::a_card_is_recorded_once,
            sessions::a_card_changes_hands,
            sessions::stale_cards_are_listed,
            sessions::stale_cards_take_turns,
            sessions::an_open_id_is_recorded_once,
        );
    };
    (@cases $backend:expr; $($module:ident::$case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let bed = $crate::conformance::Bed::new($backend).await;
                $crate::conformance::$module::$case(&bed).await;
            }
        )+
    };
}

/// What a case works with: a store with two applications, a second handle to it, a clock that stands still.
pub struct Bed {
    /// The store under test.
    pub store: Arc<dyn Store>,
    /// The same data through another handle.
    pub second: Arc<dyn Store>,
    /// A registered application.
    pub app: AppId,
    /// Another one.
    pub other_app: AppId,
    clock: ManualClock,
    entropy: SeededEntropy,
    backend: Box<dyn Backend>,
}

impl std::fmt::Debug for Bed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bed").finish_non_exhaustive()
    }
}

impl Bed {
    /// Makes it.
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
            bed.store.put_application(&application(app_id), bed.now()).await.unwrap();
        }
        bed
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn uuid(&self) -> Uuid {
        self.entropy.uuid(&self.clock)
    }

    /// An invitation of 600 s.
    fn new_session(&self, app_id: &AppId, person: Person) -> NewSession {
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
        }
    }

    async fn create(&self, new: &NewSession) -> SessionId {
        assert_eq!(self.store.create_session(new, UNLIMITED).await.unwrap(), Created::Created);
        new.id
    }

    /// A pending session of [`Bed::app`].
    async fn pending(&self, open_id: &str) -> SessionId {
        self.create(&self.new_session(&self.app, person(open_id))).await
    }

    /// A pending session, claimed for 60 s.
    async fn claimed(&self, open_id: &str) -> (SessionId, Uuid) {
        let id = self.pending(open_id).await;
        (id, self.claim(id).await)
    }

    async fn claim(&self, id: SessionId) -> Uuid {
        let claim = self.uuid();
        let until = self.now() + Duration::from_secs(60);
        let outcome = self.store.claim_exchange(id, None, claim, self.now(), until).await.unwrap();
        assert_eq!(outcome, ExchangeClaim::Claimed);
        claim
    }

    fn completion(&self, session_id: SessionId, claim: Uuid, open_id: &str, token: &str) -> Completion {
        Completion {
            session_id,
            claim,
            pair: TokenPair {
                access_token: secret(token),
                access_expires_at: self.now() + Duration::from_secs(7200),
                refresh_token: Some(secret(&format!("refresh-{token}"))),
                refresh_expires_at: Some(self.now() + Duration::from_secs(604_800)),
                scopes: vec!["offline_access".to_owned(), "contact:user.email:readonly".to_owned()],
            },
            profile: profile(open_id),
            now: self.now(),
        }
    }

    /// A session that ended well.
    async fn completed(&self, app_id: &AppId, open_id: &str, token: &str) -> SessionId {
        let id = self.create(&self.new_session(app_id, person(open_id))).await;
        let claim = self.claim(id).await;
        assert!(self.store.complete_session(&self.completion(id, claim, open_id, token)).await.unwrap());
        id
    }

    async fn get(&self, id: SessionId) -> AuthSession {
        self.second.session(id).await.unwrap().unwrap()
    }

    /// Starts that many at the same moment, half of them on the other handle.
    async fn race<T: Send + 'static, F: Future<Output = crate::Result<T>> + Send + 'static>(
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

const UNLIMITED: InvitationLimit = InvitationLimit { max: 1_000_000, window: Duration::from_secs(60) };

fn application(app_id: &AppId) -> Application {
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

fn profile(open_id: &str) -> UserProfile {
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

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

fn ou(open_id: &str) -> OpenId {
    OpenId::new(open_id).unwrap()
}

fn person(open_id: &str) -> Person {
    Person { open_id: Some(ou(open_id)), user_id: None }
}

fn wins(outcomes: &[bool]) -> usize {
    outcomes.iter().filter(|won| **won).count()
}
