//! Who loses access when, and why.

use std::time::Duration;

use larkauth_models::{AppId, LossReason, Timestamp, TokenStatus};
use uuid::Uuid;

use super::fixtures::{Bed, ou, person};
use crate::{HorizonCount, HorizonFilter, Loss, RefreshEnd, TokenRisks, TokenState, testing::cipher_of};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// Life of an access token of the suite.
const ACCESS: u64 = 7200;
/// Life of a refresh token of the suite.
const REFRESH: u64 = 7 * DAY;

impl Bed {
    fn after(&self, seconds: u64) -> Timestamp {
        self.now() + Duration::from_secs(seconds)
    }

    /// Stores a token that is refreshed next after so many seconds.
    async fn consented(&self, app_id: &AppId, open_id: &str, next: Option<u64>, has_refresh_token: bool) {
        let id = self.create(&self.new_session(app_id, person(open_id))).await;
        let claim = self.claim(id).await;
        let mut completion = self.completion(id, claim, open_id, "u-1");
        completion.next_attempt_at = next.map(|next| self.after(next));
        if !has_refresh_token {
            (completion.pair.refresh_token, completion.pair.refresh_expires_at) = (None, None);
        }
        assert!(self.store.complete_session(&completion).await.unwrap());
    }

    async fn ends_as(&self, open_id: &str, status: TokenStatus) {
        self.consented(&self.app, open_id, Some(HOUR), true).await;
        let owner = self.uuid();
        let life = Duration::from_secs(60);
        self.store.claim_refresh(&self.app, &ou(open_id), owner, life).await.unwrap();
        let end = RefreshEnd { status, failures: 1, next_attempt_at: None };
        assert!(self.store.end_refresh(&self.app, &ou(open_id), owner, end).await.unwrap());
    }

    fn horizon(&self, within: u64) -> HorizonFilter {
        HorizonFilter { app_id: None, from: Timestamp::UNIX_EPOCH, until: self.after(within) }
    }

    async fn people(&self, filter: &HorizonFilter) -> Vec<(String, LossReason, Timestamp)> {
        let losses = self.second.losses(filter, None, 100).await.unwrap();
        losses.into_iter().map(|loss| (loss.open_id.to_string(), loss.reason, loss.at)).collect()
    }
}

/// Each reason is found, at its time, and a token that is refreshed in time is not.
pub async fn losses_of_each_reason_ordered_by_time(bed: &Bed) {
    bed.consented(&bed.app, "ou_fine", Some(HOUR), true).await;
    bed.consented(&bed.app, "ou_idle", None, true).await;
    bed.consented(&bed.app, "ou_late", Some(REFRESH + HOUR), true).await;
    bed.consented(&bed.app, "ou_online", None, false).await;
    bed.ends_as("ou_again", TokenStatus::ReauthorizationRequired).await;
    bed.ends_as("ou_suspended", TokenStatus::Suspended).await;
    bed.ends_as("ou_unknown", TokenStatus::OutcomeUnknown).await;
    bed.consented(&bed.other_app, "ou_frozen", Some(HOUR), true).await;
    assert!(bed.store.set_application_frozen(&bed.other_app, Some("20002"), bed.now()).await.unwrap());

    let (access, refresh, consent) = (bed.after(ACCESS), bed.after(REFRESH), bed.after(365 * DAY));
    let of = |open_id: &str, reason, at| (open_id.to_owned(), reason, at);
    let soon = [
        of("ou_again", LossReason::ReauthorizationRequired, access),
        of("ou_online", LossReason::NoRefreshToken, access),
        of("ou_suspended", LossReason::Suspended, access),
        of("ou_unknown", LossReason::OutcomeUnknown, access),
        of("ou_frozen", LossReason::BreakerOpen, access),
        of("ou_idle", LossReason::RefreshTokenExpires, refresh),
        of("ou_late", LossReason::RefreshTokenExpires, refresh),
    ];
    assert_eq!(bed.people(&bed.horizon(30 * DAY)).await, soon);
    let in_a_year = bed.people(&bed.horizon(365 * DAY)).await;
    assert_eq!(in_a_year[..7], soon);
    assert_eq!(
        in_a_year[7..],
        [of("ou_fine", LossReason::ConsentEnds, consent), of("ou_frozen", LossReason::ConsentEnds, consent)]
    );
    let filter = HorizonFilter { app_id: Some(bed.other_app.clone()), ..bed.horizon(30 * DAY) };
    assert_eq!(bed.people(&filter).await, soon[4..5]);
    let later = HorizonFilter { from: bed.after(ACCESS + 1), ..bed.horizon(30 * DAY) };
    assert_eq!(bed.people(&later).await, soon[5..]);

    let risks = |app_id: &AppId, outcome_unknown, is_frozen| TokenRisks {
        app_id: app_id.clone(),
        outcome_unknown,
        next_refresh_at: Some(bed.after(HOUR)),
        is_frozen,
    };
    let expected = [risks(&bed.app, 1, false), risks(&bed.other_app, 0, true)];
    assert_eq!(bed.second.token_risks().await.unwrap(), expected);
    let ending = async |days| {
        let mut ending = bed.second.ending_consents(bed.now(), bed.after(days * DAY)).await.unwrap();
        ending.sort_by_key(|(app_id, _)| app_id.to_string());
        ending
    };
    assert_eq!(ending(364).await, []);
    assert_eq!(ending(365).await, [(bed.app.clone(), 1), (bed.other_app.clone(), 1)]);
    assert!(bed.store.set_application_enabled(&bed.other_app, false, &bed.act()).await.unwrap());
    assert_eq!(bed.second.token_risks().await.unwrap()[1].next_refresh_at, None, "it is disabled");
    assert!(bed.store.set_application_enabled(&bed.other_app, true, &bed.act()).await.unwrap());
    assert!(bed.store.set_application_frozen(&bed.other_app, None, bed.now()).await.unwrap());
    assert_eq!(bed.people(&filter).await, [], "the breaker is closed");
}

/// Pages follow each other without a gap, and the counts are those of all pages.
pub async fn losses_paged_completely_and_counted(bed: &Bed) {
    for number in 0..5 {
        bed.consented(&bed.app, &format!("ou_{number}"), None, false).await;
        bed.consented(&bed.other_app, &format!("ou_{number}"), Some(HOUR), true).await;
    }
    assert!(bed.store.set_application_frozen(&bed.other_app, Some("20002"), bed.now()).await.unwrap());
    let filter = bed.horizon(DAY);
    let all = bed.store.losses(&filter, None, 100).await.unwrap();
    assert_eq!(all.len(), 10);
    let (mut paged, mut after): (Vec<Loss>, _) = (Vec::new(), None);
    loop {
        let page = bed.store.losses(&filter, after.as_ref(), 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let counted = bed.store.count_losses(&filter).await.unwrap();
    let of = |reason| HorizonCount { reason, people: 5 };
    assert_eq!(counted, [of(LossReason::BreakerOpen), of(LossReason::NoRefreshToken)]);
    let of_app = HorizonFilter { app_id: Some(bed.app.clone()), ..filter };
    assert_eq!(bed.store.count_losses(&of_app).await.unwrap(), [of(LossReason::NoRefreshToken)]);
    assert_eq!(bed.store.count_losses(&bed.horizon(60)).await.unwrap(), []);
}

/// The state of a token names its keys, its lease and its times.
pub async fn token_state_has_everything_but_secrets(bed: &Bed) {
    let state = async |keys: &[(&str, u8)]| {
        TokenState::read(&*bed.store, &cipher_of(keys), &bed.app, &ou("ou_1")).await.unwrap()
    };
    assert!(state(&[("test", 7)]).await.is_none());
    bed.consented(&bed.app, "ou_1", Some(HOUR), true).await;
    let owner = Uuid::from_u128(1);
    bed.store.claim_refresh(&bed.app, &ou("ou_1"), owner, Duration::from_secs(60)).await.unwrap();
    let found = state(&[("test", 7)]).await.unwrap();
    assert_eq!((found.status, found.generation, found.failures), (TokenStatus::Active, 1, 0));
    assert_eq!((found.access_expires_at, found.granted_at), (bed.after(ACCESS), bed.now()));
    assert_eq!(found.next_attempt_at, Some(bed.after(HOUR)));
    assert!(found.lease_until.is_some() && found.last_used_at.is_none() && found.revoked_at.is_none());
    for secret in [found.access_token, found.refresh_token] {
        let secret = secret.unwrap();
        assert_eq!((secret.key_id.as_deref(), secret.unreadable), (Some("test"), None));
    }
    let other = state(&[("other", 1)]).await.unwrap();
    let why = other.refresh_token.unwrap().unreadable.unwrap();
    assert_eq!((why.column, why.key_id.as_deref()), ("refresh_token_sealed", Some("test")));
}

/// The tokens of one application are paged in the order of their people.
pub async fn token_states_of_one_application_are_paged(bed: &Bed) {
    for open_id in ["ou_3", "ou_1", "ou_2"] {
        bed.consented(&bed.app, open_id, Some(HOUR), true).await;
        bed.consented(&bed.other_app, open_id, Some(HOUR), true).await;
    }
    let cipher = cipher_of(&[("test", 7)]);
    let page = async |after: Option<&str>, limit| {
        let after = after.map(ou);
        let page = TokenState::page(&*bed.store, &cipher, &bed.app, after.as_ref(), limit).await.unwrap();
        assert!(page.iter().all(|token| token.app_id == bed.app && token.suspended_for.is_none()));
        page.into_iter().map(|token| token.open_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2).await, ["ou_1", "ou_2"]);
    assert_eq!(page(Some("ou_2"), 2).await, ["ou_3"]);
    assert!(page(Some("ou_3"), 2).await.is_empty());
    let act = crate::testing::act(bed.now());
    let frozen = larkauth_models::SuspensionReason::Frozen;
    assert!(bed.store.suspend_person(&bed.app, &ou("ou_1"), frozen, &act).await.unwrap());
    let first = TokenState::page(&*bed.store, &cipher, &bed.app, None, 1).await.unwrap();
    assert_eq!((first[0].status, first[0].suspended_for), (TokenStatus::Suspended, Some(frozen)));
}
