//! Ticks of scheduled jobs.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Barrier, task::JoinSet};

use super::fixtures::Bed;

/// Each tick is claimed once. A tick older than the last claimed one is refused. Jobs are independent.
pub async fn claim_tick_repeated_tick_refused(bed: &Bed) {
    let (first, second) = (bed.now(), bed.now() + Duration::from_secs(5));
    assert!(bed.store.claim_tick("expire_sessions", first).await.unwrap());
    assert!(!bed.second.claim_tick("expire_sessions", first).await.unwrap());
    assert!(bed.second.claim_tick("reconcile_cards", first).await.unwrap());
    assert!(bed.second.claim_tick("expire_sessions", second).await.unwrap());
    assert!(!bed.store.claim_tick("expire_sessions", first).await.unwrap());
}

/// Of many concurrent callers one claims the tick.
pub async fn claim_tick_concurrent_callers_one_claims(bed: &Bed) {
    const PROCESSES: usize = 8;
    for round in 0..3 {
        let tick = bed.now() + Duration::from_secs(round);
        let together = Arc::new(Barrier::new(PROCESSES));
        let mut claims = JoinSet::new();
        for n in 0..PROCESSES {
            let store = if n % 2 == 0 { bed.store.clone() } else { bed.second.clone() };
            let together = together.clone();
            claims.spawn(async move {
                together.wait().await;
                store.claim_tick("expire_sessions", tick).await.unwrap()
            });
        }
        let won = claims.join_all().await.into_iter().filter(|won| *won).count();
        assert_eq!(won, 1);
    }
}
