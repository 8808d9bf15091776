//! Ticks of scheduled jobs.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Barrier, task::JoinSet};

use super::fixtures::Bed;
use crate::MAX_CLOCK_LEAD;

/// Each tick is claimed once. A tick older than the last claimed one is refused. Jobs are independent.
pub async fn claim_tick_repeated_tick_refused(bed: &Bed) {
    let (first, second) = (bed.now(), bed.now() + Duration::from_secs(5));
    assert!(bed.store.claim_tick("expire_sessions", first, first).await.unwrap());
    assert!(!bed.second.claim_tick("expire_sessions", first, first).await.unwrap());
    assert!(bed.second.claim_tick("reconcile_cards", first, first).await.unwrap());
    assert!(bed.second.claim_tick("expire_sessions", second, second).await.unwrap());
    assert!(!bed.store.claim_tick("expire_sessions", first, first).await.unwrap());
    assert_eq!(bed.second.last_tick("expire_sessions").await.unwrap(), Some(second));
    assert_eq!(bed.store.last_tick("unknown").await.unwrap(), None);
}

/// A tick from a clock that was wrong does not stop the job.
pub async fn claim_tick_after_wrong_clock_claimed(bed: &Bed) {
    let (now, ahead) = (bed.now(), bed.now() + Duration::from_secs(3600));
    let claim = async |tick, now| bed.store.claim_tick("expire_sessions", tick, now).await.unwrap();
    assert!(claim(ahead, ahead).await);
    assert!(claim(now, now).await);
    assert!(!claim(now, now).await);
    let little = now + MAX_CLOCK_LEAD;
    assert!(claim(little, little).await);
    assert!(
        !claim(now + Duration::from_secs(5), now + Duration::from_secs(5)).await,
        "clocks differ a little"
    );
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
                store.claim_tick("expire_sessions", tick, tick).await.unwrap()
            });
        }
        let won = claims.join_all().await.into_iter().filter(|won| *won).count();
        assert_eq!(won, 1);
    }
}
