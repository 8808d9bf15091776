//! Announcing the ends of sessions.

use std::time::Duration;

use larkauth_models::{FailureReason, SessionState};

use super::fixtures::{Bed, ou};
use crate::SessionEnding;

/// Every transition to a final state leaves an unannounced end. Recording the announcement removes it,
/// once. A pending session has no end.
pub async fn unannounced_ends_every_ending_returned_until_recorded(bed: &Bed) {
    let expired = bed.pending("ou_1").await;
    bed.advance(600);
    assert_eq!(bed.store.expire_due_sessions(bed.now(), 10).await.unwrap(), [expired]);
    bed.advance(1);
    let rejected = bed.pending("ou_2").await;
    assert!(bed.store.end_session(rejected, SessionEnding::Rejected, &bed.act()).await.unwrap());
    bed.advance(1);
    let failed = bed.pending("ou_3").await;
    let ending = SessionEnding::Failed(FailureReason::CodeInvalid);
    assert!(bed.store.end_session(failed, ending, &bed.act()).await.unwrap());
    bed.advance(1);
    let completed = bed.completed(&bed.app, "ou_4", "t").await;
    let pending = bed.pending("ou_5").await;
    assert!(!bed.store.record_announced(pending, bed.now()).await.unwrap());

    let young = bed.store.unannounced_ends(bed.now(), None, 10).await.unwrap();
    assert_eq!(young.iter().map(|end| end.id).collect::<Vec<_>>(), [expired, rejected, failed]);
    bed.advance(1);
    let ends = bed.second.unannounced_ends(bed.now(), None, 10).await.unwrap();
    assert_eq!(
        ends.iter().map(|end| (end.id, end.state, end.failure_reason)).collect::<Vec<_>>(),
        [
            (expired, SessionState::Expired, None),
            (rejected, SessionState::Rejected, None),
            (failed, SessionState::Failed, Some(FailureReason::CodeInvalid)),
            (completed, SessionState::Completed, None),
        ]
    );
    assert!(ends.iter().all(|end| end.app_id == bed.app));
    assert_eq!(ends[3].person.open_id, Some(ou("ou_4")));
    assert_eq!(ends[3].ended_at, bed.now() - Duration::from_secs(1));

    assert!(bed.store.record_announced(rejected, bed.now()).await.unwrap());
    assert!(!bed.second.record_announced(rejected, bed.now()).await.unwrap());
    let left = bed.store.unannounced_ends(bed.now(), None, 10).await.unwrap();
    assert_eq!(left.iter().map(|end| end.id).collect::<Vec<_>>(), [expired, failed, completed]);
}

/// Ends of one moment are passed completely, so that an end that cannot be announced does not hide the others.
pub async fn unannounced_ends_after_cursor_returns_the_next(bed: &Bed) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id = bed.pending("ou_1").await;
        assert!(bed.store.end_session(id, SessionEnding::Rejected, &bed.act()).await.unwrap());
        ids.push(id);
    }
    bed.advance(1);
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let ends = bed.store.unannounced_ends(bed.now(), after, 2).await.unwrap();
        assert!(ends.len() <= 2);
        let Some(last) = ends.last() else { break };
        after = Some(last.cursor());
        found.extend(ends.iter().map(|end| end.id));
    }
    ids.sort();
    assert_eq!(found, ids);
}
