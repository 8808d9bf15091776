//! The audit record of each operation: who, what, about whom, with which result.

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use larkauth_auth::{AuditTimings, AuthError, Policy, api_keys::NewApiKey, pseudonym};
use larkauth_contracts::message::CardActionKind;
use larkauth_messaging::testing::eventually;
use larkauth_models::{Actor, AppId, AuditAction, KeyAccess, KeyScope, OpenId, Origin, Principal, TokenApi};
use larkauth_storage::{AuditEntry, AuditFilter, SessionFilter};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixture::{APP, Fixture, Setup, policy, reply, running};

/// An API key that sees these applications; all when there are none.
fn key(app_ids: &[&str]) -> Actor {
    let app_ids = app_ids.iter().map(|app| (*app).to_owned()).collect();
    let access = KeyAccess { app_ids, lark_scopes: Vec::new() };
    let principal = Principal::ApiKey { id: Uuid::from_u128(7), name: "crm".to_owned(), access };
    let origin = Origin { address: Some("192.0.2.7".to_owned()), request_id: Some("r-7".to_owned()) };
    Actor { principal, origin }
}

fn operator() -> Actor {
    Actor::operator("root".to_owned(), Some("host".to_owned()))
}

impl Fixture {
    /// The stored records, oldest first.
    async fn stored(&self) -> Vec<AuditEntry> {
        let mut records = self.parts.store.list_audit(&AuditFilter::default(), None, 1000).await.unwrap();
        records.reverse();
        records
    }

    /// The records of one action, oldest first, after what waits was written.
    async fn written(&self, action: AuditAction) -> Vec<AuditEntry> {
        self.flush().await;
        self.stored().await.into_iter().filter(|entry| entry.action == action.as_str()).collect()
    }

    /// Has the writer write what waits.
    async fn flush(&self) {
        let stopping = CancellationToken::new();
        let mut writer = JoinSet::new();
        let (context, until) = (self.context.clone(), stopping.clone());
        writer.spawn(async move { context.write_audit(until).await });
        eventually("the queue is empty", async || self.context.audit_waiting() == 0).await;
        stopping.cancel();
        writer.join_all().await;
    }
}

/// Outcome and reason of the only record.
fn only(records: &[AuditEntry]) -> (&str, Option<&str>) {
    assert_eq!(records.len(), 1, "{records:?}");
    (&records[0].outcome, records[0].reason.as_deref())
}

#[tokio::test]
async fn token_read_is_recorded_with_caller_and_result() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let (app, person, caller) = (fixture.app_id(), invited.open_id.clone(), key(&[]));
    let read = async || {
        fixture
            .context
            .valid_token(&caller, fixture.context.now(), &app, &person, TimeDelta::zero(), &[])
            .await
    };
    assert!(read().await.is_err());
    let code = fixture.consent(&invited, 0).await;
    reply(fixture.deliver(fixture.code_message(&invited, &code).await).await);
    fixture.clock.advance(Duration::from_secs(1));
    let token = read().await.unwrap();
    let records = fixture.written(AuditAction::TokenServe).await;
    let [refused, served] = &records[..] else { panic!("{records:?}") };
    assert_eq!(
        (refused.outcome.as_str(), refused.reason.as_deref()),
        ("refused", Some("authentication_required"))
    );
    assert_eq!((served.outcome.as_str(), served.reason.as_deref()), ("ok", None));
    assert_eq!(served.at, fixture.context.now());
    assert_eq!(
        (served.actor_kind.as_str(), served.actor_id.as_str()),
        ("api_key", Uuid::from_u128(7).to_string().as_str())
    );
    assert_eq!(served.actor_name.as_deref(), Some("crm"));
    assert_eq!((served.app_id.as_deref(), served.person.as_deref()), (Some(APP), Some(person.as_str())));
    assert_eq!((served.address.as_deref(), served.request_id.as_deref()), (Some("192.0.2.7"), Some("r-7")));
    let text = format!("{records:?}");
    let secret = token.pair.access_token.readable().unwrap();
    assert!(!text.contains(larkauth_models::ExposeSecret::expose_secret(secret)), "{text}");
}

#[tokio::test]
async fn repeated_reads_of_one_token_are_one_record_with_their_number() {
    let fixture = Fixture::new().await;
    let (one, other) = (fixture.authorized(0).await, fixture.authorized(1).await);
    let (app, here) = (fixture.app_id(), key(&[]));
    let mut there = here.clone();
    there.origin.address = Some("192.0.2.8".to_owned());
    let read = async |caller: &Actor, person: &OpenId| {
        let now = fixture.context.now();
        fixture.context.valid_token(caller, now, &app, person, TimeDelta::zero(), &[]).await
    };
    for (caller, person, times) in [(&here, &one, 5), (&here, &other, 1), (&there, &one, 2)] {
        for _ in 0..times {
            read(caller, person).await.unwrap();
        }
    }
    for _ in 0..2 {
        assert!(read(&here, &fixture.person(2)).await.is_err());
    }
    let served = |records: &[AuditEntry]| {
        let ok = records.iter().filter(|record| record.outcome == "ok");
        let shown =
            ok.map(|record| (record.person.clone().unwrap(), record.address.clone().unwrap(), record.count));
        shown.collect::<BTreeSet<_>>()
    };
    let (here_at, there_at) = ("192.0.2.7".to_owned(), "192.0.2.8".to_owned());
    let expected = BTreeSet::from([
        (one.to_string(), here_at.clone(), 5),
        (other.to_string(), here_at.clone(), 1),
        (one.to_string(), there_at, 2),
    ]);
    let records = fixture.written(AuditAction::TokenServe).await;
    assert_eq!(served(&records), expected);
    assert_eq!(records.len(), 3 + 2, "each refusal is a record");
    read(&here, &one).await.unwrap();
    let records = fixture.written(AuditAction::TokenServe).await;
    assert_eq!(records.len(), 6, "a later read is another record");
    assert!(served(&records).contains(&(one.to_string(), here_at, 1)));
}

#[tokio::test]
async fn read_of_service_is_not_recorded() {
    let fixture = Fixture::new().await;
    let (service, now) = (Actor::service("gateway"), fixture.context.now());
    fixture.context.applications(&service, now).await.unwrap();
    fixture.context.api_keys(&service, now).await.unwrap();
    assert_eq!(fixture.context.audit_waiting(), 0);
    fixture.context.applications(&operator(), now).await.unwrap();
    assert_eq!(only(&fixture.written(AuditAction::AppList).await), ("ok", None));
}

#[tokio::test]
async fn change_is_recorded_at_once_and_refusal_with_its_reason() {
    let fixture = Fixture::new().await;
    let (context, app, now) = (&fixture.context, fixture.app_id(), fixture.context.now());
    let unknown = AppId::new("cli_ffffffffffffffff").unwrap();
    let new = |name: &str| NewApiKey {
        name: name.to_owned(),
        scopes: vec![KeyScope::TokensRead],
        app_ids: Vec::new(),
        lark_scopes: Vec::new(),
        requests_per_minute: None,
        expires_at: None,
    };
    let created = context.create_api_key(&operator(), now, new("crm")).await.unwrap();
    let until = now + Duration::from_secs(60);
    let next = context.rotate_api_key(&operator(), now, created.key.id, until).await.unwrap().unwrap();
    assert!(context.revoke_api_key(&operator(), now, next.key.id).await.unwrap());
    context.set_application_enabled(&operator(), now, &app, false).await.unwrap();
    context.set_application_enabled(&operator(), now, &app, true).await.unwrap();
    let application = fixture.application("cli_00000000000000a2", TokenApi::V2);
    context.register_application(&operator(), now, &application).await.unwrap();
    let keep = |known| Some(known);
    context.bootstrap_application(&Actor::service("gateway"), now, application, [7; 32], keep).await.unwrap();

    // Without the writer: the records are in the database with the changes. The fixture's own is not looked at.
    let stored = fixture.stored().await.into_iter().filter(|entry| entry.actor_id != "test");
    let actions: Vec<_> = stored.map(|entry| entry.action).collect();
    let mut sorted = actions.clone();
    sorted.sort();
    let expected = [
        "api_key.create",
        "api_key.revoke",
        "api_key.rotate",
        "app.bootstrap",
        "app.disable",
        "app.enable",
        "app.register",
    ];
    assert_eq!(sorted, expected, "{actions:?}");
    let rotated = &fixture.written(AuditAction::KeyRotate).await[0];
    assert_eq!((rotated.key_id, rotated.actor_id.as_str()), (Some(created.key.id), "root"));
    assert_eq!(rotated.address.as_deref(), Some("host"));

    assert!(context.create_api_key(&operator(), now, new("")).await.is_err());
    assert!(!context.revoke_api_key(&operator(), now, next.key.id).await.unwrap());
    assert!(context.set_application_enabled(&operator(), now, &unknown, false).await.is_err());
    assert!(!context.revoke_token(&operator(), now, &app, &fixture.person(0)).await.unwrap());
    let forbidden = context.revoke_token(&key(&[unknown.as_str()]), now, &app, &fixture.person(0)).await;
    assert!(matches!(forbidden, Err(AuthError::Forbidden(_))));
    for (action, expected) in [
        (AuditAction::KeyCreate, vec![("ok", None), ("refused", Some("invalid"))]),
        (AuditAction::KeyRevoke, vec![("ok", None), ("refused", Some("not_found"))]),
        (AuditAction::AppDisable, vec![("ok", None), ("refused", Some("app_not_found"))]),
        (AuditAction::TokenRevoke, vec![("refused", Some("forbidden")), ("refused", Some("not_found"))]),
    ] {
        let records = fixture.written(action).await;
        let mut seen: Vec<_> = records.iter().map(|e| (e.outcome.as_str(), e.reason.as_deref())).collect();
        seen.sort_unstable();
        assert_eq!(seen, expected, "{action}");
    }
}

#[tokio::test]
async fn consent_and_refusal_are_recorded_as_acts_of_the_person() {
    let fixture = Fixture::new().await;
    let (agreeing, declining) = (fixture.invited(0).await, fixture.invited(1).await);
    let code = fixture.consent(&agreeing, 0).await;
    let message = fixture.code_message(&agreeing, &code).await;
    let event = message.id.to_string();
    reply(fixture.deliver(message).await);
    let click = fixture.click(&declining, CardActionKind::Cancel);
    let click_id = click.id.to_string();
    for _ in 0..2 {
        reply(fixture.deliver(click.clone()).await);
    }
    for (action, asked, event) in
        [(AuditAction::SessionComplete, &agreeing, event), (AuditAction::SessionReject, &declining, click_id)]
    {
        let records = fixture.stored().await;
        let records: Vec<_> = records.into_iter().filter(|e| e.action == action.as_str()).collect();
        assert_eq!(only(&records), ("ok", None));
        let open_id = asked.open_id.as_str();
        assert_eq!((records[0].actor_kind.as_str(), records[0].actor_id.as_str()), ("person", open_id));
        assert_eq!(
            (records[0].session_id, records[0].person.as_deref()),
            (Some(asked.session_id.0), Some(open_id))
        );
        assert_eq!(records[0].request_id, Some(event));
    }
    let created = fixture.written(AuditAction::SessionCreate).await;
    let ids: Vec<_> = created.iter().map(|entry| entry.session_id.unwrap()).collect();
    assert!(created.len() == 2 && ids.contains(&agreeing.session_id.0), "{created:?}");
}

#[tokio::test]
async fn audit_records_of_restricted_key_are_about_its_applications() {
    let fixture = Fixture::new().await;
    let (context, now, app) = (&fixture.context, fixture.context.now(), fixture.app_id());
    let application = fixture.application("cli_00000000000000a2", TokenApi::V2);
    context.register_application(&operator(), now, &application).await.unwrap();
    context.set_application_enabled(&operator(), now, &app, true).await.unwrap();
    let seen = async |actor: &Actor| {
        context.audit_records(actor, now, &AuditFilter::default(), None, 100).await.unwrap().len()
    };
    assert_eq!(seen(&key(&[])).await, 3, "with that of the fixture");
    assert_eq!(seen(&key(&[APP])).await, 1);
    assert_eq!(seen(&key(&["cli_00000000000000ff"])).await, 0);
    let other = AuditFilter { app_id: Some(application.app_id.clone()), ..AuditFilter::default() };
    let forbidden = context.audit_records(&key(&[app.as_str()]), now, &other, None, 100).await;
    assert!(matches!(forbidden, Err(AuthError::Forbidden(_))));
    let records = fixture.written(AuditAction::AuditList).await;
    assert_eq!(records.len(), 4);
    assert_eq!(records.iter().filter(|entry| entry.reason.as_deref() == Some("forbidden")).count(), 1);
}

/// Lists sessions so often; each is a record.
async fn list(fixture: &Fixture, count: usize) {
    for _ in 0..count {
        let filter = SessionFilter::default();
        fixture.context.list_sessions(&operator(), fixture.context.now(), &filter, None, 1).await.unwrap();
    }
}

async fn with_queue(queue: usize, batch: usize) -> Fixture {
    let policy = policy(100);
    let audit = AuditTimings { queue, batch, ..policy.audit };
    Fixture::with(Setup { policy: Policy { audit, ..policy }, ..Setup::default() }).await
}

#[tokio::test]
async fn full_queue_counts_records_and_delays_no_read() {
    let fixture = with_queue(5, 2).await;
    list(&fixture, 8).await;
    assert_eq!(fixture.context.audit_waiting(), 5);
    let metrics = fixture.context.metrics().render();
    assert!(metrics.contains("lark_service_audit_dropped_total 3"), "{metrics}");
    assert_eq!(fixture.written(AuditAction::SessionList).await.len(), 5);
    list(&fixture, 1).await;
    assert_eq!(fixture.written(AuditAction::SessionList).await.len(), 6, "there is room again");
}

#[tokio::test]
async fn close_writes_records_that_wait() {
    let fixture = with_queue(100, 10).await;
    list(&fixture, 25).await;
    assert_eq!(fixture.context.audit_waiting(), 25);
    fixture.context.close().await;
    let store = fixture.database.store().await;
    let filter = AuditFilter { action: Some(AuditAction::SessionList), ..AuditFilter::default() };
    let written = larkauth_storage::Audit::list_audit(&store, &filter, None, 100).await.unwrap();
    assert_eq!(written.len(), 25);
}

#[tokio::test]
async fn records_wait_while_database_takes_no_writes() {
    let fixture = with_queue(4, 2).await;
    let mut db = fixture.database.connection().await;
    let read_only = "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$";
    sqlx::raw_sql(read_only).execute(&mut db).await.unwrap();
    let end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::raw_sql(end).execute(&mut db).await.unwrap();
    list(&fixture, 3).await;
    let stopped = CancellationToken::new();
    let mut writer = JoinSet::new();
    let (context, until) = (fixture.context.clone(), stopped.clone());
    writer.spawn(async move { context.write_audit(until).await });
    // More than fit while the first ones cannot be written.
    list(&fixture, 3).await;
    assert!(fixture.context.audit_waiting() <= 4);
    assert_eq!(fixture.stored().await.len(), 1, "the registration of the fixture");
    sqlx::raw_sql("set transaction read write; do $$ begin execute format('alter database %I reset default_transaction_read_only', current_database()); end $$").execute(&mut db).await.unwrap();
    sqlx::raw_sql(end).execute(&mut db).await.unwrap();
    eventually("the queue is empty", async || fixture.context.audit_waiting() == 0).await;
    stopped.cancel();
    writer.join_all().await;
    let written = fixture.stored().await.len() - 1;
    assert!((4..=6).contains(&written), "{written}");
}

#[tokio::test]
async fn erase_person_leaves_only_pseudonym() {
    let fixture = Fixture::new().await;
    let (context, app) = (&fixture.context, fixture.app_id());
    let (invited, other) = (fixture.invited(0).await, fixture.invited(1).await);
    let code = fixture.consent(&invited, 0).await;
    reply(fixture.deliver(fixture.code_message(&invited, &code).await).await);
    let person = invited.open_id.clone();
    let now = context.now();
    context.valid_token(&key(&[]), now, &app, &person, TimeDelta::zero(), &[]).await.unwrap();

    let erased = context.erase_person(&operator(), now, &app, &person).await.unwrap();
    assert_eq!((erased.rows.sessions, erased.rows.tokens, erased.rows.profiles), (1, 1, 1));
    // Created, completed (about and by the person), and the token that was read just before.
    assert_eq!(erased.records, 4);
    assert_eq!(erased.pseudonym, pseudonym(&app, &person));
    let mut db = fixture.database.connection().await;
    let dump = "select coalesce(string_agg(query_to_xml(format('select t::text from %I t', tablename), true, false, '')::text, ''), '')
                from pg_tables where schemaname = 'public'";
    let dump: String = sqlx::query_scalar(dump).fetch_one(&mut db).await.unwrap();
    assert!(!dump.contains(person.as_str()), "nothing in the database names the person");
    assert!(dump.contains(other.open_id.as_str()));
    let records = fixture.written(AuditAction::PersonErase).await;
    assert_eq!(only(&records), ("ok", None));
    assert_eq!(records[0].person.as_deref(), Some(erased.pseudonym.as_str()));

    let again = context.erase_person(&operator(), now, &app, &person).await.unwrap();
    assert!(again.is_nothing());
    let forbidden = context.erase_person(&key(&["cli_ffffffffffffffff"]), now, &app, &other.open_id).await;
    assert!(matches!(forbidden, Err(AuthError::Forbidden(_))));
    assert!(fixture.session(other.session_id).await.consent.is_some());
}

#[tokio::test]
async fn purges_end_when_nothing_is_left_or_the_process_stops() {
    let policy = Policy { sweep_batch: 1, ..policy(1000) };
    let fixture = Fixture::with(Setup { policy, ..Setup::default() }).await;
    let context = &fixture.context;
    // More than one batch of ten.
    for _ in 0..12 {
        let invited = fixture.invited(0).await;
        reply(fixture.deliver(fixture.click(&invited, CardActionKind::Cancel)).await);
        fixture.clock.advance(Duration::from_secs(1));
    }
    let actor = crate::fixture::ACTOR;
    let day = Duration::from_secs(24 * 3600);
    fixture.clock.advance(90 * day - Duration::from_secs(13));
    assert_eq!(context.purge_sessions(&actor, context.now(), &running()).await.unwrap(), 0);
    fixture.clock.advance(Duration::from_secs(13));
    let stopped = CancellationToken::new();
    stopped.cancel();
    let now = context.now();
    assert_eq!(context.purge_sessions(&actor, now, &stopped).await.unwrap(), 0);
    assert_eq!(context.purge_events(&actor, now, &stopped).await.unwrap(), 0);
    assert_eq!(context.purge_sessions(&actor, now, &running()).await.unwrap(), 12);
    assert_eq!(context.purge_events(&actor, now, &running()).await.unwrap(), 12);
    assert_eq!(context.purge_audit(&actor, now, &running()).await.unwrap(), 0);
    fixture.clock.advance(275 * day + Duration::from_secs(20));
    let records = fixture.stored().await.len() as u64;
    assert_eq!(records, 1 + 12 + 12);
    assert_eq!(context.purge_audit(&actor, context.now(), &stopped).await.unwrap(), 0);
    assert_eq!(context.purge_audit(&actor, context.now(), &running()).await.unwrap(), records);
}

#[tokio::test]
async fn purge_profiles_looks_at_every_page() {
    let policy = Policy { sweep_batch: 1, ..policy(1000) };
    let fixture = Fixture::with(Setup { policy, ..Setup::default() }).await;
    let (context, app) = (&fixture.context, fixture.app_id());
    for n in 0..3 {
        let invited = fixture.invited(n).await;
        let code = fixture.consent(&invited, n).await;
        reply(fixture.deliver(fixture.code_message(&invited, &code).await).await);
        fixture.clock.advance(Duration::from_secs(1));
    }
    let actor = crate::fixture::ACTOR;
    fixture.clock.advance(Duration::from_secs(91 * 24 * 3600));
    assert_eq!(context.purge_sessions(&actor, context.now(), &running()).await.unwrap(), 3);
    assert_eq!(
        context.purge_profiles(&actor, context.now(), &running()).await.unwrap(),
        0,
        "the tokens are there"
    );
    for n in [0, 2] {
        assert!(context.revoke_token(&operator(), context.now(), &app, &fixture.person(n)).await.unwrap());
    }
    assert_eq!(context.purge_profiles(&actor, context.now(), &running()).await.unwrap(), 2);
    assert!(context.profile(&operator(), context.now(), &app, &fixture.person(1)).await.unwrap().is_some());
}
