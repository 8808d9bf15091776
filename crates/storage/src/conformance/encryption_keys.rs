//! Encryption keys in use, and sealing values again.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc, time::Duration};

use larkauth_models::{ExposeSecret, TokenKind};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::fixtures::{Bed, ou, person};
use crate::{
    Cipher, CipherError, KeySurvey, RefreshClaim, RefreshedToken, Rotated, Store, missing_keys, rotate,
    testing::cipher_of,
    transfer::{Record, Table},
};

/// Writers that refresh and complete during a rotation.
const WRITERS: usize = 4;
/// Rounds of each writer.
const ROUNDS: usize = 15;

fn new_first() -> Cipher {
    cipher_of(&[("new", 2), ("test", 7)])
}

impl Bed {
    async fn survey(&self) -> KeySurvey {
        KeySurvey::of(&*self.store, &new_first(), |_| {}).await.unwrap()
    }

    /// Returns how many rows and values need a key.
    async fn needed(&self, id: &str) -> (u64, u64) {
        let values = self.survey().await.of_key(id);
        (values.rows, values.values)
    }

    /// Stores a value in every sealed column of at least one row.
    async fn fill_sealed(&self) {
        for number in 0..3 {
            self.completed(&self.app, &format!("ou_{number}"), &format!("u-{number}")).await;
        }
        let id = self.pending("ou_escrow").await;
        let claim = self.sent_for(id, Duration::from_secs(60)).await;
        let pair = self.completion(id, claim, "ou_escrow", "u-escrow").pair;
        let sealed = crate::seal_escrow(&cipher_of(&[("test", 7)]), id, &pair).unwrap();
        assert!(self.store.escrow_exchange(id, claim, &sealed).await.unwrap());
    }
}

/// A rotation leaves every value as it was, under the new key. A second one has nothing to do.
pub async fn rotate_seals_every_value_with_first_key(bed: &Bed) {
    bed.fill_sealed().await;
    // Two applications; three tokens, profiles and completed sessions; one session with its pair in escrow.
    assert_eq!(bed.needed("test").await, (2 + 3 + 3 + 3 + 1, 2 + 6 + 6 + 6 + 3));
    let cipher = new_first();
    let mut tables = BTreeSet::new();
    let rotated = rotate(&*bed.store, &cipher, |step| {
        tables.insert(step.table.name());
        ControlFlow::Continue(())
    })
    .await
    .unwrap();
    assert_eq!(rotated, Rotated { read: 12, resealed: 12, left: 0, is_stopped: false });
    assert_eq!(tables, ["access_tokens", "applications", "user_auth_sessions", "user_profiles"].into());
    assert_eq!((bed.needed("test").await, bed.needed("new").await), ((0, 0), (12, 23)));

    let only_new = bed.backend.open(cipher_of(&[("new", 2)])).await;
    assert_eq!(missing_keys(&*only_new, &cipher_of(&[("new", 2)])).await.unwrap(), []);
    for number in 0..3 {
        let open_id = ou(&format!("ou_{number}"));
        let token = only_new.token(&bed.app, &open_id, TokenKind::User).await.unwrap().unwrap();
        let secret = token.pair.access_token.readable().unwrap();
        assert_eq!(secret.expose_secret(), format!("u-{number}"));
        let profile = only_new.profile(&bed.app, &open_id).await.unwrap().unwrap();
        assert_eq!(profile.email.unwrap().expose_secret(), "ming@example.com");
    }
    let application = only_new.application(&bed.app).await.unwrap().unwrap();
    assert_eq!(application.app_secret.expose_secret(), "app-secret");

    let again = rotate(&*bed.store, &cipher, |_| ControlFlow::Continue(())).await.unwrap();
    assert_eq!(again, Rotated { read: 12, resealed: 0, left: 0, is_stopped: false });
}

/// A rotation that is ended after some pages goes on when it is started again, and two at once do no harm.
pub async fn rotate_interrupted_goes_on(bed: &Bed) {
    bed.fill_sealed().await;
    let cipher = new_first();
    let mut steps = 0;
    let rotated = rotate(&*bed.store, &cipher, |_| {
        steps += 1;
        if steps > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .await
    .unwrap();
    assert!(rotated.is_stopped && rotated.resealed > 0, "{rotated:?}");
    let left = bed.needed("test").await.0;
    assert_eq!(left + rotated.resealed, 12);
    assert!(left > 0, "it was interrupted");

    let (first, second) = tokio::join!(
        rotate(&*bed.store, &cipher, |_| ControlFlow::Continue(())),
        rotate(&*bed.second, &cipher, |_| ControlFlow::Continue(())),
    );
    assert_eq!(first.unwrap().resealed + second.unwrap().resealed, left, "each row once");
    assert_eq!(bed.needed("test").await, (0, 0));
}

/// What writers store during a rotation is there afterwards, and the rotation leaves nothing under the old key.
pub async fn rotate_beside_writers_loses_no_write(bed: &Bed) {
    for writer in 0..WRITERS {
        bed.completed(&bed.app, &format!("ou_{writer}"), "u-0").await;
    }
    let mut prepared = Vec::new();
    for writer in 0..WRITERS {
        let mut sessions = Vec::new();
        for round in 0..ROUNDS {
            sessions.push(bed.claimed(&format!("ou_new_{writer}_{round}")).await);
        }
        prepared.push(sessions);
    }
    // The services have the new keys already.
    let store = bed.backend.open(new_first()).await;
    let mut writers = JoinSet::new();
    for (writer, sessions) in prepared.into_iter().enumerate() {
        let store = Arc::clone(&store);
        let completions: Vec<_> = sessions
            .into_iter()
            .enumerate()
            .map(|(round, (id, claim))| {
                bed.completion(id, claim, &format!("ou_new_{writer}_{round}"), &format!("u-{writer}-{round}"))
            })
            .collect();
        let app = bed.app.clone();
        writers.spawn(async move {
            for (round, completion) in completions.into_iter().enumerate() {
                let pair = completion.pair.clone();
                assert!(store.complete_session(&completion).await.unwrap());
                let open_id = ou(&format!("ou_{writer}"));
                let owner = Uuid::from_u128((1 + writer * ROUNDS + round) as u128);
                let life = Duration::from_secs(60);
                let claim = store.claim_refresh(&app, &open_id, owner, life).await.unwrap();
                let RefreshClaim::Leased(leased) = claim else { panic!("{claim:?}") };
                let refreshed = RefreshedToken {
                    app_id: app.clone(),
                    open_id,
                    generation: leased.token.generation,
                    pair,
                    failures: 0,
                    next_attempt_at: None,
                    now: completion.now,
                };
                assert!(store.complete_refresh(&refreshed).await.unwrap());
            }
        });
    }
    let cipher = new_first();
    // Until all writers are done, and once more.
    loop {
        let is_last = writers.is_empty();
        rotate(&*bed.second, &cipher, |_| ControlFlow::Continue(())).await.unwrap();
        if is_last {
            break;
        }
        while let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
    }
    for writer in 0..WRITERS {
        let token =
            store.token(&bed.app, &ou(&format!("ou_{writer}")), TokenKind::User).await.unwrap().unwrap();
        assert_eq!(token.generation, 1 + ROUNDS as i64);
        let secret = token.pair.access_token.readable().unwrap();
        assert_eq!(secret.expose_secret(), format!("u-{writer}-{}", ROUNDS - 1));
        for round in 0..ROUNDS {
            let open_id = ou(&format!("ou_new_{writer}_{round}"));
            let token = store.token(&bed.app, &open_id, TokenKind::User).await.unwrap().unwrap();
            let secret = token.pair.access_token.readable().unwrap();
            assert_eq!(secret.expose_secret(), format!("u-{writer}-{round}"));
        }
    }
    assert_eq!(bed.needed("test").await, (0, 0));
    assert_eq!(bed.survey().await.of_key("new").unreadable(), 0);
}

/// A row that was changed since it was read keeps the newer value.
pub async fn reseal_changed_row_refused(bed: &Bed) {
    bed.completed(&bed.app, "ou_1", "u-1").await;
    let old = bed.store.export(Table::Tokens, None, 1).await.unwrap().remove(0);
    let mut new = old.clone();
    let cipher = new_first();
    let key = old.key().to_string();
    assert!(new.replace_sealed(&mut |column, value| {
        cipher.reseal(&["access_tokens", column, &key], value).unwrap().map(|sealed| sealed.0)
    }));
    assert_eq!(new.columns(), old.columns());
    bed.completed(&bed.app, "ou_1", "u-2").await;
    let change = crate::Resealed { old, new };
    assert_eq!(bed.store.reseal(std::slice::from_ref(&change)).await.unwrap(), [false]);
    let token = bed.store.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().unwrap();
    assert_eq!(token.pair.access_token.readable().unwrap().expose_secret(), "u-2");
}

/// A value that was moved from another row stays as it is, is reported, and delays no other value.
pub async fn rotate_moved_value_left_untouched_and_reported(bed: &Bed) {
    for open_id in ["ou_1", "ou_2"] {
        bed.completed(&bed.app, open_id, "u-1").await;
    }
    let rows = bed.store.export(Table::Tokens, None, 10).await.unwrap();
    let [Record::Tokens(first), Record::Tokens(second)] = &rows[..] else { panic!("{rows:?}") };
    let mut moved = second.clone();
    moved.refresh_token_sealed.clone_from(&first.refresh_token_sealed);
    let change = crate::Resealed { old: Record::Tokens(second.clone()), new: Record::Tokens(moved.clone()) };
    assert_eq!(bed.store.reseal(&[change]).await.unwrap(), [true]);

    let rotated = rotate(&*bed.store, &new_first(), |_| ControlFlow::Continue(())).await.unwrap();
    assert_eq!(rotated.left, 0);
    let closed = bed.survey().await.of_key("test");
    let place = format!("access_tokens.refresh_token_sealed of row {}/ou_2/user", bed.app);
    assert_eq!((closed.values, closed.unreadable(), closed.closed), (1, 1, vec![place]));
    assert_eq!(closed.reason, Some(CipherError::Rejected("test".to_owned())));
    let rows = bed.store.export(Table::Tokens, None, 10).await.unwrap();
    let Record::Tokens(after) = &rows[1] else { panic!("{rows:?}") };
    assert_eq!(after.refresh_token_sealed, moved.refresh_token_sealed, "untouched");
    assert_ne!(after.access_token_sealed, moved.access_token_sealed, "sealed again");
}

/// A key is in use from its first note until an operator forgets it, and not while a process notes it.
pub async fn forget_key_use_noted_meanwhile_refused(bed: &Bed) {
    assert_eq!(bed.store.key_uses().await.unwrap(), []);
    bed.store.note_key_use("b").await.unwrap();
    bed.store.note_key_use("a").await.unwrap();
    let [known, other] = bed.second.key_uses().await.unwrap().try_into().unwrap();
    assert_eq!((known.key_id.as_str(), other.key_id.as_str()), ("a", "b"));
    assert!(known.sealed_at.is_some() && known.sealed_ago.unwrap() < Duration::from_secs(60), "{known:?}");
    bed.store.note_key_use("a").await.unwrap();
    assert_eq!(bed.store.key_uses().await.unwrap()[0].sealed_at, known.sealed_at, "written once in 30 s");

    let older = crate::KeyUse { sealed_at: None, ..known.clone() };
    assert!(!bed.store.forget_key_use(&older, &bed.act()).await.unwrap(), "noted since");
    assert!(bed.store.forget_key_use(&known, &bed.act()).await.unwrap());
    assert!(!bed.store.forget_key_use(&known, &bed.act()).await.unwrap());
    let left: Vec<_> = bed.store.key_uses().await.unwrap().into_iter().map(|known| known.key_id).collect();
    assert_eq!(left, ["b"]);
}

/// Imported rows note the keys that they need.
pub async fn import_notes_keys_of_rows(bed: &Bed) {
    bed.completed(&bed.app, "ou_1", "u-1").await;
    let mut row = bed.store.export(Table::Tokens, None, 1).await.unwrap().remove(0);
    let Record::Tokens(token) = &mut row else { panic!("{row:?}") };
    "ou_imported".clone_into(&mut token.open_id);
    assert_eq!(bed.store.key_uses().await.unwrap(), []);
    assert_eq!(bed.store.import(&[row]).await.unwrap(), 1);
    let [known] = bed.store.key_uses().await.unwrap().try_into().unwrap();
    assert_eq!((known.key_id.as_str(), known.sealed_at), ("test", None));
}

/// Of a token with a secret that does not open, the other one is readable, also under a lease.
pub async fn token_with_one_unreadable_secret_keeps_the_other(bed: &Bed) {
    let id = bed.create(&bed.new_session(&bed.app, person("ou_1"))).await;
    let claim = bed.claim(id).await;
    let mut completion = bed.completion(id, claim, "ou_1", "u-1");
    completion.next_attempt_at = Some(bed.now());
    assert!(bed.store.complete_session(&completion).await.unwrap());
    let rotated = bed.backend.open(new_first()).await;
    let read = async |store: &Arc<dyn Store>| {
        store.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().unwrap().pair
    };
    for column in ["refresh_token_sealed", "access_token_sealed"] {
        // One of the two is sealed with the key that the first store lacks.
        let old = bed.store.export(Table::Tokens, None, 1).await.unwrap().remove(0);
        let (mut new, key, cipher) = (old.clone(), old.key().to_string(), new_first());
        assert!(new.replace_sealed(&mut |name, value| {
            let cipher = if name == column { &cipher } else { &cipher_of(&[("test", 7), ("new", 2)]) };
            cipher.reseal(&["access_tokens", name, &key], value).unwrap().map(|sealed| sealed.0)
        }));
        assert_eq!(bed.store.reseal(&[crate::Resealed { old, new }]).await.unwrap(), [true]);
        let pair = read(&bed.store).await;
        let why = pair.unreadable().unwrap().clone();
        assert_eq!((why.column, why.key_id.as_deref()), (column, Some("new")));
        let is_refresh = column == "refresh_token_sealed";
        assert_eq!(pair.access_token.readable().is_some(), is_refresh);
        assert_eq!(pair.refresh_token.unwrap().readable().is_some(), !is_refresh);
        assert!(read(&rotated).await.unreadable().is_none());
        let owner = bed.uuid();
        let leased = bed.store.claim_refresh(&bed.app, &ou("ou_1"), owner, Duration::ZERO).await.unwrap();
        let RefreshClaim::Leased(leased) = leased else { panic!("{leased:?}") };
        assert_eq!(leased.token.pair.unreadable(), Some(&why));
    }
}
