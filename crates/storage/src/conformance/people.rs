//! Looking people up, suspending and restoring them, and what is announced of that.

use std::time::Duration;

use larkauth_models::{
    ExposeSecret, StoredToken, SuspensionReason, Timestamp, TokenKind, TokenStatus, UserProfile,
};
use uuid::Uuid;

use super::fixtures::{Bed, ou, secret, wins};
use crate::{MAX_CLOCK_LEAD, RefreshClaim, RefreshEnd, RefreshedToken};

const LEASE: Duration = Duration::from_secs(60);

impl Bed {
    async fn current(&self, open_id: &str) -> StoredToken {
        self.second.token(&self.app, &ou(open_id), TokenKind::User).await.unwrap().unwrap()
    }

    async fn to_sync(&self, synced_before: Timestamp, limit: u32) -> Vec<String> {
        let people = self.store.people_to_sync(&self.app, synced_before, self.now(), limit).await.unwrap();
        people.iter().map(ToString::to_string).collect()
    }

    async fn suspend(&self, open_id: &str, reason: SuspensionReason) -> bool {
        self.store.suspend_person(&self.app, &ou(open_id), reason, &self.act()).await.unwrap()
    }

    async fn restore(&self, open_id: &str, refreshed: bool) -> bool {
        self.store.restore_person(&self.app, &ou(open_id), refreshed, &self.act()).await.unwrap()
    }

    /// A refresh of the person ends with this status.
    pub(super) async fn refresh_ends(&self, open_id: &str, status: TokenStatus) {
        let owner = self.uuid();
        let claim = self.store.claim_refresh(&self.app, &ou(open_id), owner, LEASE).await.unwrap();
        assert!(matches!(claim, RefreshClaim::Leased(_)), "{claim:?}");
        let end = RefreshEnd { status, failures: 1, next_attempt_at: None };
        assert!(self.store.end_refresh(&self.app, &ou(open_id), owner, end).await.unwrap());
    }

    /// Announces everything; returns person, reason and earlier announcements of each.
    async fn announced(&self) -> Vec<(String, Option<SuspensionReason>, u32)> {
        let mut announced = Vec::new();
        for person in self.store.unannounced_people(None, 50).await.unwrap() {
            assert!(self.store.record_person_announced(&person).await.unwrap());
            assert!(!self.store.record_person_announced(&person).await.unwrap(), "twice");
            announced.push((person.open_id.to_string(), person.suspended_for, person.earlier));
        }
        announced
    }
}

/// The people whose last look is the oldest come first, and a look takes a person out.
pub async fn people_to_sync_oldest_look_first_until_looked_up(bed: &Bed) {
    for person in ["ou_1", "ou_2", "ou_3"] {
        bed.completed(&bed.app, person, "u").await;
    }
    bed.completed(&bed.other_app, "ou_4", "u").await;
    bed.advance(10);
    let first_pass = bed.now();
    assert_eq!(bed.to_sync(first_pass, 2).await, ["ou_1", "ou_2"]);
    assert_eq!(bed.store.count_to_sync(&bed.app, first_pass).await.unwrap(), 3);
    bed.store.store_synced(&bed.app, &[], &[ou("ou_3")], bed.now()).await.unwrap();
    bed.advance(10);
    bed.store.store_synced(&bed.app, &[], &[ou("ou_1"), ou("ou_9")], bed.now()).await.unwrap();
    assert_eq!(bed.to_sync(first_pass, 9).await, ["ou_2"], "a later process goes on from here");
    bed.advance(10);
    assert_eq!(bed.to_sync(bed.now(), 9).await, ["ou_2", "ou_3", "ou_1"], "the next pass");
    assert_eq!(bed.store.count_to_sync(&bed.other_app, bed.now()).await.unwrap(), 1);
}

/// A look by a clock that was wrong keeps no one from being looked up again.
pub async fn people_to_sync_after_wrong_clock_looked_up_again(bed: &Bed) {
    for person in ["ou_1", "ou_2"] {
        bed.completed(&bed.app, person, "u").await;
    }
    bed.advance(10);
    let (now, ahead) = (bed.now(), bed.now() + Duration::from_secs(3600));
    let looked = async |person, at| {
        bed.store.store_synced(&bed.app, &[], &[ou(person)], at).await.unwrap();
    };
    looked("ou_2", ahead).await;
    assert_eq!(bed.to_sync(now, 9).await, ["ou_1"]);
    looked("ou_1", now).await;
    assert_eq!(bed.to_sync(now, 9).await, ["ou_2"]);
    looked("ou_2", now + MAX_CLOCK_LEAD).await;
    assert!(bed.to_sync(now, 9).await.is_empty(), "clocks differ a little");

    let claim = async || {
        let before = now - Duration::from_secs(60);
        bed.store.claim_sync(&bed.app, &ou("ou_2"), before, now).await.unwrap()
    };
    assert!(!claim().await);
    looked("ou_2", ahead).await;
    assert!(claim().await);
    assert!(!claim().await);
    assert!(bed.to_sync(now, 9).await.is_empty());
}

/// What Lark says replaces what is stored, and what it does not say stays.
pub async fn store_synced_replaces_only_what_lark_says(bed: &Bed) {
    bed.completed(&bed.app, "ou_1", "u").await;
    bed.completed(&bed.other_app, "ou_1", "u").await;
    bed.advance(10);
    let said = UserProfile {
        name: Some("大明".to_owned()),
        mobile: Some(secret("+8613900139000")),
        union_id: None,
        user_id: None,
        en_name: None,
        avatar_url: None,
        email: None,
        tenant_key: None,
        ..super::fixtures::profile("ou_1")
    };
    let unknown = super::fixtures::profile("ou_unknown");
    bed.store.store_synced(&bed.app, &[said, unknown], &[], bed.now()).await.unwrap();
    let stored = bed.second.profile(&bed.app, &ou("ou_1")).await.unwrap().unwrap();
    assert_eq!(stored.name.as_deref(), Some("大明"));
    assert_eq!(stored.mobile.unwrap().expose_secret(), "+8613900139000");
    assert_eq!(stored.email.unwrap().expose_secret(), "ming@example.com");
    assert_eq!((stored.en_name.as_deref(), stored.user_id.unwrap().as_str()), (Some("Xiao Ming"), "u_ou_1"));
    let other = bed.second.profile(&bed.other_app, &ou("ou_1")).await.unwrap().unwrap();
    assert_eq!(other.name.as_deref(), Some("小明"), "of another application");
    assert!(bed.second.profile(&bed.app, &ou("ou_unknown")).await.unwrap().is_none(), "no profile is added");
    assert!(bed.to_sync(bed.now(), 9).await.is_empty());
}

/// Of many callers one looks, and none before the time.
pub async fn claim_sync_concurrent_callers_one_looks(bed: &Bed) {
    bed.completed(&bed.app, "ou_1", "u").await;
    let (app, now) = (bed.app.clone(), bed.now());
    let claims = bed
        .race(10, |_, store| {
            let app = app.clone();
            async move { store.claim_sync(&app, &ou("ou_1"), now, now).await }
        })
        .await;
    assert_eq!(wins(&claims), 1);
    bed.advance(10);
    let claim = async |before| bed.store.claim_sync(&bed.app, &ou("ou_1"), before, bed.now()).await.unwrap();
    assert!(!claim(now).await, "looked up since");
    assert!(claim(bed.now()).await);
    assert!(!bed.store.claim_sync(&bed.app, &ou("ou_9"), bed.now(), bed.now()).await.unwrap());
}

/// A suspended token is not refreshed. A refresh that runs meanwhile does not end the suspension, and loses no pair.
pub async fn suspend_person_during_refresh_stays_suspended_and_keeps_pair(bed: &Bed) {
    bed.completed(&bed.app, "ou_1", "u").await;
    let owner = bed.uuid();
    assert!(matches!(
        bed.store.claim_refresh(&bed.app, &ou("ou_1"), owner, LEASE).await.unwrap(),
        RefreshClaim::Leased(_)
    ));
    assert!(!bed.suspend("ou_9", SuspensionReason::Frozen).await, "no token");
    assert!(bed.suspend("ou_1", SuspensionReason::Frozen).await);
    assert!(!bed.suspend("ou_1", SuspensionReason::Resigned).await, "suspended already");
    let asked = [ou("ou_1"), ou("ou_9")];
    let suspended = bed.store.suspended(&bed.app, &asked).await.unwrap();
    assert_eq!(suspended, [(ou("ou_1"), SuspensionReason::Frozen)], "the first reason");
    // The refresh fails, or gives a pair.
    let end = RefreshEnd { status: TokenStatus::Active, failures: 1, next_attempt_at: None };
    assert!(!bed.store.end_refresh(&bed.app, &ou("ou_1"), owner, end).await.unwrap());
    assert_eq!(bed.current("ou_1").await.status, TokenStatus::Suspended);
    let old = bed.current("ou_1").await;
    let pair = bed.pair("u-2");
    let (app_id, open_id, generation) = (bed.app.clone(), ou("ou_1"), old.generation);
    let refreshed = RefreshedToken {
        app_id,
        open_id,
        generation,
        pair,
        failures: 0,
        next_attempt_at: None,
        now: bed.now(),
    };
    assert!(bed.store.complete_refresh(&refreshed).await.unwrap());
    let token = bed.current("ou_1").await;
    assert_eq!((token.status, token.generation), (TokenStatus::Suspended, 2));
    assert!(matches!(
        bed.store.claim_refresh(&bed.app, &ou("ou_1"), bed.uuid(), LEASE).await.unwrap(),
        RefreshClaim::NotRefreshable
    ));
    assert!(bed.restore("ou_1", false).await);
    assert_eq!(bed.current("ou_1").await.pair.access_token.readable().unwrap().expose_secret(), "u-2");
}

/// The state of an account ends a suspension that it explains. One that Lark's refusal made ends with a new pair only.
pub async fn restore_person_ends_what_it_explains(bed: &Bed) {
    for person in ["ou_1", "ou_2", "ou_3"] {
        bed.completed(&bed.app, person, "u").await;
    }
    assert!(!bed.restore("ou_1", true).await, "not suspended");
    bed.suspend("ou_1", SuspensionReason::Frozen).await;
    bed.refresh_ends("ou_2", TokenStatus::Suspended).await;
    assert!(bed.restore("ou_1", false).await);
    let token = bed.current("ou_1").await;
    assert_eq!((token.status, token.next_attempt_at), (TokenStatus::Active, Some(bed.now())), "due at once");

    let refused = bed.store.suspended(&bed.app, &[ou("ou_2")]).await.unwrap();
    assert_eq!(refused, [(ou("ou_2"), SuspensionReason::Refused)]);
    assert!(!bed.restore("ou_2", false).await, "an account in use says too little");
    let owner = bed.uuid();
    let claim = async |owner| bed.store.claim_suspended(&bed.app, &ou("ou_2"), owner, LEASE).await.unwrap();
    assert_eq!(claim(owner).await.unwrap().token.status, TokenStatus::Suspended);
    assert!(claim(bed.uuid()).await.is_none(), "another caller has the lease");
    assert!(bed.restore("ou_2", true).await);
    assert_eq!(bed.current("ou_2").await.status, TokenStatus::Active);
    assert!(claim(bed.uuid()).await.is_none(), "not suspended");

    // The reason of a refusal becomes known later, and its refresh token has expired before it is over.
    bed.refresh_ends("ou_3", TokenStatus::Suspended).await;
    assert!(!bed.suspend("ou_3", SuspensionReason::Frozen).await);
    bed.advance(604_801);
    assert!(bed.restore("ou_3", false).await);
    assert_eq!(bed.current("ou_3").await.status, TokenStatus::ReauthorizationRequired);
}

/// Every transition of every operation is announced, with a number of its own. Revoked tokens say nothing.
pub async fn unannounced_people_every_transition_until_recorded(bed: &Bed) {
    use SuspensionReason::{Frozen, Refused};
    for person in ["ou_1", "ou_2", "ou_3"] {
        bed.completed(&bed.app, person, "u").await;
    }
    assert!(bed.announced().await.is_empty());
    bed.suspend("ou_1", Frozen).await;
    bed.refresh_ends("ou_2", TokenStatus::Suspended).await;
    let all = bed.store.unannounced_people(None, 50).await.unwrap();
    assert_eq!(all[0].user_id.as_ref().unwrap().as_str(), "u_ou_1");
    assert_eq!(bed.store.unannounced_people(None, 1).await.unwrap(), all[..1]);
    assert_eq!(bed.store.unannounced_people(Some(&all[0]), 50).await.unwrap(), all[1..]);
    let suspended = [("ou_1".to_owned(), Some(Frozen), 0), ("ou_2".to_owned(), Some(Refused), 0)];
    assert_eq!(bed.announced().await, suspended);
    assert!(bed.announced().await.is_empty());

    bed.restore("ou_1", false).await;
    // A consent ends a suspension too.
    bed.completed(&bed.app, "ou_2", "u-2").await;
    assert_eq!(bed.announced().await, [("ou_1".to_owned(), None, 1), ("ou_2".to_owned(), None, 1)]);
    bed.suspend("ou_1", Frozen).await;
    assert_eq!(bed.announced().await, [("ou_1".to_owned(), Some(Frozen), 2)]);
    bed.store.revoke_token(&bed.app, &ou("ou_1"), TokenKind::User, &bed.act()).await.unwrap();
    assert!(!bed.suspend("ou_1", Frozen).await && !bed.restore("ou_1", true).await, "revoked");
    assert!(bed.announced().await.is_empty());
    // What ends before it is announced is not announced.
    bed.suspend("ou_3", Frozen).await;
    bed.restore("ou_3", false).await;
    assert!(bed.announced().await.is_empty());
}

/// Of many callers one suspends, with one record.
pub async fn suspend_person_concurrent_callers_one_suspends(bed: &Bed) {
    bed.completed(&bed.app, "ou_1", "u").await;
    let (app, now) = (bed.app.clone(), bed.now());
    let outcomes = bed
        .race(10, |number, store| {
            let (app, reason) = (app.clone(), SuspensionReason::ALL[number % 3]);
            let mut act = crate::testing::act(now);
            act.id = Uuid::from_u128(1 + number as u128);
            async move { store.suspend_person(&app, &ou("ou_1"), reason, &act).await }
        })
        .await;
    assert_eq!(wins(&outcomes), 1);
}
