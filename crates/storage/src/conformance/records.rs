//! Applications, events, API keys, and values that cannot be read.

use std::{num::NonZeroU32, time::Duration};

use larkauth_models::{
    AppId, Application, Brand, EventId, ExposeSecret, KeyAccess, Timestamp, TokenApi, TokenKind,
};

use super::fixtures::{Bed, UNLIMITED, application, ou, person, secret, wins};
use crate::{
    ActiveCounts, ApiKey, CipherError, SessionEnding, SessionFilter, StorageError,
    testing::{act, cipher_of},
};

/// Every field is stored, with and without its optional values. Registering again replaces the application.
pub async fn put_application_every_field_returned_unchanged(bed: &Bed) {
    let app_id = AppId::new("cli_00000000000000a0").unwrap();
    assert!(bed.store.application(&app_id).await.unwrap().is_none());
    let full = Application {
        verification_token: Some(secret("verification")),
        encrypt_key: Some(secret("encrypt")),
        brand: Brand::Lark,
        token_api: TokenApi::V1,
        redirect_uri: "https://example.com/cb?x=1".parse().unwrap(),
        default_scopes: vec![],
        enabled: false,
        ..application(&app_id)
    };
    for given in [full, application(&app_id)] {
        bed.store.put_application(&given, &bed.act()).await.unwrap();
        let stored = bed.second.application(&app_id).await.unwrap().unwrap();
        assert_eq!(stored.app_secret.expose_secret(), given.app_secret.expose_secret());
        let optional = |a: &Application| {
            [&a.verification_token, &a.encrypt_key].map(|s| s.as_ref().map(|s| s.expose_secret().to_owned()))
        };
        assert_eq!(optional(&stored), optional(&given));
        assert_eq!((&stored.app_id, stored.brand, stored.token_api), (&app_id, given.brand, given.token_api));
        assert_eq!((stored.redirect_uri, stored.default_scopes), (given.redirect_uri, given.default_scopes));
        assert_eq!((stored.enabled, stored.frozen_since, stored.frozen_reason), (given.enabled, None, None));
    }
    let all = bed.store.applications().await.unwrap();
    let listed: Vec<_> = all.iter().map(|listed| (&listed.app_id, listed.enabled)).collect();
    assert_eq!(listed, [(&app_id, true), (&bed.app, true), (&bed.other_app, true)], "ordered by id");
    for listed in &all {
        assert_eq!(listed.application.as_ref().unwrap().app_id, listed.app_id);
    }
    assert!(bed.store.set_application_enabled(&app_id, false, &bed.act()).await.unwrap());
    assert!(!bed.store.application(&app_id).await.unwrap().unwrap().enabled);
    let unknown = AppId::new("cli_00000000000000ff").unwrap();
    assert!(!bed.store.set_application_enabled(&unknown, true, &bed.act()).await.unwrap());
    assert!(!bed.store.set_application_frozen(&unknown, Some("x"), bed.now()).await.unwrap());
}

/// The circuit breaker opens once, keeps its first reason, and closes once. New settings close it.
pub async fn set_application_frozen_repeated_keeps_first_reason(bed: &Bed) {
    let freeze = async |reason: Option<&str>| {
        bed.store.set_application_frozen(&bed.app, reason, bed.now()).await.unwrap()
    };
    let since = bed.now();
    assert!(!freeze(None).await);
    assert!(freeze(Some("20002")).await);
    bed.advance(5);
    assert!(!freeze(Some("20009")).await);
    let frozen = bed.second.application(&bed.app).await.unwrap().unwrap();
    assert_eq!((frozen.frozen_since, frozen.frozen_reason.as_deref()), (Some(since), Some("20002")));
    assert!(freeze(None).await);
    assert!(!freeze(None).await);
    assert!(freeze(Some("20048")).await);
    bed.store.put_application(&application(&bed.app), &bed.act()).await.unwrap();
    let closed = bed.second.application(&bed.app).await.unwrap().unwrap();
    assert_eq!((closed.frozen_since, closed.frozen_reason), (None, None));

    let now = bed.now();
    let app = bed.app.clone();
    let opened = bed
        .race(20, |_, store| {
            let app = app.clone();
            async move { store.set_application_frozen(&app, Some("x"), now).await }
        })
        .await;
    assert_eq!(wins(&opened), 1);
}

/// An event is recorded for one consumer only. Recording it again has no effect.
pub async fn mark_processed_one_consumer_other_consumer_unaffected(bed: &Bed) {
    let event = EventId::new("e-1").unwrap();
    assert!(!bed.store.is_processed("cards", &event).await.unwrap());
    for _ in 0..2 {
        bed.store.mark_processed("cards", &event, bed.now()).await.unwrap();
    }
    assert!(bed.second.is_processed("cards", &event).await.unwrap());
    assert!(!bed.second.is_processed("codes", &event).await.unwrap());
    assert!(!bed.second.is_processed("cards", &EventId::new("e-2").unwrap()).await.unwrap());
    let now = bed.now();
    bed.race(20, |_, store| async move {
        store.mark_processed("cards", &EventId::new("e-3").unwrap(), now).await
    })
    .await;
}

/// Old records are deleted up to the limit; younger records remain.
pub async fn purge_processed_old_events_removed_up_to_limit(bed: &Bed) {
    for number in 0..10 {
        let event = EventId::new(format!("e-{number}")).unwrap();
        bed.store.mark_processed("cards", &event, bed.now()).await.unwrap();
        bed.advance(1);
    }
    let before = bed.now() - Duration::from_secs(3);
    assert_eq!(bed.store.purge_processed(before, 4).await.unwrap(), 4);
    assert_eq!(bed.store.purge_processed(before, 100).await.unwrap(), 3);
    assert_eq!(bed.store.purge_processed(before, 100).await.unwrap(), 0);
    assert!(!bed.store.is_processed("cards", &EventId::new("e-6").unwrap()).await.unwrap());
    assert!(bed.store.is_processed("cards", &EventId::new("e-7").unwrap()).await.unwrap());
}

/// A key is found by its hash until it is revoked. Revoked keys are still listed.
pub async fn api_key_revoked_not_found(bed: &Bed) {
    let mut keys = Vec::new();
    for byte in 1..=2 {
        let key = ApiKey {
            id: bed.uuid(),
            name: format!("key {byte}"),
            scopes: vec!["tokens:read".to_owned()],
            access: KeyAccess {
                app_ids: vec![bed.app.to_string()],
                lark_scopes: vec!["docs:read".to_owned(), "offline_access".to_owned()],
            },
            requests_per_minute: NonZeroU32::new(60),
            created_at: bed.now(),
            revoked_at: None,
            expires_at: Some(bed.now() + Duration::from_secs(3600)),
            last_used_at: None,
        };
        bed.store.put_api_key(&key, &[byte; 32], &bed.act()).await.unwrap();
        bed.advance(1);
        keys.push(key);
    }
    assert_eq!(bed.second.api_key(&[1; 32]).await.unwrap().as_ref(), Some(&keys[0]));
    assert_eq!(bed.second.api_key(&[9; 32]).await.unwrap(), None);
    assert_eq!(bed.second.api_key_by_id(keys[1].id).await.unwrap().as_ref(), Some(&keys[1]));
    assert_eq!(bed.second.api_key_by_id(bed.uuid()).await.unwrap(), None);
    assert!(
        bed.store
            .put_api_key(&ApiKey { id: bed.uuid(), ..keys[0].clone() }, &[1; 32], &bed.act())
            .await
            .is_err()
    );
    assert!(bed.store.revoke_api_key(keys[0].id, &bed.act()).await.unwrap());
    assert!(!bed.store.revoke_api_key(keys[0].id, &bed.act()).await.unwrap());
    assert!(!bed.store.revoke_api_key(bed.uuid(), &bed.act()).await.unwrap());
    assert_eq!(bed.second.api_key(&[1; 32]).await.unwrap(), None);
    assert_eq!(bed.second.api_key_by_id(keys[0].id).await.unwrap(), None);
    keys[0].revoked_at = Some(bed.now());
    assert_eq!(bed.second.api_keys().await.unwrap(), keys);
}

/// The successor of a key works at once, and the old key ends after the overlap, not later than before.
pub async fn rotate_api_key_ends_old_key_after_overlap(bed: &Bed) {
    let old = ApiKey {
        id: bed.uuid(),
        name: "crm".to_owned(),
        scopes: vec!["tokens:read".to_owned()],
        access: KeyAccess::default(),
        requests_per_minute: None,
        created_at: bed.now(),
        revoked_at: None,
        expires_at: None,
        last_used_at: None,
    };
    bed.store.put_api_key(&old, &[1; 32], &bed.act()).await.unwrap();
    let (now, until) = (bed.now(), bed.now() + Duration::from_secs(60));
    let successor = |id| ApiKey { id, ..old.clone() };
    let (first, second) = (successor(bed.uuid()), successor(bed.uuid()));
    assert!(bed.store.rotate_api_key(old.id, until, &first, &[2; 32], &act(now)).await.unwrap());
    let later = until + Duration::from_secs(60);
    assert!(bed.second.rotate_api_key(old.id, later, &second, &[3; 32], &act(now)).await.unwrap());
    let stored = bed.second.api_key(&[1; 32]).await.unwrap().unwrap();
    assert_eq!(stored.expires_at, Some(until), "a later end does not prolong a key");
    assert_eq!(bed.second.api_key(&[2; 32]).await.unwrap(), Some(first.clone()));

    // An expired, a revoked and an unknown key have no successor, and nothing is stored.
    let third = successor(bed.uuid());
    assert!(!bed.store.rotate_api_key(old.id, later, &third, &[4; 32], &act(until)).await.unwrap());
    assert!(bed.store.revoke_api_key(first.id, &act(now)).await.unwrap());
    assert!(!bed.store.rotate_api_key(first.id, later, &third, &[4; 32], &act(now)).await.unwrap());
    assert!(!bed.store.rotate_api_key(bed.uuid(), later, &third, &[4; 32], &act(now)).await.unwrap());
    assert_eq!(bed.store.api_key(&[4; 32]).await.unwrap(), None);
    // A successor that cannot be stored leaves the old key as it is.
    assert!(bed.store.rotate_api_key(second.id, until, &third, &[1; 32], &act(now)).await.is_err());
    assert_eq!(bed.store.api_key(&[3; 32]).await.unwrap().unwrap().expires_at, None);
}

/// The time of use is recorded at most once a minute.
pub async fn touch_api_key_records_once_a_minute(bed: &Bed) {
    let key = ApiKey {
        id: bed.uuid(),
        name: "crm".to_owned(),
        scopes: Vec::new(),
        access: KeyAccess::default(),
        requests_per_minute: None,
        created_at: bed.now(),
        revoked_at: None,
        expires_at: None,
        last_used_at: None,
    };
    bed.store.put_api_key(&key, &[1; 32], &bed.act()).await.unwrap();
    let start = bed.now();
    for (seconds, recorded) in [(0, 0), (59, 0), (60, 60), (90, 60), (10, 60)] {
        bed.store.touch_api_key(key.id, start + Duration::from_secs(seconds)).await.unwrap();
        let used = bed.second.api_key(&[1; 32]).await.unwrap().unwrap().last_used_at;
        assert_eq!(used, Some(start + Duration::from_secs(recorded)), "{seconds}");
    }
}

/// A row that is sealed with a missing key is listed with an error; the other rows are listed normally.
pub async fn list_with_unreadable_row_returns_other_rows(bed: &Bed) {
    let gone = bed.backend.open(cipher_of(&[("gone", 1)])).await;
    gone.put_application(&application(&bed.app), &bed.act()).await.unwrap();
    assert!(bed.store.set_application_enabled(&bed.app, false, &bed.act()).await.unwrap());
    let [bad, good] = bed.store.applications().await.unwrap().try_into().unwrap();
    assert_eq!((&bad.app_id, bad.enabled), (&bed.app, false));
    let error = bad.application.unwrap_err();
    assert!(error.is_of_one_row() && error.to_string().contains(bed.app.as_str()), "{error}");
    assert_eq!(good.application.unwrap().app_secret.expose_secret(), "app-secret");

    let completed = bed.completed(&bed.other_app, "ou_1", "t").await;
    bed.advance(1);
    let pending = bed.new_session(&bed.other_app, person("ou_2"));
    gone.create_session(&pending, UNLIMITED).await.unwrap();
    for store in [&bed.store, &gone] {
        let listed = store.list_sessions(&SessionFilter::default(), None, 10).await.unwrap();
        let ids: Vec<_> = listed.iter().map(|session| session.id).collect();
        assert_eq!(ids, [pending.id, completed]);
        assert!(listed.iter().all(|s| s.email.is_none() && s.mobile.is_none() && s.consent.is_none()));
    }
    assert!(bed.store.session(pending.id).await.unwrap_err().is_of_one_row());
}

/// With wrong keys every read fails with table, column and row, or names the column of a token. No read returns `None`.
pub async fn read_with_wrong_key_names_table_column_and_row(bed: &Bed) {
    let pending = bed.create(&bed.new_session(&bed.app, person("ou_2"))).await;
    let completed = bed.completed(&bed.app, "ou_1", "t").await;
    let missing = bed.backend.open(cipher_of(&[("other", 1)])).await;
    let different = bed.backend.open(cipher_of(&[("test", 1)])).await;
    for (store, why) in [
        (missing, CipherError::UnknownKey("test".to_owned())),
        (different, CipherError::Rejected("test".to_owned())),
    ] {
        let check = |error: StorageError, place: (&str, &str, &str)| {
            let StorageError::Undecryptable { table, column, row, source } = error else {
                unreachable!("{error}");
            };
            assert_eq!((table, column, row.as_str()), place);
            assert_eq!(source, why);
        };
        let app = bed.app.as_str();
        check(store.application(&bed.app).await.unwrap_err(), ("applications", "app_secret_sealed", app));
        for listed in store.applications().await.unwrap() {
            let app = listed.app_id.to_string();
            check(listed.application.unwrap_err(), ("applications", "app_secret_sealed", &app));
        }
        let error = store.session(pending).await.unwrap_err();
        check(error, ("user_auth_sessions", "oauth_state_sealed", &pending.to_string()));
        let error = store.session(completed).await.unwrap_err();
        check(error, ("user_auth_sessions", "email_sealed", &completed.to_string()));
        // A token is read without its secrets.
        let pair = store.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().unwrap().pair;
        for (secret, column) in [
            (pair.access_token, "access_token_sealed"),
            (pair.refresh_token.unwrap(), "refresh_token_sealed"),
        ] {
            let unreadable = secret.unreadable().unwrap();
            assert_eq!((unreadable.column, unreadable.reason.as_str()), (column, why.to_string().as_str()));
            assert_eq!(unreadable.key_id.as_deref(), Some("test"));
        }
        let error = store.profile(&bed.app, &ou("ou_1")).await.unwrap_err();
        check(error, ("user_profiles", "email_sealed", &format!("{app}/ou_1")));
    }
}

/// With the new key first and the old key second, values of both keys can be read.
pub async fn read_after_key_rotation_opens_old_and_new_values(bed: &Bed) {
    bed.completed(&bed.app, "ou_1", "old").await;
    let rotated = bed.backend.open(cipher_of(&[("new", 2), ("test", 7)])).await;
    let token = rotated.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().unwrap();
    assert_eq!(token.pair.access_token.readable().unwrap().expose_secret(), "old");
    rotated.put_application(&application(&bed.app), &bed.act()).await.unwrap();
    assert!(rotated.application(&bed.app).await.unwrap().is_some());
    let error = bed.store.application(&bed.app).await.unwrap_err();
    assert!(
        matches!(error, StorageError::Undecryptable { source: CipherError::UnknownKey(id), .. } if id == "new")
    );
}

/// Every application is counted, including applications without sessions and tokens.
pub async fn active_counts_several_applications_counted_separately(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    bed.pending("ou_2").await;
    bed.completed(&bed.app, "ou_3", "t").await;
    bed.completed(&bed.app, "ou_4", "t").await;
    assert!(bed.store.end_session(id, SessionEnding::Rejected, &bed.act()).await.unwrap());
    assert!(bed.store.revoke_token(&bed.app, &ou("ou_4"), TokenKind::User, &bed.act()).await.unwrap());
    bed.completed(&bed.app, "ou_5", "t").await;
    let reason = larkauth_models::SuspensionReason::Frozen;
    assert!(bed.store.suspend_person(&bed.app, &ou("ou_5"), reason, &bed.act()).await.unwrap());
    let counts = |(app, pending_sessions, active_tokens, suspended_tokens): (&AppId, _, _, _)| ActiveCounts {
        app_id: app.clone(),
        pending_sessions,
        active_tokens,
        suspended_tokens,
    };
    let expected = [(&bed.app, 1, 1, 1), (&bed.other_app, 0, 0, 0)].map(counts);
    assert_eq!(bed.second.active_counts().await.unwrap(), expected);
    assert!(bed.store.ping().await.unwrap() > Timestamp::UNIX_EPOCH);
}
