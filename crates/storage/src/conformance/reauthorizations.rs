//! Who is asked again, and when.

use std::time::Duration;

use larkauth_models::{OpenId, Timestamp, TokenKind, TokenStatus};

use super::fixtures::{Bed, ou};

const CLAIM: Duration = Duration::from_secs(120);
const ALL: u32 = 50;

impl Bed {
    async fn ended(&self, used_after: Option<Timestamp>, limit: u32) -> Vec<String> {
        let until = self.now() + CLAIM;
        sorted(&self.store.claim_ended(&self.app, used_after, self.now(), until, limit).await.unwrap())
    }

    async fn ending(&self, granted_before: Timestamp, limit: u32) -> Vec<String> {
        let until = self.now() + CLAIM;
        sorted(&self.store.claim_ending(&self.app, granted_before, self.now(), until, limit).await.unwrap())
    }
}

fn sorted(people: &[OpenId]) -> Vec<String> {
    let mut people: Vec<_> = people.iter().map(ToString::to_string).collect();
    people.sort();
    people
}

/// Only people whose token has ended are claimed, for a while, and not again before the time that was set.
pub async fn claim_ended_only_ended_tokens_until_their_time(bed: &Bed) {
    for person in ["ou_1", "ou_2", "ou_3", "ou_4", "ou_5"] {
        bed.completed(&bed.app, person, "u").await;
    }
    bed.completed(&bed.other_app, "ou_6", "u").await;
    bed.refresh_ends("ou_1", TokenStatus::ReauthorizationRequired).await;
    bed.refresh_ends("ou_2", TokenStatus::ReauthorizationRequired).await;
    bed.refresh_ends("ou_3", TokenStatus::Suspended).await;
    bed.refresh_ends("ou_4", TokenStatus::ReauthorizationRequired).await;
    bed.store.revoke_token(&bed.app, &ou("ou_4"), TokenKind::User, &bed.act()).await.unwrap();
    assert_eq!(bed.ended(None, ALL).await, ["ou_1", "ou_2"]);
    assert!(bed.ended(None, ALL).await.is_empty(), "claimed");
    bed.advance(120);
    assert_eq!(bed.ended(None, ALL).await, ["ou_1", "ou_2"], "the process that claimed them stopped");

    let later = bed.now() + Duration::from_secs(1000);
    assert!(bed.store.set_ask_at(&bed.app, &ou("ou_1"), later).await.unwrap());
    assert!(!bed.store.set_ask_at(&bed.app, &ou("ou_4"), later).await.unwrap(), "revoked");
    bed.advance(500);
    assert_eq!(bed.ended(None, ALL).await, ["ou_2"]);
    bed.advance(500);
    assert_eq!(bed.ended(None, 1).await, ["ou_2"], "who may be asked longest comes first");
    assert_eq!(bed.ended(None, 1).await, ["ou_1"]);

    // A consent, and the end of that, begin anew.
    bed.store.set_ask_at(&bed.app, &ou("ou_1"), bed.now() + Duration::from_secs(1_000_000)).await.unwrap();
    bed.completed(&bed.app, "ou_1", "u-2").await;
    assert!(bed.ended(None, ALL).await.is_empty());
    bed.refresh_ends("ou_1", TokenStatus::ReauthorizationRequired).await;
    assert_eq!(bed.ended(None, ALL).await, ["ou_1"]);
}

/// With a time, only people whose token was used or given since are claimed.
pub async fn claim_ended_of_used_tokens_only(bed: &Bed) {
    for person in ["ou_1", "ou_2"] {
        bed.completed(&bed.app, person, "u").await;
    }
    bed.advance(1000);
    let since = bed.now() - Duration::from_secs(500);
    assert!(bed.store.touch_token(&bed.app, &ou("ou_2"), bed.now(), since).await.unwrap());
    bed.completed(&bed.app, "ou_3", "u").await;
    for person in ["ou_1", "ou_2", "ou_3"] {
        bed.refresh_ends(person, TokenStatus::ReauthorizationRequired).await;
    }
    assert_eq!(bed.ended(Some(since), ALL).await, ["ou_2", "ou_3"]);
    assert_eq!(bed.ended(None, ALL).await, ["ou_1"]);
}

/// Consents of long ago are claimed, the oldest first, as long as their token lives.
pub async fn claim_ending_oldest_consents_first(bed: &Bed) {
    for person in ["ou_1", "ou_2", "ou_3", "ou_4"] {
        bed.completed(&bed.app, person, "u").await;
        bed.advance(10);
    }
    let before = bed.now() - Duration::from_secs(10);
    bed.refresh_ends("ou_1", TokenStatus::Suspended).await;
    bed.refresh_ends("ou_2", TokenStatus::OutcomeUnknown).await;
    assert_eq!(bed.ending(before, 1).await, ["ou_2"]);
    assert_eq!(bed.ending(before, ALL).await, ["ou_3"]);
    assert!(bed.ending(before, ALL).await.is_empty(), "claimed");
    bed.completed(&bed.app, "ou_2", "u-2").await;
    bed.advance(120);
    assert_eq!(bed.ending(before, ALL).await, ["ou_3"], "the consent of the other one is new");
}

/// Concurrent callers claim different people.
pub async fn claim_ended_concurrent_callers_each_person_once(bed: &Bed) {
    for number in 0..12 {
        let person = format!("ou_{number}");
        bed.completed(&bed.app, &person, "u").await;
        bed.refresh_ends(&person, TokenStatus::ReauthorizationRequired).await;
    }
    let (app, now) = (bed.app.clone(), bed.now());
    let claims = bed
        .race(8, |_, store| {
            let app = app.clone();
            async move { store.claim_ended(&app, None, now, now + CLAIM, 5).await }
        })
        .await;
    let mut people: Vec<_> = claims.into_iter().flatten().map(|person| person.to_string()).collect();
    let claimed = people.len();
    people.sort();
    people.dedup();
    assert_eq!(people.len(), claimed, "a person was claimed twice");
    people.extend(bed.ended(None, ALL).await);
    assert_eq!(people.len(), 12);
}
