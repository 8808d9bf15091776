//! Expiry of sessions.

use std::{collections::HashSet, time::Duration};

use larkauth_models::{SessionState, TokenKind};

use super::fixtures::{Bed, ou, wins};
use crate::{ExchangeClaim, SessionEnding};

/// Sessions expire oldest first, at most `limit` per call, each once. Sessions that are not due are unchanged.
pub async fn expire_due_sessions_due_sessions_expire_oldest_first(bed: &Bed) {
    let mut due = Vec::new();
    for _ in 0..5 {
        due.push(bed.pending("ou_1").await);
        bed.advance(1);
    }
    let ended = bed.pending("ou_1").await;
    assert!(bed.store.end_session(ended, SessionEnding::Rejected, &bed.act()).await.unwrap());
    assert_eq!(bed.store.expire_due_sessions(bed.now(), 100).await.unwrap(), []);
    bed.advance(599);
    let young = bed.pending("ou_1").await;

    // The first five sessions are due, the fifth exactly at this second.
    let mut first = bed.store.expire_due_sessions(bed.now(), 3).await.unwrap();
    first.sort();
    assert_eq!(first, due[..3]);
    let mut rest = bed.second.expire_due_sessions(bed.now(), 100).await.unwrap();
    rest.sort();
    assert_eq!(rest, due[3..]);
    assert_eq!(bed.store.expire_due_sessions(bed.now(), 100).await.unwrap(), []);
    for id in due {
        let session = bed.get(id).await;
        assert_eq!((session.state, session.consent.is_none()), (SessionState::Expired, true));
    }
    assert_eq!(bed.get(young).await.state, SessionState::Pending);
    assert_eq!(bed.get(ended).await.state, SessionState::Rejected);
}

/// A session does not expire while its code is being exchanged. It expires once the claim of an unsent code has expired.
pub async fn expire_due_sessions_claimed_session_skipped(bed: &Bed) {
    let finished = bed.pending("ou_1").await;
    let abandoned = bed.pending("ou_2").await;
    bed.advance(590);
    let claim = bed.claim(finished).await;
    bed.claim_for(abandoned, Duration::ZERO).await;
    bed.advance(20);
    assert_eq!(bed.store.expire_due_sessions(bed.now(), 100).await.unwrap(), [abandoned]);
    // A completion is accepted after `expires_at` while the claim is valid.
    assert!(bed.store.complete_session(&bed.completion(finished, claim, "ou_1", "t")).await.unwrap());
    let late = bed.store.claim_exchange(abandoned, None, bed.uuid(), Duration::ZERO).await.unwrap();
    assert_eq!(late, ExchangeClaim::NotPending);
}

/// Concurrent calls expire different sessions, and together all of them.
pub async fn expire_due_sessions_concurrent_callers_each_session_once(bed: &Bed) {
    let mut due = HashSet::new();
    for _ in 0..60 {
        due.insert(bed.pending("ou_1").await);
    }
    bed.advance(600);
    let now = bed.now();
    let swept = bed.race(6, |_, store| async move { store.expire_due_sessions(now, 10).await }).await;
    let mut swept: Vec<_> = swept.into_iter().flatten().collect();
    // A call that met rows locked by another call skipped them and may have found fewer.
    swept.extend(bed.store.expire_due_sessions(now, 100).await.unwrap());
    assert_eq!(swept.len(), due.len());
    assert_eq!(swept.into_iter().collect::<HashSet<_>>(), due);
}

/// When a claim expires and its owner completes at the same moment, either the completion or the expiry succeeds.
pub async fn expire_due_sessions_concurrent_completion_one_wins(bed: &Bed) {
    for round in 0..20 {
        let open_id = format!("ou_{round}");
        let id = bed.pending(&open_id).await;
        let completion = bed.completion(id, bed.claim_for(id, Duration::ZERO).await, &open_id, "t");
        bed.advance(600);
        let now = bed.now();
        let outcomes = bed
            .race(2, |number, store| {
                let completion = completion.clone();
                async move {
                    // The stores take turns in expiring.
                    if number == round % 2 {
                        store.complete_session(&completion).await
                    } else {
                        store.expire_due_sessions(now, 10).await.map(|ids| ids == [id])
                    }
                }
            })
            .await;
        // An expiry that met the row locked skipped it.
        if wins(&outcomes) == 0 {
            assert_eq!(bed.store.expire_due_sessions(now, 10).await.unwrap(), [id]);
        }
        assert!(wins(&outcomes) <= 1);
        let completed = bed.get(id).await.state == SessionState::Completed;
        let token = bed.store.token(&bed.app, &ou(&open_id), TokenKind::User).await.unwrap();
        assert_eq!(token.is_some(), completed);
    }
}
