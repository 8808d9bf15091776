//! Leases, refreshed pairs, due tokens.

use std::time::Duration;

use larkauth_models::{AppId, ExposeSecret, Timestamp, TokenKind, TokenPair, TokenStatus};
use uuid::Uuid;

use super::fixtures::{Bed, ou, secret};
use crate::{DueOrder, LeasedToken, MAX_LEASE_END, RefreshClaim, RefreshEnd, RefreshedToken};

const LEASE: Duration = Duration::from_secs(60);

impl Bed {
    /// Stores a token whose refresh is due after `due` seconds.
    async fn due(&self, app_id: &AppId, open_id: &str, due: u64) {
        let id = self.create(&self.new_session(app_id, super::fixtures::person(open_id))).await;
        let claim = self.claim(id).await;
        let mut completion = self.completion(id, claim, open_id, "u-1");
        completion.next_attempt_at = Some(self.now() + Duration::from_secs(due));
        assert!(self.store.complete_session(&completion).await.unwrap());
    }

    /// Stores a token with these ends, in seconds after 100 s from now; it is due this many seconds before then.
    async fn ends(&self, open_id: &str, access: i64, login: i64, due: i64) {
        let id = self.create(&self.new_session(&self.app, super::fixtures::person(open_id))).await;
        let claim = self.claim(id).await;
        let mut completion = self.completion(id, claim, open_id, "u-1");
        let at = |seconds| self.now() + chrono::TimeDelta::seconds(100 + seconds);
        completion.pair.access_expires_at = at(access);
        completion.pair.refresh_expires_at = Some(at(login));
        completion.next_attempt_at = Some(at(-due));
        assert!(self.store.complete_session(&completion).await.unwrap());
    }

    /// Returns an order whose windows are this many seconds long.
    fn order(&self, logins: u64, access: u64) -> DueOrder {
        let at = |seconds| self.now() + Duration::from_secs(seconds);
        DueOrder { now: self.now(), logins_before: at(logins), access_before: at(access) }
    }

    async fn lease(&self, open_id: &str, owner: Uuid, life: Duration) -> RefreshClaim {
        self.store.claim_refresh(&self.app, &ou(open_id), owner, life).await.unwrap()
    }

    async fn leased(&self, open_id: &str, owner: Uuid, life: Duration) -> LeasedToken {
        match self.lease(open_id, owner, life).await {
            RefreshClaim::Leased(leased) => *leased,
            other => panic!("{other:?}"),
        }
    }

    fn refreshed(&self, open_id: &str, generation: i64, token: &str) -> RefreshedToken {
        RefreshedToken {
            app_id: self.app.clone(),
            open_id: ou(open_id),
            generation,
            pair: TokenPair {
                access_token: secret(token),
                access_expires_at: self.now() + Duration::from_secs(7200),
                refresh_token: Some(secret("r-new")),
                refresh_expires_at: Some(self.now() + Duration::from_secs(604_800)),
                scopes: vec!["a".to_owned()],
            },
            failures: 0,
            next_attempt_at: Some(self.now() + Duration::from_secs(5760)),
            now: self.now(),
        }
    }

    async fn claim_due(&self, limit: u32) -> Vec<String> {
        let (order, owner) = (self.order(0, 0), self.uuid());
        let due = self.store.claim_due_refreshes(&self.app, &order, owner, LEASE, limit).await.unwrap();
        let mut people: Vec<_> = due.iter().map(|leased| leased.token.open_id.to_string()).collect();
        people.sort();
        people
    }
}

/// One caller has the lease; it ends with a result.
pub async fn claim_refresh_one_holder_until_its_end(bed: &Bed) {
    assert!(matches!(bed.lease("ou_1", bed.uuid(), LEASE).await, RefreshClaim::NotRefreshable));
    bed.due(&bed.app, "ou_1", 0).await;
    let owner = bed.uuid();
    let leased = bed.leased("ou_1", owner, LEASE).await;
    assert!(!leased.was_interrupted);
    assert_eq!(leased.token.pair.refresh_token.unwrap().readable().unwrap().expose_secret(), "refresh-u-1");
    let RefreshClaim::Held { left } = bed.lease("ou_1", bed.uuid(), LEASE).await else { panic!("not held") };
    assert!(left <= LEASE && left > LEASE / 2, "{left:?}");

    let next_attempt_at = Some(bed.now() + Duration::from_secs(5));
    let end = RefreshEnd { status: TokenStatus::OutcomeUnknown, failures: 3, next_attempt_at };
    assert!(bed.store.end_refresh(&bed.app, &ou("ou_1"), owner, end).await.unwrap());
    let again = bed.leased("ou_1", bed.uuid(), LEASE).await;
    assert!(!again.was_interrupted, "the lease ended with a result");
    let token = again.token;
    assert_eq!((token.status, token.failures), (TokenStatus::OutcomeUnknown, 3));
    assert_eq!(token.next_attempt_at, next_attempt_at);
}

/// Of many callers one has the lease.
pub async fn claim_refresh_concurrent_callers_one_leases(bed: &Bed) {
    bed.due(&bed.app, "ou_1", 0).await;
    let app = bed.app.clone();
    let claims = bed
        .race(20, |number, store| {
            let app = app.clone();
            let owner = Uuid::from_u128(1 + number as u128);
            async move { store.claim_refresh(&app, &ou("ou_1"), owner, LEASE).await }
        })
        .await;
    let leased = claims.iter().filter(|claim| matches!(claim, RefreshClaim::Leased(_))).count();
    let held = claims.iter().filter(|claim| matches!(claim, RefreshClaim::Held { .. })).count();
    assert_eq!((leased, held), (1, 19));
}

/// A lease that ends by its time is reported to the next holder.
pub async fn claim_refresh_expired_lease_is_interrupted(bed: &Bed) {
    bed.due(&bed.app, "ou_1", 0).await;
    let first = bed.uuid();
    bed.leased("ou_1", first, Duration::ZERO).await;
    let second = bed.uuid();
    assert!(bed.leased("ou_1", second, LEASE).await.was_interrupted);
    // The first holder comes late: its result counts no more, and its pair does.
    let end = RefreshEnd { status: TokenStatus::Suspended, failures: 1, next_attempt_at: None };
    assert!(!bed.store.end_refresh(&bed.app, &ou("ou_1"), first, end).await.unwrap());
    assert!(bed.store.complete_refresh(&bed.refreshed("ou_1", 1, "u-2")).await.unwrap());
    assert!(!bed.store.end_refresh(&bed.app, &ou("ou_1"), second, end).await.unwrap());
    let token = bed.store.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().unwrap();
    assert_eq!((token.generation, token.status), (2, TokenStatus::Active));
}

/// A lease that ends later than a lease can is from before the clock was set back: it does not block the token.
pub async fn claim_refresh_lease_of_clock_set_back_is_interrupted(bed: &Bed) {
    const LITTLE: Duration = Duration::from_secs(30);
    for person in ["ou_1", "ou_2"] {
        bed.due(&bed.app, person, 0).await;
        bed.leased(person, bed.uuid(), MAX_LEASE_END + LITTLE).await;
    }
    let due = bed.store.due_applications(bed.now(), bed.now(), 9).await.unwrap();
    assert_eq!(due.iter().map(|app| app.due).collect::<Vec<_>>(), [2]);
    assert!(bed.leased("ou_1", bed.uuid(), LEASE).await.was_interrupted);
    assert_eq!(bed.claim_due(9).await, ["ou_2"]);
    for person in ["ou_1", "ou_2"] {
        assert!(matches!(bed.lease(person, bed.uuid(), LEASE).await, RefreshClaim::Held { .. }), "{person}");
    }
    assert!(bed.claim_due(9).await.is_empty());

    // Clocks differ a little.
    bed.due(&bed.app, "ou_3", 0).await;
    bed.leased("ou_3", bed.uuid(), MAX_LEASE_END - LITTLE).await;
    assert!(matches!(bed.lease("ou_3", bed.uuid(), LEASE).await, RefreshClaim::Held { .. }));
}

/// A pair replaces the generation that it was made from, once.
pub async fn complete_refresh_replaces_its_generation_only(bed: &Bed) {
    bed.due(&bed.app, "ou_1", 0).await;
    bed.advance(100);
    let refreshed = bed.refreshed("ou_1", 1, "u-2");
    assert!(!bed.store.complete_refresh(&bed.refreshed("ou_1", 0, "u-old")).await.unwrap());
    assert!(bed.store.complete_refresh(&refreshed).await.unwrap());
    assert!(!bed.store.complete_refresh(&refreshed).await.unwrap(), "the same again");
    let token = bed.store.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().unwrap();
    assert_eq!((token.generation, token.pair.access_token.readable().unwrap().expose_secret()), (2, "u-2"));
    assert_eq!(token.pair.refresh_token.unwrap().readable().unwrap().expose_secret(), "r-new");
    assert_eq!((token.pair.scopes, token.issued_at), (vec!["a".to_owned()], bed.now()));
    assert_eq!(token.next_attempt_at, refreshed.next_attempt_at);
    assert_eq!(token.granted_at, bed.now() - Duration::from_secs(100), "the consent is older");

    // A token that waits for the person is revived by a late pair; one that is suspended stays so.
    for (status, expected) in [
        (TokenStatus::ReauthorizationRequired, TokenStatus::Active),
        (TokenStatus::OutcomeUnknown, TokenStatus::Active),
        (TokenStatus::Suspended, TokenStatus::Suspended),
    ] {
        let owner = bed.uuid();
        let generation = bed.leased("ou_1", owner, LEASE).await.token.generation;
        let end = RefreshEnd { status, failures: 1, next_attempt_at: None };
        assert!(bed.store.end_refresh(&bed.app, &ou("ou_1"), owner, end).await.unwrap());
        assert!(bed.store.complete_refresh(&bed.refreshed("ou_1", generation, "u-3")).await.unwrap());
        let token = bed.store.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().unwrap();
        assert_eq!((token.status, token.failures), (expected, 0), "after {status}");
    }
}

/// A revoked token stays revoked, also when a refresh of it is in flight.
pub async fn complete_refresh_of_revoked_token_refused(bed: &Bed) {
    bed.due(&bed.app, "ou_1", 0).await;
    let owner = bed.uuid();
    let leased = bed.leased("ou_1", owner, LEASE).await;
    assert!(bed.store.revoke_token(&bed.app, &ou("ou_1"), TokenKind::User, &bed.act()).await.unwrap());
    for generation in [leased.token.generation, leased.token.generation + 1] {
        assert!(!bed.store.complete_refresh(&bed.refreshed("ou_1", generation, "u-2")).await.unwrap());
    }
    let end = RefreshEnd { status: TokenStatus::Active, failures: 0, next_attempt_at: Some(bed.now()) };
    assert!(!bed.store.end_refresh(&bed.app, &ou("ou_1"), owner, end).await.unwrap());
    assert!(matches!(bed.lease("ou_1", bed.uuid(), LEASE).await, RefreshClaim::NotRefreshable));
    assert_eq!(bed.claim_due(10).await, [""; 0]);
}

/// Only the holder ends a lease.
pub async fn end_refresh_of_other_owner_changes_nothing(bed: &Bed) {
    bed.due(&bed.app, "ou_1", 0).await;
    let end = RefreshEnd { status: TokenStatus::Suspended, failures: 9, next_attempt_at: None };
    assert!(!bed.store.end_refresh(&bed.app, &ou("ou_1"), bed.uuid(), end).await.unwrap());
    let owner = bed.uuid();
    bed.leased("ou_1", owner, LEASE).await;
    assert!(!bed.store.end_refresh(&bed.app, &ou("ou_1"), bed.uuid(), end).await.unwrap());
    let token = bed.store.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().unwrap();
    assert_eq!((token.status, token.failures), (TokenStatus::Active, 0));
}

/// Due tokens of one application are leased in the order of their time, each to one caller; others are left alone.
pub async fn claim_due_refreshes_due_longest_first_each_once(bed: &Bed) {
    for (open_id, due) in [("ou_3", 30), ("ou_1", 10), ("ou_2", 20), ("ou_later", 1000)] {
        bed.due(&bed.app, open_id, due).await;
    }
    bed.due(&bed.other_app, "ou_other", 5).await;
    assert_eq!(bed.claim_due(10).await, [""; 0], "none is due");
    bed.advance(100);
    assert_eq!(bed.claim_due(2).await, ["ou_1", "ou_2"]);
    assert_eq!(bed.claim_due(2).await, ["ou_3"], "the others are leased, or of another application");

    bed.advance(1000);
    let order = bed.order(0, 0);
    let app = bed.app.clone();
    let taken = bed
        .race(8, |number, store| {
            let app = app.clone();
            async move {
                let owner = Uuid::from_u128(1 + number as u128);
                store.claim_due_refreshes(&app, &order, owner, LEASE, 5).await
            }
        })
        .await;
    assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), 1, "{taken:?}");
}

/// Logins that end soon come first, then access tokens that end soon, then all others in the order of their time.
pub async fn claim_due_refreshes_what_ends_first_comes_first(bed: &Bed) {
    // Each token's ends, in seconds from the time of the claim, and how long it is due then.
    for (open_id, access, login, due) in [
        ("ou_access_over", -10, 90_000, 90),
        ("ou_access_later", 7000, 90_000, 80),
        ("ou_access_third", 300, 90_000, 10),
        ("ou_access_second", 200, 90_000, 20),
        ("ou_login_later", -20, 80_000, 70),
        ("ou_login_second", -20, 3000, 10),
        ("ou_login_first", 100, 2000, 1),
        ("ou_login_over", -20, -10, 60),
        ("ou_not_due", 50, 60, -5),
    ] {
        bed.ends(open_id, access, login, due).await;
    }
    bed.advance(100);
    let order = bed.order(3600, 600);
    let mut claimed = Vec::new();
    for _ in 0..9 {
        let due = bed.store.claim_due_refreshes(&bed.app, &order, bed.uuid(), LEASE, 1).await.unwrap();
        claimed.extend(due.into_iter().map(|leased| leased.token.open_id.to_string()));
    }
    let expected = [
        "ou_login_first",
        "ou_login_second",
        "ou_access_second",
        "ou_access_third",
        "ou_access_over",
        "ou_access_later",
        "ou_login_later",
        "ou_login_over",
    ];
    assert_eq!(claimed, expected);
}

/// Applications are listed that are enabled, not frozen, and have a due token that is not leased.
pub async fn due_applications_with_due_tokens_only(bed: &Bed) {
    let due = async |frozen_before| {
        let due = bed.store.due_applications(bed.now(), frozen_before, 2).await.unwrap();
        due.into_iter().map(|application| (application.app_id, application.due)).collect::<Vec<_>>()
    };
    for (open_id, due) in [("ou_1", 10), ("ou_2", 20), ("ou_3", 30), ("ou_later", 1000)] {
        bed.due(&bed.app, open_id, due).await;
    }
    bed.due(&bed.other_app, "ou_other", 50).await;
    assert_eq!(due(Timestamp::UNIX_EPOCH).await, []);
    bed.advance(40);
    assert_eq!(due(Timestamp::UNIX_EPOCH).await, [(bed.app.clone(), 2)], "counted up to two");
    assert_eq!(bed.claim_due(2).await.len(), 2);
    assert_eq!(due(Timestamp::UNIX_EPOCH).await, [(bed.app.clone(), 1)]);
    assert_eq!(bed.claim_due(2).await.len(), 1);
    assert_eq!(due(Timestamp::UNIX_EPOCH).await, [], "all are leased");
    bed.advance(20);
    let other = [(bed.other_app.clone(), 1)];
    assert_eq!(due(Timestamp::UNIX_EPOCH).await, other);
    assert!(bed.store.set_application_frozen(&bed.other_app, Some("refused"), bed.now()).await.unwrap());
    assert_eq!(due(Timestamp::UNIX_EPOCH).await, []);
    assert_eq!(due(bed.now()).await, other, "frozen long enough for another attempt");
    assert!(bed.store.set_application_frozen(&bed.other_app, None, bed.now()).await.unwrap());
    assert!(bed.store.set_application_enabled(&bed.other_app, false, &bed.act()).await.unwrap());
    assert_eq!(due(Timestamp::UNIX_EPOCH).await, []);
    assert!(bed.store.set_application_enabled(&bed.other_app, true, &bed.act()).await.unwrap());
    assert_eq!(due(Timestamp::UNIX_EPOCH).await, other);
}

/// Use is recorded now and then.
pub async fn touch_token_now_and_then(bed: &Bed) {
    bed.due(&bed.app, "ou_1", 0).await;
    let touch = async || {
        let last_before = bed.now() - Duration::from_secs(3600);
        bed.store.touch_token(&bed.app, &ou("ou_1"), bed.now(), last_before).await.unwrap()
    };
    assert!(touch().await);
    bed.advance(3599);
    assert!(!touch().await);
    bed.advance(1);
    assert!(touch().await);
    let token = bed.store.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().unwrap();
    assert_eq!(token.last_used_at, Some(bed.now()));
}
