//! Encryption keys: a missing one invites no person and ends no login, and a rotation runs beside everything else.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use chrono::TimeDelta;
use larkauth_auth::{AuthError, Context, ContextParts, KeyRotation, Retirement};
use larkauth_contracts::message::InvitationRequested;
use larkauth_lark_sim::Endpoint;
use larkauth_messaging::Disposition;
use larkauth_models::{LossReason, OpenId, Person, StoredToken, Timestamp, TokenKind, TokenStatus};
use larkauth_storage::{
    AuditFilter, Cipher, HorizonFilter, KeyUse, Resealed, UnreadableToken, UnreadableTokens,
    testing::cipher_of,
    transfer::{RowKey, Table},
};
use larkauth_storage_postgres::PgStore;
use tokio_util::sync::CancellationToken;

use crate::fixture::{ACTOR, Fixture};

const GONE: &str = "gone";

impl Fixture {
    /// A context with these keys on the same database, as another process.
    async fn with_keys(&self, cipher: Cipher) -> Context {
        let store = PgStore::connect(&self.database.options(), cipher.clone()).await.unwrap();
        Context::new(ContextParts { store: std::sync::Arc::new(store), cipher, ..self.parts.clone() })
    }

    async fn token_row(&self, person: &OpenId) -> StoredToken {
        self.parts.store.token(&self.app_id(), person, TokenKind::User).await.unwrap().unwrap()
    }

    /// Seals one secret of a token again.
    async fn seal_again(&self, person: &OpenId, column: &str, cipher: &Cipher) {
        let key = RowKey(vec![self.app_id().to_string(), person.to_string(), "user".to_owned()]);
        let old = self.parts.store.find(Table::Tokens, std::slice::from_ref(&key)).await.unwrap().remove(0);
        let mut new = old.clone();
        assert!(new.replace_sealed(&mut |name, value| {
            let context = ["access_tokens", name, &key.to_string()];
            let sealed = (name == column).then(|| cipher.reseal(&context, value).unwrap().unwrap());
            sealed.map(|sealed| sealed.0)
        }));
        assert_eq!(self.parts.store.reseal(&[Resealed { old, new }]).await.unwrap(), [true]);
    }

    fn calls(&self) -> u64 {
        self.sim.stats().calls(Endpoint::TokenRefresh)
    }

    async fn run_refreshes(&self) -> u64 {
        let stopping = CancellationToken::new();
        self.context.refresh_due_tokens(&ACTOR, self.context.now(), &stopping).await.unwrap()
    }
}

fn gone_first() -> Cipher {
    cipher_of(&[(GONE, 1), ("test", 7)])
}

async fn rotated(context: &Context) -> KeyRotation {
    context.rotate_encryption_keys(&ACTOR, context.now(), |_| ControlFlow::Continue(())).await.unwrap()
}

async fn retired(context: &Context, id: &str) -> Retirement {
    context.retire_encryption_key(&ACTOR, context.now(), id, |_| {}).await.unwrap()
}

#[tokio::test]
async fn missing_key_invites_no_person_until_it_is_back_or_retired() {
    let fixture = Fixture::new().await;
    fixture.parts.store.note_key_use(GONE).await.unwrap();
    let who = || Person { open_id: Some(fixture.person(0)), user_id: None };
    let invite = async |context: &Context| {
        context.invite(&ACTOR, context.now(), fixture.invitation(who())).await.map(drop)
    };
    let refused = invite(&fixture.context).await.unwrap_err();
    let AuthError::EncryptionKeyMissing { key_ids } = &refused else { panic!("{refused}") };
    assert_eq!(key_ids, &[GONE]);
    assert!(refused.to_string().contains("`larkauth encryption-keys retire`"), "{refused}");
    assert_eq!(fixture.context.look_at_encryption_keys().await.unwrap()[..], [GONE.to_owned()]);
    assert!(fixture.parts.metrics.render().contains("lark_service_encryption_keys_missing 1"));

    // A process with the key invites. This one does not send the card.
    let other = fixture.with_keys(gone_first()).await;
    invite(&other).await.unwrap();
    let requested = fixture.bus.take::<InvitationRequested>();
    let retried = fixture.deliver(requested).await;
    assert!(matches!(&retried, Disposition::Retry { reason, .. } if reason.contains(GONE)), "{retried:?}");
    assert_eq!(fixture.sim.stats().calls(Endpoint::MessageSend), 0);

    // The key was noted a moment ago: its process may still encrypt with it.
    let still = retired(&fixture.context, GONE).await;
    assert!(matches!(still, Retirement::StillSealing { .. }), "{still:?}");
    fixture.sql("update encryption_key_uses set sealed_at = sealed_at - interval '3 minutes'").await;
    // The session of the other process needs it.
    let needed = retired(&fixture.context, GONE).await;
    assert!(matches!(&needed, Retirement::Needed(values) if values.rows == 1), "{needed:?}");
    let both = fixture.with_keys(cipher_of(&[("test", 7), (GONE, 1)])).await;
    assert_eq!(retired(&both, "test").await, Retirement::First);
    assert_eq!(retired(&both, "unknown").await, Retirement::Unknown);
    assert!(rotated(&both).await.is_complete());
    assert_eq!(retired(&both, GONE).await, Retirement::Retired);
    assert!(fixture.context.look_at_encryption_keys().await.unwrap().is_empty());
    invite(&fixture.context).await.unwrap();

    fixture.context.flush_audit().await;
    both.flush_audit().await;
    let records = fixture.parts.store.list_audit(&AuditFilter::default(), None, 100).await.unwrap();
    let mut seen = BTreeMap::new();
    for record in records.iter().filter(|record| record.action.starts_with("encryption_key")) {
        let (key, reason) = (record.encryption_key.clone(), record.reason.clone());
        let of = (record.action.as_str(), key.unwrap_or_default(), reason.unwrap_or_default());
        *seen.entry(of).or_insert(0) += 1;
    }
    let expected = [
        ("encryption_key.retire", GONE, "", 1),
        ("encryption_key.retire", GONE, "encryption_key_in_use", 2),
        ("encryption_key.retire", "test", "encryption_key_in_use", 1),
        ("encryption_key.retire", "unknown", "not_found", 1),
        ("encryption_key.rotate", "test", "", 1),
    ];
    let expected = expected.map(|(action, key, reason, count)| ((action, key.into(), reason.into()), count));
    assert_eq!(seen, expected.into());
}

#[tokio::test]
async fn process_with_foreign_keys_notes_none_of_them() {
    let fixture = Fixture::new().await;
    fixture.context.note_encryption_key().await;
    let foreign = fixture.with_keys(cipher_of(&[("third", 3)])).await;
    let now = foreign.now();

    // What only reads writes nothing.
    assert_eq!(foreign.look_at_encryption_keys().await.unwrap()[..], ["test".to_owned()]);
    let filter = HorizonFilter { app_id: None, from: Timestamp::UNIX_EPOCH, until: now };
    foreign.horizon(&ACTOR, now, &filter, None, 10).await.unwrap();

    let who = || Person { open_id: Some(fixture.person(0)), user_id: None };
    let invite = async |context: &Context| {
        context.invite(&ACTOR, context.now(), fixture.invitation(who())).await.map(drop).unwrap_err()
    };
    let refused = invite(&foreign).await;
    assert!(matches!(refused, AuthError::EncryptionKeyMissing { .. }), "{refused}");
    // A process that runs could not read the registration.
    let application = fixture.parts.store.application(&fixture.app_id()).await.unwrap().unwrap();
    let refused = foreign.register_application(&ACTOR, now, &application).await.unwrap_err();
    assert!(matches!(refused, AuthError::EncryptionKeyMissing { .. }), "{refused}");
    let rotate = async |context: &Context| {
        context
            .rotate_encryption_keys(&ACTOR, now, |_| ControlFlow::Continue(()))
            .await
            .map(drop)
            .unwrap_err()
    };
    let refused = rotate(&foreign).await;
    assert!(matches!(refused, AuthError::ForeignEncryptionKeys(_)), "{refused}");
    // The id of the right key, and other bytes.
    let foreign = fixture.with_keys(cipher_of(&[("third", 3), ("test", 8)])).await;
    for refused in [invite(&foreign).await, rotate(&foreign).await] {
        assert!(matches!(refused, AuthError::ForeignEncryptionKeys(_)), "{refused}");
    }

    let noted = fixture.parts.store.key_uses().await.unwrap();
    assert_eq!(noted.iter().map(|known| known.key_id.as_str()).collect::<Vec<_>>(), ["test"]);
    // The right keys are noted before the first value is encrypted with them.
    let both = fixture.with_keys(gone_first()).await;
    both.invite(&ACTOR, now, fixture.invitation(who())).await.unwrap();
    let noted = fixture.parts.store.key_uses().await.unwrap();
    assert_eq!(noted.iter().map(|known| known.key_id.as_str()).collect::<Vec<_>>(), [GONE, "test"]);
}

#[tokio::test]
async fn token_of_application_whose_secret_is_unreadable_is_served() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    let read = async || {
        // Without what the other process keeps in memory.
        let context = Context::new(fixture.parts.clone());
        let (now, minute) = (context.now(), TimeDelta::minutes(1));
        context.valid_token(&ACTOR, now, &fixture.app_id(), &person, minute, &[]).await
    };
    // A value of another row opens with no key.
    fixture
        .sql("update applications set app_secret_sealed = (select access_token_sealed from access_tokens)")
        .await;
    assert_eq!(read().await.unwrap().generation, 1);
    fixture.sql("update applications set enabled = false").await;
    assert!(matches!(read().await, Err(AuthError::AppDisabled(_))));
}

#[tokio::test]
async fn unreadable_refresh_token_ends_no_login_and_serves_access_token() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.seal_again(&person, "refresh_token_sealed", &gone_first()).await;
    let before = fixture.token_row(&person).await;
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 1, "the access token is readable");
    let (who, app_id) = (ACTOR, fixture.app_id());
    let standing = fixture.context.token_standing(&who, fixture.context.now(), &app_id, &person);
    let standing = standing.await.unwrap().unwrap();
    assert!(standing.is_served && standing.token.access_token.unwrap().unreadable.is_none());
    let why = standing.token.refresh_token.unwrap().unreadable.unwrap();
    assert_eq!((why.column, why.key_id.as_deref()), ("refresh_token_sealed", Some(GONE)));

    fixture.clock.advance(Duration::from_secs(7201));
    for _ in 0..3 {
        let failed = fixture.served(&person, 60).await.unwrap_err();
        assert!(matches!(failed, AuthError::SecretUnreadable(_)), "{failed}");
        let forced = fixture.context.refresh_token(&who, fixture.context.now(), &app_id, &person, None);
        assert!(matches!(forced.await.unwrap_err(), AuthError::SecretUnreadable(_)));
    }
    assert_eq!(fixture.run_refreshes().await, 0);
    let after = fixture.token_row(&person).await;
    assert_eq!((after.status, after.failures, after.generation), (TokenStatus::Active, 0, before.generation));
    assert_eq!(after.next_attempt_at, Some(fixture.context.now() + Duration::from_secs(60)));
    assert_eq!(fixture.calls(), 0, "nothing was sent");
    let page = fixture.parts.metrics.render();
    assert!(
        page.contains(r#"token_refresh_total{app_id="cli_0123456789abcdef",outcome="unreadable"} 1"#),
        "{page}"
    );

    // The key is back.
    fixture.seal_again(&person, "refresh_token_sealed", &cipher_of(&[("test", 7), (GONE, 1)])).await;
    fixture.clock.advance(Duration::from_secs(61));
    assert_eq!(fixture.run_refreshes().await, 1);
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
}

#[tokio::test]
async fn unreadable_access_token_is_replaced_by_a_refresh() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.seal_again(&person, "access_token_sealed", &gone_first()).await;
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2, "refreshed, because it cannot be read");
    assert!(fixture.token_row(&person).await.pair.unreadable().is_none());

    fixture.seal_again(&person, "access_token_sealed", &gone_first()).await;
    fixture.seal_again(&person, "refresh_token_sealed", &gone_first()).await;
    let failed = fixture.served(&person, 60).await.unwrap_err();
    assert!(matches!(failed, AuthError::SecretUnreadable(_)), "never a reason to ask: {failed}");
    assert_eq!(fixture.calls(), 1);
}

#[tokio::test]
async fn rotation_stopped_in_the_middle_goes_on_and_lists_rows_per_key() {
    let fixture = Fixture::new().await;
    for n in 0..3 {
        fixture.authorized(n).await;
    }
    let rotating = fixture.with_keys(cipher_of(&[("new", 2), ("test", 7)])).await;
    let mut steps = 0;
    let stopped = rotating
        .rotate_encryption_keys(&ACTOR, rotating.now(), |_| {
            steps += 1;
            if steps > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await
        .unwrap();
    assert!(stopped.rotated.is_stopped && stopped.verified.is_none() && !stopped.is_complete());
    let rows = async || {
        let listed = rotating.encryption_keys(&ACTOR, rotating.now(), |_| {}).await.unwrap();
        let rows = listed.into_iter().map(|key| ((key.id, key.is_first, key.is_configured), key.values.rows));
        rows.collect::<Vec<_>>()
    };
    let (new, old) = (("new".to_owned(), true, true), ("test".to_owned(), false, true));
    // The application, three tokens; then three profiles and three sessions.
    assert_eq!(rows().await, [(new.clone(), 4), (old.clone(), 6)]);
    let done = rotated(&rotating).await;
    assert!(done.is_complete());
    assert_eq!((done.rotated.read, done.rotated.resealed), (10, 6));
    assert_eq!(rows().await, [(new, 10), (old, 0)]);

    // A process that has the old key first writes beside it.
    fixture
        .seal_again(&fixture.person(0), "refresh_token_sealed", &cipher_of(&[("test", 7), ("new", 2)]))
        .await;
    assert_eq!(rows().await[1].1, 1);
    let again = rotated(&rotating).await;
    assert_eq!((again.is_complete(), again.rotated.resealed), (true, 1));
}

#[tokio::test]
async fn waiting_messages_keep_a_key() {
    let fixture = Fixture::new().await;
    fixture.parts.store.note_key_use(GONE).await.unwrap();
    fixture.sql("update encryption_key_uses set sealed_at = null").await;
    let folder = fixture.spool.path().join("escrow");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("1.escrow"), "x").unwrap();
    assert_eq!(retired(&fixture.context, GONE).await, Retirement::Waiting { messages: 1 });
    std::fs::remove_file(folder.join("1.escrow")).unwrap();
    assert_eq!(retired(&fixture.context, GONE).await, Retirement::Retired);
    let left = fixture.parts.store.key_uses().await.unwrap();
    assert!(left.iter().all(|KeyUse { key_id, .. }| key_id != GONE), "{left:?}");
}

#[tokio::test]
async fn horizon_lists_losses_and_unreadable_tokens() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.authorized(0).await, fixture.authorized(1).await);
    fixture.sql("update access_tokens set status = 'outcome_unknown' where open_id = (select min(open_id) from access_tokens)").await;
    fixture.context.update_gauges(fixture.context.now()).await.unwrap();
    let page = fixture.parts.metrics.render();
    assert!(page.contains(r#"token_outcome_unknown_count{app_id="cli_0123456789abcdef"} 1"#), "{page}");
    let now = fixture.context.now();
    let filter =
        HorizonFilter { app_id: None, from: Timestamp::UNIX_EPOCH, until: now + Duration::from_secs(86_400) };
    let horizon = async |limit| fixture.context.horizon(&ACTOR, now, &filter, None, limit).await.unwrap();
    let page = horizon(10).await;
    assert_eq!((page.losses.len(), page.next.is_none()), (1, true));
    assert_eq!(page.losses[0].open_id, first.clone().min(second.clone()));
    assert_eq!(page.losses[0].reason, LossReason::OutcomeUnknown);
    assert_eq!((page.counts[0].people, page.unreadable.clone()), (1, UnreadableTokens::default()));
    assert!(horizon(1).await.next.is_some(), "a full page may be followed by another");

    fixture.seal_again(&second, "refresh_token_sealed", &gone_first()).await;
    fixture.parts.store.note_key_use(GONE).await.unwrap();
    let unreadable = horizon(10).await.unreadable;
    assert_eq!(unreadable.counts, BTreeMap::from([(Some(GONE.to_owned()), 1)]));
    let token = fixture.token_row(&second).await;
    let person = UnreadableToken {
        app_id: fixture.app_id(),
        open_id: second.clone(),
        key_id: Some(GONE.to_owned()),
        access_until: Some(token.pair.access_expires_at),
    };
    assert_eq!(unreadable.people, std::slice::from_ref(&person));
    fixture.seal_again(&second, "access_token_sealed", &gone_first()).await;
    let unreadable = horizon(10).await.unreadable;
    assert_eq!(unreadable.people, [UnreadableToken { access_until: None, ..person }]);
    assert_eq!(unreadable.counts, BTreeMap::from([(Some(GONE.to_owned()), 1)]));
}
