//! Everything is as slow as it may be, and an exchange still ends in its time.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_auth::{Context, ContextParts, Policy};
use larkauth_lark_sim::{Effect, Endpoint, Fault};
use larkauth_models::{
    AppId, Application, AuthSession, CallRequest, CardFace, DeviceGrant, EventId, MessageId, OpenId,
    SessionId, SessionState, StoredToken, SuspensionReason, Timestamp, TokenKind, TokenPair, UserProfile,
};
use larkauth_storage::{
    ActiveCounts, ApiKey, ApiKeys, Applications, Audit, AuditCursor, AuditEntry, AuditFilter, CallBudgets,
    ChangeFeed, Changes, CodeBinding, Completion, Created, DevicePoll, DevicePolls, DueApplication, DueOrder,
    EncryptionKeys, EndCursor, Erased, ExchangeClaim, GrantedCalls, Horizon, HorizonCount, HorizonCursor,
    HorizonFilter, InvitationLimit, InvitationPause, JobTicks, KeyUse, LeasedToken, Loss, NewSession,
    NextPoll, People, PoolUsage, ProcessedEvents, ProfileCursor, ProfilePage, Profiles, Reauthorizations,
    RefreshClaim, RefreshEnd, RefreshedToken, Refreshes, Registration, Resealed, Sealed, SessionCursor,
    SessionEnding, SessionFilter, Sessions, StorageError, Store, TokenRisks, Tokens, UnannouncedEnd,
    UnannouncedPerson,
    transfer::{Record, RowKey, Table, Transfer},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::fixture::{ACTOR, Fixture, Setup, delivery, policy, running};

/// A store whose answers take their time, on a clock that stands still while the real one works.
struct SlowStore {
    store: Arc<dyn Store>,
    each: Duration,
    commit: Duration,
}

impl SlowStore {
    async fn slowly<T>(&self, call: &str, answer: impl Future<Output = T>) -> T {
        let pause = if call == "complete_session" { self.commit } else { self.each };
        tokio::time::sleep(pause).await;
        // A paused clock does not run on by itself while a blocking task is under way.
        let (working, done) = std::sync::mpsc::channel::<()>();
        let still = tokio::task::spawn_blocking(move || done.recv().is_ok());
        let answer = answer.await;
        drop(working);
        assert!(!still.await.unwrap());
        answer
    }
}

macro_rules! delegate {
    ($($repository:ident { $(fn $call:ident($($name:ident: $type:ty),*) -> $answer:ty;)+ })+) => {$(
        #[async_trait]
        impl $repository for SlowStore {$(
            async fn $call(&self, $($name: $type),*) -> $answer {
                self.slowly(stringify!($call), self.store.$call($($name),*)).await
            }
        )+}
    )+};
}

type Stored<T> = Result<T, StorageError>;

#[async_trait]
impl Store for SlowStore {
    async fn ping(&self) -> Stored<Timestamp> {
        self.slowly("ping", self.store.ping()).await
    }
    async fn size(&self) -> Stored<u64> {
        self.slowly("size", self.store.size()).await
    }
    fn pool_usage(&self) -> PoolUsage {
        self.store.pool_usage()
    }
    async fn close(&self) {
        self.slowly("close", self.store.close()).await;
    }
}

delegate! {
    Applications {
        fn application(app_id: &AppId) -> Stored<Option<Application>>;
        fn applications() -> Stored<Vec<Registration>>;
        fn put_application(application: &Application, audit: &AuditEntry) -> Stored<()>;
        fn set_application_enabled(app_id: &AppId, enabled: bool, audit: &AuditEntry) -> Stored<bool>;
        fn set_application_frozen(app_id: &AppId, reason: Option<&str>, now: Timestamp) -> Stored<bool>;
    }
    Sessions {
        fn create_session(new: &NewSession, limit: InvitationLimit) -> Stored<Created>;
        fn create_session_unless_asked(new: &NewSession, limit: InvitationLimit, pause: InvitationPause) -> Stored<Created>;
        fn session(id: SessionId) -> Stored<Option<AuthSession>>;
        fn list_sessions(filter: &SessionFilter, after: Option<SessionCursor>, limit: u32) -> Stored<Vec<AuthSession>>;
        fn session_by_state(state_sha256: &[u8; 32]) -> Stored<Option<AuthSession>>;
        fn record_card(id: SessionId, message_id: &MessageId, face: CardFace) -> Stored<bool>;
        fn record_face(id: SessionId, face: CardFace) -> Stored<bool>;
        fn record_open_id(id: SessionId, open_id: &OpenId) -> Stored<bool>;
        fn bind_code(id: SessionId, code_sha256: &[u8; 32]) -> Stored<CodeBinding>;
        fn claim_exchange(id: SessionId, code: Option<&[u8; 32]>, claim: Uuid, life: Duration) -> Stored<ExchangeClaim>;
        fn mark_exchange_sent(id: SessionId, claim: Uuid) -> Stored<bool>;
        fn escrow_exchange(id: SessionId, claim: Uuid, pair: &Sealed) -> Stored<bool>;
        fn replace_escrow(id: SessionId, claim: Uuid, pair: &Sealed) -> Stored<bool>;
        fn escrowed_pair(id: SessionId, claim: Uuid) -> Stored<Option<TokenPair>>;
        fn unfinished_exchanges(limit: u32) -> Stored<Vec<SessionId>>;
        fn release_exchange(id: SessionId, claim: Uuid) -> Stored<bool>;
        fn complete_session(completion: &Completion) -> Stored<bool>;
        fn end_session(id: SessionId, ending: SessionEnding, audit: &AuditEntry) -> Stored<bool>;
        fn expire_due_sessions(now: Timestamp, limit: u32) -> Stored<Vec<SessionId>>;
        fn claim_unreconciled_cards(now: Timestamp, after: Timestamp, before: Timestamp, limit: u32) -> Stored<Vec<(AppId, SessionId)>>;
        fn unannounced_ends(before: Timestamp, after: Option<EndCursor>, limit: u32) -> Stored<Vec<UnannouncedEnd>>;
        fn record_announced(id: SessionId, now: Timestamp) -> Stored<bool>;
        fn purge_sessions(before: Timestamp, limit: u32) -> Stored<u64>;
        fn active_counts() -> Stored<Vec<ActiveCounts>>;
    }
    Refreshes {
        fn claim_refresh(app_id: &AppId, open_id: &OpenId, owner: Uuid, life: Duration) -> Stored<RefreshClaim>;
        fn due_applications(now: Timestamp, frozen_before: Timestamp, at_most: u32) -> Stored<Vec<DueApplication>>;
        fn claim_due_refreshes(app_id: &AppId, order: &DueOrder, owner: Uuid, life: Duration, limit: u32) -> Stored<Vec<LeasedToken>>;
        fn complete_refresh(refreshed: &RefreshedToken) -> Stored<bool>;
        fn end_refresh(app_id: &AppId, open_id: &OpenId, owner: Uuid, end: RefreshEnd) -> Stored<bool>;
        fn touch_token(app_id: &AppId, open_id: &OpenId, now: Timestamp, last_before: Timestamp) -> Stored<bool>;
    }
    DevicePolls {
        fn record_device_grant(id: SessionId, replaces: Option<Timestamp>, grant: &DeviceGrant, interval: Duration) -> Stored<bool>;
        fn record_device_opened(id: SessionId, now: Timestamp) -> Stored<bool>;
        fn record_device_card(id: SessionId, expires_at: Timestamp) -> Stored<bool>;
        fn claim_device_polls(expiring_before: Timestamp, frozen_before: Timestamp, idle: Duration, claims: &[Uuid], life: Duration) -> Stored<Vec<DevicePoll>>;
        fn postpone_device_poll(id: SessionId, claim: Uuid, next: NextPoll) -> Stored<bool>;
    }
    Tokens {
        fn token(app_id: &AppId, open_id: &OpenId, kind: TokenKind) -> Stored<Option<StoredToken>>;
        fn revoke_token(app_id: &AppId, open_id: &OpenId, kind: TokenKind, audit: &AuditEntry) -> Stored<bool>;
    }
    CallBudgets {
        fn grant_calls(app_id: &AppId, class: &str, request: &CallRequest) -> Stored<GrantedCalls>;
        fn hold_calls(app_id: &AppId, class: &str, lead: Duration) -> Stored<()>;
    }
    Profiles {
        fn profile(app_id: &AppId, open_id: &OpenId) -> Stored<Option<UserProfile>>;
        fn purge_profiles(after: &ProfileCursor, limit: u32) -> Stored<ProfilePage>;
        fn person_ids(app_id: &AppId, open_id: &OpenId) -> Stored<Vec<String>>;
        fn erase_person(app_id: &AppId, open_id: &OpenId, audit: &AuditEntry) -> Stored<Erased>;
    }
    People {
        fn people_to_sync(app_id: &AppId, synced_before: Timestamp, now: Timestamp, limit: u32) -> Stored<Vec<OpenId>>;
        fn count_to_sync(app_id: &AppId, synced_before: Timestamp) -> Stored<u64>;
        fn claim_sync(app_id: &AppId, open_id: &OpenId, synced_before: Timestamp, now: Timestamp) -> Stored<bool>;
        fn store_synced(app_id: &AppId, profiles: &[UserProfile], others: &[OpenId], now: Timestamp) -> Stored<()>;
        fn suspended(app_id: &AppId, open_ids: &[OpenId]) -> Stored<Vec<(OpenId, SuspensionReason)>>;
        fn suspend_person(app_id: &AppId, open_id: &OpenId, reason: SuspensionReason, audit: &AuditEntry) -> Stored<bool>;
        fn restore_person(app_id: &AppId, open_id: &OpenId, refreshed: bool, audit: &AuditEntry) -> Stored<bool>;
        fn claim_suspended(app_id: &AppId, open_id: &OpenId, owner: Uuid, life: Duration) -> Stored<Option<LeasedToken>>;
        fn unannounced_people(after: Option<&UnannouncedPerson>, limit: u32) -> Stored<Vec<UnannouncedPerson>>;
        fn record_person_announced(announced: &UnannouncedPerson) -> Stored<bool>;
    }
    Reauthorizations {
        fn claim_ended(app_id: &AppId, used_after: Option<Timestamp>, now: Timestamp, until: Timestamp, limit: u32) -> Stored<Vec<OpenId>>;
        fn claim_ending(app_id: &AppId, granted_before: Timestamp, now: Timestamp, until: Timestamp, limit: u32) -> Stored<Vec<OpenId>>;
        fn set_ask_at(app_id: &AppId, open_id: &OpenId, ask_at: Timestamp) -> Stored<bool>;
    }
    ProcessedEvents {
        fn is_processed(consumer: &str, event_id: &EventId) -> Stored<bool>;
        fn mark_processed(consumer: &str, event_id: &EventId, now: Timestamp) -> Stored<()>;
        fn purge_processed(before: Timestamp, limit: u32) -> Stored<u64>;
    }
    ApiKeys {
        fn put_api_key(key: &ApiKey, sha256: &[u8; 32], audit: &AuditEntry) -> Stored<()>;
        fn api_key(sha256: &[u8; 32]) -> Stored<Option<ApiKey>>;
        fn api_key_by_id(id: Uuid) -> Stored<Option<ApiKey>>;
        fn api_keys() -> Stored<Vec<ApiKey>>;
        fn revoke_api_key(id: Uuid, audit: &AuditEntry) -> Stored<bool>;
        fn rotate_api_key(id: Uuid, until: Timestamp, successor: &ApiKey, sha256: &[u8; 32], audit: &AuditEntry) -> Stored<bool>;
        fn touch_api_key(id: Uuid, now: Timestamp) -> Stored<()>;
    }
    Audit {
        fn append_audit(entries: &[AuditEntry]) -> Stored<()>;
        fn list_audit(filter: &AuditFilter, after: Option<AuditCursor>, limit: u32) -> Stored<Vec<AuditEntry>>;
        fn pseudonymize_audit(app_id: &AppId, ids: &[String], pseudonym: &str, limit: u32) -> Stored<u64>;
        fn purge_audit(before: Timestamp, limit: u32) -> Stored<u64>;
    }
    Transfer {
        fn export(table: Table, after: Option<&RowKey>, limit: u32) -> Stored<Vec<Record>>;
        fn find(table: Table, keys: &[RowKey]) -> Stored<Vec<Record>>;
        fn import(rows: &[Record]) -> Stored<u64>;
        fn count(table: Table) -> Stored<u64>;
    }
    EncryptionKeys {
        fn reseal(rows: &[Resealed]) -> Stored<Vec<bool>>;
        fn note_key_use(key_id: &str) -> Stored<()>;
        fn key_uses() -> Stored<Vec<KeyUse>>;
        fn forget_key_use(known: &KeyUse, audit: &AuditEntry) -> Stored<bool>;
    }
    Horizon {
        fn losses(filter: &HorizonFilter, after: Option<&HorizonCursor>, limit: u32) -> Stored<Vec<Loss>>;
        fn count_losses(filter: &HorizonFilter) -> Stored<Vec<HorizonCount>>;
        fn token_risks() -> Stored<Vec<TokenRisks>>;
        fn ending_consents(from: Timestamp, until: Timestamp) -> Stored<Vec<(AppId, i64)>>;
    }
    Changes {
        fn change_feed() -> Stored<Option<Box<dyn ChangeFeed>>>;
    }
    JobTicks {
        fn claim_tick(job: &str, tick_at: Timestamp, now: Timestamp) -> Stored<bool>;
        fn last_tick(job: &str) -> Stored<Option<Timestamp>>;
    }
}

/// How slow things are in one exchange.
#[derive(Clone, Debug)]
struct Slowness {
    /// A call of the store, in ms.
    store: u64,
    /// What Lark does with the code.
    code: Option<Effect>,
    /// What Lark does when it is asked who consented.
    who: Option<Effect>,
}

/// Delivers a code as the bus does, with what is left of the claim afterwards. Returns the state of the session.
async fn exchanged(fixture: &mut Fixture, slowness: Slowness) -> (SessionState, ExchangeClaim) {
    fixture.sim.faults().clear();
    // Lark takes so many cards a second for one person.
    fixture.clock.advance(Duration::from_secs(1));
    let invited = fixture.invited(0).await;
    let code = fixture.consent(&invited, 0).await;
    let message = fixture.code_message(&invited, &code).await;
    for (endpoint, effect) in [(Endpoint::TokenCode, slowness.code), (Endpoint::UserInfo, slowness.who)] {
        if let Some(effect) = effect {
            fixture.sim.faults().push(Fault::at(endpoint, effect).until_cleared());
        }
    }
    let (store, quick) = (fixture.parts.store.clone(), fixture.context.clone());
    let commit = Duration::from_millis(if slowness.store == 0 { 0 } else { 5_500 });
    let slow = SlowStore { store, each: Duration::from_millis(slowness.store), commit };
    fixture.context = Context::new(ContextParts { store: Arc::new(slow), ..fixture.parts.clone() });
    tokio::time::pause();
    // Cut off only while announcing, which the next delivery does.
    let _ = timeout(fixture.parts.policy.handler_deadline, fixture.handle(delivery(&message))).await;
    tokio::time::resume();
    fixture.context = quick;
    let state = fixture.session(invited.session_id).await.state;
    let (store, other) = (&fixture.parts.store, Uuid::from_u128(9));
    (state, store.claim_exchange(invited.session_id, None, other, Duration::ZERO).await.unwrap())
}

#[tokio::test]
async fn exchange_with_slow_parts_ends_within_deadline() {
    let policy = Policy { resume_pause: Duration::ZERO, ..policy(100) };
    let mut fixture = Fixture::with(Setup { policy, ..Setup::default() }).await;
    let codes = [None, Some(Effect::LateAnswer(4_900)), Some(Effect::Hang)];
    let people = [
        None,
        Some(Effect::LateAnswer(3_900)),
        Some(Effect::Hang),
        Some(Effect::Answer { status: 503, code: 1 }),
    ];
    for store in [0, 1_900, 4_900] {
        for code in &codes {
            for who in &people {
                let slowness = Slowness { store, code: code.clone(), who: who.clone() };
                let (state, claim) = exchanged(&mut fixture, slowness.clone()).await;
                let hopeless =
                    |effect: &Option<Effect>| !matches!(effect, None | Some(Effect::LateAnswer(_)));
                let expected = match store {
                    // Too late to begin: the code stays at home, the claim is given back.
                    4_900 => (SessionState::Pending, ExchangeClaim::Claimed),
                    _ if hopeless(code) => (SessionState::Failed, ExchangeClaim::NotPending),
                    // A pair that Lark has given is in escrow when there is no time to learn whose it is.
                    _ if hopeless(who) => (SessionState::Pending, ExchangeClaim::Escrowed),
                    1_900 if code.is_some() && who.is_some() => {
                        (SessionState::Pending, ExchangeClaim::Escrowed)
                    }
                    // It is stored, though the database needs all the time that is kept for it.
                    _ => (SessionState::Completed, ExchangeClaim::NotPending),
                };
                assert_eq!((state, claim), expected, "{slowness:?}");
                fixture.sim.faults().clear();
                let resumed = fixture
                    .context
                    .resume_exchanges(&ACTOR, fixture.context.now(), &running())
                    .await
                    .unwrap();
                assert_eq!(resumed, u64::from(claim == ExchangeClaim::Escrowed), "{slowness:?}");
            }
        }
    }
}
