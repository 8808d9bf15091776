//! Transfer between PostgreSQL and SQLite.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use larkauth_models::{CardFace, EventId, ExposeSecret, KeyAccess, MessageId, TokenKind};
use larkauth_storage::{
    ApiKey, CipherError, MissingKey, Result, SessionEnding, StorageError, Store, missing_keys,
    testing::{TestAuthorization, act, cipher_of, test_cipher},
    transfer::{ComparedTable, Record, RowKey, Table, TableProgress, Transfer, compare, transfer},
};
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_storage_sqlite::{SqliteStore, testing::TestSqlite};
use uuid::Uuid;

const PEOPLE: u32 = 230;

/// Creates completed, ended, pending and claimed sessions, a revoked token, API keys and events. Every column has a
/// value in at least one row.
async fn fill(store: &dyn Store) {
    let first = TestAuthorization::new(1);
    first.register(store).await;
    let now = first.started_at();
    for number in 1..=PEOPLE {
        let authorization = TestAuthorization::new(number);
        let id = authorization.session_id;
        authorization.invite(store).await;
        match number % 4 {
            0 => {
                let message = MessageId::new(format!("om_{number}")).unwrap();
                assert!(store.record_card(id, &message, CardFace::Invitation).await.unwrap());
                assert!(store.end_session(id, SessionEnding::Rejected, &act(now)).await.unwrap());
            }
            1 => {
                store.bind_code(id, &[7; 32]).await.unwrap();
                // The code was sent and not answered, or the pair is in escrow.
                let claim = Uuid::from_u128(9);
                for _ in 0..2 {
                    store.claim_exchange(id, None, claim, Duration::ZERO).await.unwrap();
                    assert!(store.mark_exchange_sent(id, claim).await.unwrap());
                }
                if number % 8 == 1 {
                    let pair = authorization.sealed_pair(&test_cipher());
                    assert!(store.escrow_exchange(id, claim, &pair).await.unwrap());
                }
            }
            _ => authorization.complete(store).await,
        }
    }
    let revoked = TestAuthorization::new(2);
    assert!(store.revoke_token(&revoked.app_id, &revoked.open_id, TokenKind::User, &act(now)).await.unwrap());
    assert!(store.set_application_frozen(&first.app_id, Some("20002"), now).await.unwrap());
    for number in 1..=3u8 {
        let key = ApiKey {
            id: Uuid::from_u128(number.into()),
            name: "a \"key\"".to_owned(),
            scopes: vec!["token:read".to_owned()],
            created_at: now,
            revoked_at: (number == 2).then_some(now),
            access: KeyAccess {
                app_ids: vec!["cli_0123456789abcdef".to_owned(); usize::from(number) - 1],
                lark_scopes: vec!["docs:read".to_owned(); usize::from(number) - 1],
            },
            requests_per_minute: NonZeroU32::new(u32::from(number) - 1),
            expires_at: (number == 3).then_some(now),
            last_used_at: (number == 3).then_some(now),
        };
        store.put_api_key(&key, &[number; 32], &act(now)).await.unwrap();
        store.mark_processed("cards", &EventId::new(format!("e-{number}")).unwrap(), now).await.unwrap();
    }
}

/// Returns all rows in an order that does not depend on how a database sorts texts.
async fn everything(database: &dyn Transfer) -> Vec<Record> {
    let mut all = Vec::new();
    for table in Table::ALL {
        let mut rows = database.export(table, None, 100_000).await.unwrap();
        rows.sort_by_key(|row| row.key().to_string());
        all.append(&mut rows);
    }
    all
}

/// Names the first row that differs instead of showing hundreds.
fn assert_same(left: &[Record], right: &[Record]) {
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        assert!(left == right, "{} {} differs from {}", left.table(), left.key(), right.key());
    }
}

async fn assert_readable(store: &dyn Store) {
    for number in (3..=PEOPLE).filter(|number| number % 4 > 1) {
        let authorization = TestAuthorization::new(number);
        let TestAuthorization { app_id, open_id, session_id, .. } = &authorization;
        let token = store.token(app_id, open_id, TokenKind::User).await.unwrap().unwrap();
        assert_eq!(token.pair.access_token.readable().unwrap().expose_secret(), authorization.access_token());
        let profile = store.profile(app_id, open_id).await.unwrap().unwrap();
        assert_eq!(profile.email.unwrap().expose_secret(), "needle@example.com");
        assert!(store.session(*session_id).await.unwrap().unwrap().email.is_some());
    }
    let pending = TestAuthorization::new(1);
    assert!(store.session(pending.session_id).await.unwrap().unwrap().consent.is_some());
    let application = store.application(&pending.app_id).await.unwrap().unwrap();
    assert_eq!(application.app_secret.expose_secret(), "needle-app-secret");
    assert!(store.api_key(&[1; 32]).await.unwrap().is_some());
    assert!(store.api_key(&[2; 32]).await.unwrap().is_none());
}

/// A target that becomes unavailable after some pages.
struct Interrupted<'a> {
    target: &'a dyn Transfer,
    pages: AtomicU32,
}

#[async_trait]
impl Transfer for Interrupted<'_> {
    async fn export(&self, table: Table, after: Option<&RowKey>, limit: u32) -> Result<Vec<Record>> {
        self.target.export(table, after, limit).await
    }
    async fn find(&self, table: Table, keys: &[RowKey]) -> Result<Vec<Record>> {
        self.target.find(table, keys).await
    }
    async fn import(&self, rows: &[Record]) -> Result<u64> {
        if self.pages.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(StorageError::Unavailable { during: "importing rows", message: "gone".to_owned() });
        }
        self.target.import(rows).await
    }
    async fn count(&self, table: Table) -> Result<u64> {
        self.target.count(table).await
    }
}

/// Transfers to the target, with an interruption, and from there to a third, empty database. All three hold the same
/// rows.
async fn moves<S: Store, T: Store>(source: S, target: T, back: S) {
    fill(&source).await;
    let original = everything(&source).await;
    // Audit records: of the application, each invitation, 57 ends, 115 completions, one revocation, three keys.
    let audit = 1 + 230 + 57 + 115 + 1 + 3;
    assert_eq!(original.len(), 1 + 115 + 115 + 230 + 3 + 3 + audit);

    let interrupted = Interrupted { target: &target, pages: AtomicU32::new(3) };
    let error = transfer(&source, &interrupted, |_| {}).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    let arrived = everything(&target).await.len();
    assert!(arrived > 1 && arrived < original.len());

    let mut steps: Vec<TableProgress> = Vec::new();
    let tables = transfer(&source, &target, |step| steps.push(step)).await.unwrap();
    assert!(tables.iter().map(|table| table.table).eq(Table::ALL));
    assert_eq!(tables.iter().map(|table| table.read).sum::<u64>(), original.len() as u64);
    let inserted: u64 = tables.iter().map(|table| table.inserted).sum();
    assert_eq!(inserted + arrived as u64, original.len() as u64, "existing rows are not written again");
    let last = steps.iter().rfind(|step| step.table == Table::Sessions).unwrap();
    assert_eq!((last.read, last.source), (u64::from(PEOPLE), u64::from(PEOPLE)));
    assert_same(&everything(&target).await, &original);
    let compared = compare(&source, &target, |_| {}).await.unwrap();
    assert!(compared.iter().all(ComparedTable::is_same), "{compared:?}");
    assert_eq!(compared.iter().map(|table| table.rows).sum::<u64>(), original.len() as u64);
    assert_readable(&target).await;
    let [known] = target.key_uses().await.unwrap().try_into().unwrap();
    assert_eq!(known.key_id, "test", "the target knows which key it needs");

    // A second transfer copies nothing. A row changed in the target stays as it is, and `compare` reports it.
    let revoked = TestAuthorization::new(3);
    let now = revoked.started_at();
    assert!(
        target.revoke_token(&revoked.app_id, &revoked.open_id, TokenKind::User, &act(now)).await.unwrap()
    );
    let again = transfer(&source, &target, |_| {}).await.unwrap();
    assert!(again.iter().all(|table| table.inserted == 0));
    assert!(target.token(&revoked.app_id, &revoked.open_id, TokenKind::User).await.unwrap().is_none());

    let compared = compare(&source, &target, |_| {}).await.unwrap();
    let (same, different): (Vec<_>, Vec<_>) = compared.into_iter().partition(ComparedTable::is_same);
    assert_eq!(same.len(), Table::ALL.len() - 1);
    let key = format!("{}/{}/user", revoked.app_id, revoked.open_id);
    assert_eq!((different[0].missing, different[0].differing), (0, 1));
    assert_eq!((different[0].table, &different[0].first), (Table::Tokens, &vec![key]));

    // New rows find their place next to moved ones.
    let newcomer = TestAuthorization::new(PEOPLE + 1);
    newcomer.invite(&target).await;
    newcomer.complete(&target).await;

    // The source does not have it.
    let missed = compare(&target, &source, |_| {}).await.unwrap();
    assert!(missed.iter().any(|table| table.table == Table::Profiles && table.missing == 1), "{missed:?}");

    transfer(&target, &back, |_| {}).await.unwrap();
    assert_same(&everything(&back).await, &everything(&target).await);
}

#[tokio::test]
async fn transfer_from_sqlite_to_postgres_and_back_keeps_every_row() {
    let (file, server, other_file) =
        (TestSqlite::create().await, TestDatabase::create().await, TestSqlite::create().await);
    moves(file.store().await, server.store().await, other_file.store().await).await;
}

#[tokio::test]
async fn transfer_from_postgres_to_sqlite_and_back_keeps_every_row() {
    let (server, file, other_server) =
        (TestDatabase::create().await, TestSqlite::create().await, TestDatabase::create().await);
    moves(server.store().await, file.store().await, other_server.store().await).await;
}

/// Values sealed with several keys open only with a cipher that has each key with the same bytes.
#[tokio::test]
async fn missing_keys_with_several_keys_names_unopenable_ones() {
    let file = TestSqlite::create().await;
    let store = file.store().await;
    assert_eq!(missing_keys(&store, &cipher_of(&[("any", 1)])).await.unwrap(), [], "nothing is sealed");
    fill(&store).await;
    let rotated = SqliteStore::open(&file.options(), cipher_of(&[("new", 8), ("test", 7)])).await.unwrap();
    TestAuthorization::new(PEOPLE + 1).invite(&rotated).await;

    let both = cipher_of(&[("other", 1), ("new", 8), ("test", 7)]);
    assert_eq!(missing_keys(&store, &both).await.unwrap(), []);
    let missing = MissingKey { values: 2, reason: CipherError::UnknownKey("new".to_owned()) };
    assert_eq!(missing_keys(&store, &test_cipher()).await.unwrap(), [missing]);
    let changed = missing_keys(&store, &cipher_of(&[("new", 8), ("test", 9)])).await.unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].reason, CipherError::Rejected("test".to_owned()));

    // One damaged value does not make its key missing.
    let mut behind = file.connection().await;
    sqlx::query("update applications set app_secret_sealed = substr(app_secret_sealed, 1, 30)")
        .execute(&mut behind)
        .await
        .unwrap();
    assert_eq!(missing_keys(&store, &both).await.unwrap(), []);
}

/// A column that a migration adds must be added to the records too; a transfer would lose it otherwise.
#[tokio::test]
async fn export_of_every_table_has_every_column() {
    let (file, server) = (TestSqlite::create().await, TestDatabase::create().await);
    let (store, mut sqlite, mut postgres) =
        (file.store().await, file.connection().await, server.connection().await);
    fill(&store).await;
    for table in Table::ALL {
        let row = store.export(table, None, 1).await.unwrap().remove(0);
        let mut columns: Vec<_> = row.columns().iter().map(|&column| column.to_owned()).collect();
        // These columns are not transferred: the number of a token, which each database assigns, and generated
        // columns.
        columns.extend(match table {
            Table::Tokens => ["token_id", "loses_at", "loss_reason"].map(str::to_owned).to_vec(),
            Table::Sessions => vec!["token_id".to_owned(), "card_is_stale".to_owned()],
            _ => vec![],
        });
        columns.sort();
        let in_sqlite: Vec<String> =
            sqlx::query_scalar("select name from pragma_table_xinfo(?1) order by name")
                .bind(table.name())
                .fetch_all(&mut sqlite)
                .await
                .unwrap();
        let in_postgres: Vec<String> = sqlx::query_scalar(
            "select column_name::text from information_schema.columns
             where table_schema = 'public' and table_name = $1 order by column_name::text collate \"C\"",
        )
        .bind(table.name())
        .fetch_all(&mut postgres)
        .await
        .unwrap();
        // Sealed columns have the suffix, and are rotated.
        let sealed: Vec<_> = columns.iter().filter(|column| column.ends_with("_sealed")).collect();
        let mut listed = table.sealed_columns().to_vec();
        listed.sort_unstable();
        assert_eq!(sealed, listed);
        assert_eq!(in_sqlite, columns);
        assert_eq!(in_postgres, columns);
    }
}
