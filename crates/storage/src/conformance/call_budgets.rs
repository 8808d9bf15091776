//! Budgets of calls, which all processes share.

use std::time::Duration;

use larkauth_models::{CallRate, CallRequest, Lane};

use super::fixtures::Bed;
use crate::GrantedCalls;

/// A rate that is slow enough for a test on a busy machine: what the clock adds within one is less than a call.
const SLOW: CallRate =
    CallRate { interval: Duration::from_secs(60), burst: 10, reserve: 3, background_burst: 2 };

impl Bed {
    async fn grant(&self, class: &str, request: CallRequest) -> GrantedCalls {
        self.store.grant_calls(&self.app, class, &request).await.unwrap()
    }
}

/// Checks a lead up to the time that passed since it was made.
fn assert_lead(granted: GrantedCalls, calls: u32) {
    let lead = SLOW.interval * calls;
    assert!(granted.lead <= lead && granted.lead + SLOW.interval / 2 > lead, "{granted:?}, {calls} calls");
}

/// A store decides as [`CallRequest::granted`] does, and keeps the lead.
pub async fn grant_calls_follows_the_rate_of_the_request(bed: &Bed) {
    let background = SLOW.request(Lane::Background, 100, Duration::ZERO);
    let person = SLOW.request(Lane::People, 1, Duration::from_secs(30));
    let first = bed.grant("token", background).await;
    assert_eq!(first, GrantedCalls { calls: 7, lead: Duration::ZERO });
    let none = bed.second.grant_calls(&bed.app, "token", &background).await.unwrap();
    assert_eq!(none.calls, 0);
    assert_lead(none, 7);
    for calls in 7..10 {
        let granted = bed.grant("token", person).await;
        assert_eq!(granted.calls, person.granted(granted.lead));
        assert_eq!(granted.calls, 1);
        assert_lead(granted, calls);
    }
    let late = bed.second.grant_calls(&bed.app, "token", &person).await.unwrap();
    assert_eq!((late.calls, person.granted(late.lead)), (0, 0), "the wait is longer than 30 s");
    assert_lead(late, 10);
}

/// Budgets are independent.
pub async fn grant_calls_other_application_or_class_has_its_own_budget(bed: &Bed) {
    let all = SLOW.request(Lane::People, 10, Duration::ZERO);
    assert_eq!(bed.grant("token", all).await.calls, 10);
    assert_eq!(bed.grant("token", all).await.calls, 0);
    assert_eq!(bed.grant("message_send", all).await.calls, 10);
    let other = bed.store.grant_calls(&bed.other_app, "token", &all).await.unwrap();
    assert_eq!(other, GrantedCalls { calls: 10, lead: Duration::ZERO });
}

/// Callers of several processes get together what one gets.
pub async fn grant_calls_concurrent_callers_share_one_budget(bed: &Bed) {
    let app = bed.app.clone();
    let granted = bed
        .race(20, |_, store| {
            let app = app.clone();
            async move {
                store.grant_calls(&app, "token", &SLOW.request(Lane::People, 1, Duration::ZERO)).await
            }
        })
        .await;
    assert_eq!(granted.iter().map(|granted| granted.calls).sum::<u32>(), 10);
    let mut leads: Vec<_> =
        granted.iter().filter(|granted| granted.calls == 1).map(|granted| granted.lead).collect();
    leads.sort();
    for (calls, lead) in (0..).zip(leads) {
        assert_lead(GrantedCalls { calls: 1, lead }, calls);
    }
}

/// A hold is seen by every process, and a shorter one does not end it.
pub async fn hold_calls_of_any_process_stops_all(bed: &Bed) {
    let person = SLOW.request(Lane::People, 1, Duration::ZERO);
    let lead = SLOW.lead_of_wait(Duration::from_secs(120));
    bed.second.hold_calls(&bed.app, "token", lead).await.unwrap();
    bed.store.hold_calls(&bed.app, "token", Duration::from_secs(1)).await.unwrap();
    let held = bed.grant("token", person).await;
    assert_eq!(held.calls, 0);
    let wait = SLOW.wait(Lane::People, held.lead, 0);
    assert!(wait <= Duration::from_secs(120) && wait > Duration::from_secs(90), "{wait:?}");
    // A lead that no hold can have comes from a clock that was set back.
    bed.store.hold_calls(&bed.app, "other", Duration::from_secs(999_999)).await.unwrap();
    let longest = bed.grant("other", person).await.lead;
    assert!(longest <= crate::MAX_CALL_LEAD, "{longest:?}");
}
