//! Device authorizations and their polls.

use std::time::Duration;

use larkauth_models::{
    AppId, AuthMethod, DeviceGrant, ExposeSecret, FailureReason, SessionId, SessionState, Timestamp,
};
use uuid::Uuid;

use super::fixtures::{Bed, person, secret};
use crate::{DevicePoll, ExchangeClaim, NewSession, NextPoll, SessionEnding, seal_escrow};

const MINUTE: Duration = Duration::from_secs(60);
const FAILED: SessionEnding = SessionEnding::Failed(FailureReason::CodeInvalid);

impl Bed {
    fn new_device(&self, app_id: &AppId, open_id: &str) -> NewSession {
        NewSession { auth_method: AuthMethod::DeviceCode, ..self.new_session(app_id, person(open_id)) }
    }

    fn device_grant(&self, code: &str, life: u64) -> DeviceGrant {
        DeviceGrant {
            device_code: secret(code),
            user_code: secret("BCDF-GHJK"),
            verification_uri: "https://a.example/device".parse().unwrap(),
            verification_uri_complete: Some(secret("https://a.example/device?user_code=BCDF-GHJK")),
            expires_at: self.now() + Duration::from_secs(life),
            is_card_stale: false,
        }
    }

    /// Creates a session with a device authorization whose first poll is due after `interval`.
    async fn device_of(&self, app_id: &AppId, open_id: &str, interval: Duration) -> SessionId {
        let id = self.create(&self.new_device(app_id, open_id)).await;
        let grant = self.device_grant("device-code", 240);
        assert!(self.store.record_device_grant(id, None, &grant, interval).await.unwrap());
        id
    }

    async fn device(&self, open_id: &str) -> SessionId {
        self.device_of(&self.app, open_id, Duration::ZERO).await
    }

    async fn polls_after(&self, idle: Duration, life: Duration) -> Vec<DevicePoll> {
        let claims: Vec<_> = (0..10).map(|_| self.uuid()).collect();
        let epoch = Timestamp::UNIX_EPOCH;
        self.second.claim_device_polls(self.now(), epoch, idle, &claims, life).await.unwrap()
    }

    async fn polls(&self) -> Vec<DevicePoll> {
        self.polls_after(Duration::ZERO, MINUTE).await
    }

    /// Claims the poll of the only session that is due.
    async fn poll_for(&self, life: Duration) -> DevicePoll {
        let [poll] = self.polls_after(Duration::ZERO, life).await.try_into().unwrap();
        poll
    }

    async fn claim_again(&self, id: SessionId, life: Duration) -> ExchangeClaim {
        self.store.claim_exchange(id, None, self.uuid(), life).await.unwrap()
    }
}

const fn next(after: Duration) -> NextPoll {
    NextPoll { after, interval: Duration::from_secs(10), failures: 3, is_answer_lost: false }
}

/// A session has one device authorization, which is replaced by one that names it. Its codes are gone with its end.
pub async fn record_device_grant_replaced_by_name_and_wiped(bed: &Bed) {
    let id = bed.create(&bed.new_device(&bed.app, "ou_1")).await;
    assert!(bed.get(id).await.device.is_none());
    let first = bed.device_grant("first", 240);
    let record = async |replaces, grant: &DeviceGrant| {
        bed.store.record_device_grant(id, replaces, grant, MINUTE).await.unwrap()
    };
    assert!(record(None, &first).await);
    assert!(!record(None, &bed.device_grant("another worker's", 240)).await);
    let stored = bed.get(id).await.device.unwrap();
    assert_eq!(stored.device_code.expose_secret(), "first");
    assert_eq!(stored.user_code.expose_secret(), "BCDF-GHJK");
    assert_eq!(stored.verification_uri, first.verification_uri);
    let complete = stored.verification_uri_complete.unwrap();
    assert_eq!(complete.expose_secret(), "https://a.example/device?user_code=BCDF-GHJK");
    assert_eq!((stored.expires_at, stored.is_card_stale), (first.expires_at, false));
    assert!(!bed.store.record_device_card(id, first.expires_at).await.unwrap(), "the card shows them");

    let second = bed.device_grant("second", 480);
    assert!(record(Some(first.expires_at), &second).await);
    assert!(!record(Some(first.expires_at), &bed.device_grant("third", 720)).await, "replaced before");
    let stored = bed.get(id).await.device.unwrap();
    assert_eq!((stored.device_code.expose_secret(), stored.is_card_stale), ("second", true));
    assert!(!bed.store.record_device_card(id, first.expires_at).await.unwrap(), "the card shows old codes");
    assert!(bed.store.record_device_card(id, second.expires_at).await.unwrap());
    assert!(!bed.get(id).await.device.unwrap().is_card_stale);
    let listed = bed.store.list_sessions(&crate::SessionFilter::default(), None, 10).await.unwrap();
    assert!(listed.iter().all(|session| session.device.is_none()), "a list shows no secrets");

    assert!(bed.store.end_session(id, FAILED, &bed.act()).await.unwrap());
    assert!(bed.get(id).await.device.is_none());
    assert!(!record(None, &first).await, "the session has ended");
    assert!(!bed.store.record_device_opened(id, bed.now()).await.unwrap());
    let other = bed.pending("ou_1").await;
    assert!(!bed.store.record_device_grant(other, None, &first, MINUTE).await.unwrap(), "another method");
}

/// Of concurrent callers each claims other sessions. A poll is not due before its time.
pub async fn claim_device_polls_concurrent_callers_each_session_once(bed: &Bed) {
    bed.device_of(&bed.app, "ou_0", MINUTE).await;
    let mut due = Vec::new();
    for number in 1..=6 {
        due.push(bed.device(&format!("ou_{number}")).await);
    }
    let claimed = bed
        .race(8, |_, store| {
            let (now, claims) = (bed.now(), [bed.uuid(), bed.uuid()]);
            async move {
                store.claim_device_polls(now, Timestamp::UNIX_EPOCH, Duration::ZERO, &claims, MINUTE).await
            }
        })
        .await;
    let polls: Vec<DevicePoll> = claimed.into_iter().flatten().collect();
    let mut ids: Vec<_> = polls.iter().map(|poll| poll.session_id).collect();
    ids.sort_by_key(|id| id.0);
    due.sort_by_key(|id| id.0);
    // A caller that meets the rows of another one takes fewer; the rest is due at once.
    let mut rest: Vec<_> = bed.polls().await.iter().map(|poll| poll.session_id).collect();
    ids.append(&mut rest);
    ids.sort_by_key(|id| id.0);
    assert_eq!(ids, due);
    let mut claims: Vec<Uuid> = polls.iter().map(|poll| poll.claim).collect();
    claims.sort();
    claims.dedup();
    assert_eq!(claims.len(), polls.len(), "a claim is of one session");
    for poll in &polls {
        assert!(bed.store.escrow_exchange(poll.session_id, poll.claim, &pair(bed, poll)).await.unwrap());
    }
    assert_eq!(bed.polls().await, []);
}

fn pair(bed: &Bed, poll: &DevicePoll) -> crate::Sealed {
    let completion = bed.completion(poll.session_id, poll.claim, "ou_1", "u-1");
    seal_escrow(&crate::testing::test_cipher(), poll.session_id, &completion.pair).unwrap()
}

/// Before the person has opened the page polls are rarer, unless the codes are about to expire.
pub async fn claim_device_polls_rarer_until_opened(bed: &Bed) {
    let id = bed.device("ou_1").await;
    assert_eq!(bed.polls_after(MINUTE, MINUTE).await, []);
    assert!(bed.store.record_device_opened(id, bed.now()).await.unwrap());
    assert!(!bed.store.record_device_opened(id, bed.now()).await.unwrap(), "once");
    let [poll] = bed.polls_after(MINUTE, MINUTE).await.try_into().unwrap();
    assert_eq!((poll.session_id, poll.is_opened, poll.is_answer_lost), (id, true, false));

    let expired = bed.device("ou_2").await;
    bed.advance(240);
    let [poll] = bed.polls_after(MINUTE, MINUTE).await.try_into().unwrap();
    assert_eq!((poll.session_id, poll.is_opened), (expired, false));
}

/// An application that Lark refuses is not polled until its breaker lets a call through; one that is switched off is named.
pub async fn claim_device_polls_frozen_or_disabled_application(bed: &Bed) {
    bed.device("ou_1").await;
    let disabled = bed.device_of(&bed.other_app, "ou_2", Duration::ZERO).await;
    assert!(bed.store.set_application_frozen(&bed.app, Some("refused"), bed.now()).await.unwrap());
    assert!(bed.store.set_application_enabled(&bed.other_app, false, &bed.act()).await.unwrap());
    let [poll] = bed.polls().await.try_into().unwrap();
    assert_eq!((poll.session_id, poll.is_enabled), (disabled, false));
    let claims = [bed.uuid()];
    let later = bed.store.claim_device_polls(bed.now(), bed.now(), Duration::ZERO, &claims, MINUTE).await;
    assert!(later.unwrap()[0].is_enabled);
}

/// A poll holds the session until it is postponed, and the next one knows what the last one learned.
pub async fn postpone_device_poll_next_poll_knows_last(bed: &Bed) {
    let id = bed.device("ou_1").await;
    let poll = bed.poll_for(MINUTE).await;
    assert_eq!((poll.failures, poll.is_answer_lost, poll.is_enabled), (0, false, true));
    assert_eq!(bed.polls().await, [], "held");
    assert!(matches!(bed.claim_again(id, MINUTE).await, ExchangeClaim::Held { .. }));
    let postpone = async |claim, next| bed.store.postpone_device_poll(id, claim, next).await.unwrap();
    assert!(!postpone(bed.uuid(), next(Duration::ZERO)).await, "the claim of another caller");
    assert!(postpone(poll.claim, next(Duration::ZERO)).await);
    assert!(!postpone(poll.claim, next(Duration::ZERO)).await, "it has ended");

    let poll = bed.poll_for(MINUTE).await;
    assert_eq!((poll.interval, poll.failures, poll.is_answer_lost), (Duration::from_secs(10), 3, false));
    let lost = NextPoll { is_answer_lost: true, ..next(Duration::ZERO) };
    assert!(postpone(poll.claim, lost).await);
    let poll = bed.poll_for(MINUTE).await;
    assert!(poll.is_answer_lost);
    assert!(postpone(poll.claim, next(MINUTE)).await);
    assert_eq!(bed.polls().await, [], "not due");
}

/// The poll of a caller that died waits once for its escrow, and is then repeated; its answer counts as lost.
pub async fn claim_device_polls_expired_claim_repeated_after_wait(bed: &Bed) {
    let id = bed.device("ou_1").await;
    let dead = bed.poll_for(Duration::ZERO).await;
    assert_eq!(bed.polls().await, [], "its pair may be on its way");
    assert_eq!(bed.store.unfinished_exchanges(10).await.unwrap(), [id]);
    assert!(matches!(bed.claim_again(id, Duration::ZERO).await, ExchangeClaim::Held { .. }));
    assert_eq!(bed.store.unfinished_exchanges(10).await.unwrap(), [], "left to the next poll");
    assert!(matches!(bed.claim_again(id, MINUTE).await, ExchangeClaim::Held { .. }), "never abandoned");
    let poll = bed.poll_for(MINUTE).await;
    assert!(poll.is_answer_lost && poll.session_id == id);
    assert!(!bed.store.escrow_exchange(id, dead.claim, &pair(bed, &dead)).await.unwrap(), "too late");
    assert_eq!(bed.get(id).await.state, SessionState::Pending);

    let id = bed.device("ou_2").await;
    let dead = bed.poll_for(Duration::ZERO).await;
    assert!(matches!(bed.claim_again(id, Duration::ZERO).await, ExchangeClaim::Held { .. }));
    assert!(bed.store.escrow_exchange(id, dead.claim, &pair(bed, &dead)).await.unwrap());
    assert_eq!(bed.polls().await, [], "its pair has arrived");
    assert_eq!(bed.store.unfinished_exchanges(10).await.unwrap(), [id]);
    assert_eq!(bed.claim_again(id, MINUTE).await, ExchangeClaim::Escrowed);
}

/// The person may decline during a poll, whose pair is not wanted then. Once there is a pair, it is too late to decline.
pub async fn end_session_during_poll_may_be_declined(bed: &Bed) {
    let id = bed.device("ou_1").await;
    let poll = bed.poll_for(MINUTE).await;
    assert!(!bed.store.end_session(id, SessionEnding::Expired, &bed.act()).await.unwrap());
    assert!(bed.store.end_session(id, SessionEnding::Rejected, &bed.act()).await.unwrap());
    assert!(!bed.store.escrow_exchange(id, poll.claim, &pair(bed, &poll)).await.unwrap());
    assert!(!bed.store.postpone_device_poll(id, poll.claim, next(Duration::ZERO)).await.unwrap());
    assert!(bed.get(id).await.device.is_none());

    let id = bed.device("ou_2").await;
    let poll = bed.poll_for(MINUTE).await;
    assert!(bed.store.escrow_exchange(id, poll.claim, &pair(bed, &poll)).await.unwrap());
    assert!(!bed.store.end_session(id, SessionEnding::Rejected, &bed.act()).await.unwrap());
    assert!(!bed.store.postpone_device_poll(id, poll.claim, next(Duration::ZERO)).await.unwrap());
    assert!(bed.store.complete_session(&bed.completion(id, poll.claim, "ou_2", "u-1")).await.unwrap());
    assert!(bed.get(id).await.device.is_none());
}

/// A session that expires has no codes any more, and is not polled.
pub async fn expire_due_sessions_device_codes_wiped(bed: &Bed) {
    let id = bed.device("ou_1").await;
    bed.advance(600);
    assert_eq!(bed.store.expire_due_sessions(bed.now(), 10).await.unwrap(), [id]);
    assert!(bed.get(id).await.device.is_none());
    assert_eq!(bed.polls().await, []);
}
