//! The limit of invitations.

use std::time::Duration;

use larkauth_models::{FailureReason, Person, ReauthorizationReason, UserId};

use super::fixtures::{Bed, UNLIMITED, ou, person};
use crate::{Created, InvitationLimit, InvitationPause, NewSession, SessionEnding, SessionFilter};

const WINDOW: Duration = Duration::from_secs(60);
const FIVE: InvitationLimit = InvitationLimit { max: 5, window: WINDOW };

/// Of fifty concurrent calls on two stores exactly five create a session.
pub async fn create_session_concurrent_callers_limit_exact(bed: &Bed) {
    let outcomes = bed
        .race(50, |_, store| {
            let new = bed.new_session(&bed.app, person("ou_1"));
            async move { store.create_session(&new, FIVE).await }
        })
        .await;
    let (created, limited): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|o| *o == Created::Created);
    assert_eq!((created.len(), limited.len()), (5, 45));
    assert!(limited.iter().all(|outcome| *outcome == Created::RateLimited { retry_after: WINDOW }));
    assert_eq!(bed.store.list_sessions(&SessionFilter::default(), None, 100).await.unwrap().len(), 5);
}

/// An invitation is refused until the oldest counted one leaves the window; the outcome says how long that takes.
pub async fn create_session_over_limit_returns_retry_after(bed: &Bed) {
    let invite = async || {
        let new = bed.new_session(&bed.app, person("ou_1"));
        bed.store.create_session(&new, FIVE).await.unwrap()
    };
    for _ in 0..5 {
        assert_eq!(invite().await, Created::Created);
        bed.advance(10);
    }
    assert_eq!(invite().await, Created::RateLimited { retry_after: Duration::from_secs(10) });
    bed.advance(9);
    assert_eq!(invite().await, Created::RateLimited { retry_after: Duration::from_secs(1) });
    bed.advance(1);
    assert_eq!(invite().await, Created::Created);
    assert_eq!(invite().await, Created::RateLimited { retry_after: Duration::from_secs(10) });
    let none = InvitationLimit { max: 0, window: WINDOW };
    let new = bed.new_session(&bed.app, person("ou_2"));
    let outcome = bed.store.create_session(&new, none).await.unwrap();
    assert_eq!(outcome, Created::RateLimited { retry_after: WINDOW });
}

/// Invitations count for one person in one application only.
pub async fn create_session_other_person_or_application_limited_separately(bed: &Bed) {
    let one = InvitationLimit { max: 1, window: WINDOW };
    for (app, open_id) in [(&bed.app, "ou_1"), (&bed.app, "ou_2"), (&bed.other_app, "ou_1")] {
        let invite =
            async || bed.store.create_session(&bed.new_session(app, person(open_id)), one).await.unwrap();
        assert_eq!(invite().await, Created::Created);
        assert!(matches!(invite().await, Created::RateLimited { .. }));
    }
}

/// Invitations by user id and by open id of the same person count together.
pub async fn create_session_person_with_two_ids_limited_once(bed: &Bed) {
    let one = InvitationLimit { max: 1, window: WINDOW };
    let user_id = Some(UserId::new("u1").unwrap());
    let by_user_id = Person { open_id: None, user_id: user_id.clone() };
    let by_both = Person { open_id: Some(ou("ou_1")), user_id };
    let first = bed.new_session(&bed.app, by_user_id.clone());
    assert_eq!(bed.store.create_session(&first, one).await.unwrap(), Created::Created);
    assert!(bed.store.record_open_id(first.id, &ou("ou_1")).await.unwrap());
    for who in [by_user_id, by_both, person("ou_1")] {
        let outcome = bed.store.create_session(&bed.new_session(&bed.app, who), one).await.unwrap();
        assert!(matches!(outcome, Created::RateLimited { .. }));
    }
}

/// A hundred concurrent calls for a hundred people all create a session.
pub async fn create_session_hundred_people_all_created(bed: &Bed) {
    let outcomes = bed
        .race(100, |number, store| {
            let new = NewSession { ..bed.new_session(&bed.app, person(&format!("ou_{number}"))) };
            async move { store.create_session(&new, UNLIMITED).await }
        })
        .await;
    assert!(outcomes.iter().all(|outcome| *outcome == Created::Created));
    assert_eq!(bed.store.list_sessions(&SessionFilter::default(), None, 1000).await.unwrap().len(), 100);
}

const PAUSE: InvitationPause =
    InvitationPause { first: Duration::from_secs(600), longest: Duration::from_secs(3600) };

impl Bed {
    async fn unless_asked(&self, new: &NewSession) -> Created {
        self.store.create_session_unless_asked(new, UNLIMITED, PAUSE).await.unwrap()
    }
}

/// Of many callers whose token is missing one asks the person; the others get its session.
pub async fn create_session_unless_asked_concurrent_callers_one_creates(bed: &Bed) {
    let sessions: Vec<_> = (0..10).map(|_| bed.new_session(&bed.app, person("ou_1"))).collect();
    let outcomes = bed
        .race(sessions.len(), |number, store| {
            let new = sessions[number].clone();
            async move { store.create_session_unless_asked(&new, UNLIMITED, PAUSE).await }
        })
        .await;
    let created = outcomes.iter().filter(|outcome| **outcome == Created::Created).count();
    let stored = bed.store.list_sessions(&SessionFilter::default(), None, 100).await.unwrap();
    assert_eq!((created, stored.len()), (1, 1), "{outcomes:?}");
    let open = Created::Open(stored[0].id);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == open).count(), 9, "{outcomes:?}");

    let wider =
        NewSession { scopes: vec!["another".to_owned()], ..bed.new_session(&bed.app, person("ou_1")) };
    assert_eq!(bed.unless_asked(&wider).await, Created::Created, "the open card does not ask for it");
    let other = bed.new_session(&bed.other_app, person("ou_1"));
    assert_eq!(bed.unless_asked(&other).await, Created::Created);
}

/// After each "no" the person is left in peace twice as long. A failure of larkauth or of the application does not count.
pub async fn create_session_unless_asked_after_no_pauses_longer_each_time(bed: &Bed) {
    let ask = async || {
        let new = bed.new_session(&bed.app, person("ou_1"));
        (new.id, bed.unless_asked(&new).await)
    };
    for (ending, pause) in [
        (SessionEnding::Rejected, 600),
        (SessionEnding::Expired, 1200),
        (SessionEnding::Failed(FailureReason::CardUndeliverable), 2400),
        (SessionEnding::Rejected, 3600),
        (SessionEnding::Rejected, 3600),
    ] {
        let (id, created) = ask().await;
        assert_eq!(created, Created::Created);
        assert!(bed.store.end_session(id, ending, &bed.act()).await.unwrap());
        let left = Duration::from_secs(pause);
        assert_eq!(ask().await.1, Created::Paused { retry_after: left });
        bed.advance(pause - 1);
        assert_eq!(ask().await.1, Created::Paused { retry_after: Duration::from_secs(1) });
        bed.advance(1);
    }
    let (id, created) = ask().await;
    assert_eq!(created, Created::Created);
    let of_application = SessionEnding::Failed(FailureReason::AppMisconfigured);
    assert!(bed.store.end_session(id, of_application, &bed.act()).await.unwrap());
    assert_eq!(ask().await.1, Created::Created, "the person is not to blame");
    // A consent ends the row of unsuccessful invitations.
    bed.completed(&bed.app, "ou_1", "u-1").await;
    bed.advance(1);
    let (id, created) = ask().await;
    assert_eq!(created, Created::Created);
    assert!(bed.store.end_session(id, SessionEnding::Rejected, &bed.act()).await.unwrap());
    assert_eq!(ask().await.1, Created::Paused { retry_after: Duration::from_secs(600) });
}

/// A person whom larkauth asks by itself has no second open card. The open card may ask for other scopes, and may be older than
/// the last consent.
pub async fn create_session_unless_asked_older_open_card_returned(bed: &Bed) {
    let open = bed.pending("ou_1").await;
    bed.advance(1);
    bed.completed(&bed.app, "ou_1", "u").await;
    bed.advance(1);
    let mut new = bed.new_session(&bed.app, person("ou_1"));
    new.scopes.push("docs:read".to_owned());
    new.card.reauthorize = Some(ReauthorizationReason::Ended);
    assert_eq!(bed.unless_asked(&new).await, Created::Open(open));
    new.card.reauthorize = None;
    assert_eq!(bed.unless_asked(&new).await, Created::Created, "a caller needs more than that card asks for");
}
