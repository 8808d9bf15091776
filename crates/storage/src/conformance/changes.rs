//! The feed of changes. A way to the database that has none passes: its readers keep nothing for longer than a second.

use std::time::Duration;

use larkauth_models::{OpenId, TokenKind};
use tokio::time::timeout;

use super::fixtures::{Bed, application, ou};
use crate::{Change, ChangeFeed, RefreshClaim, RefreshEnd, RefreshedToken};

async fn feed(bed: &Bed) -> Option<Box<dyn ChangeFeed>> {
    bed.second.change_feed().await.unwrap()
}

fn token(bed: &Bed, open_id: &OpenId) -> Change {
    Change::Token { app_id: bed.app.to_string(), open_id: open_id.to_string() }
}

/// Every change of a token that a reader could be served is returned by the next call, and by no later one.
pub async fn next_after_change_of_token_returns_it_once(bed: &Bed) {
    let Some(mut feed) = feed(bed).await else { return };
    bed.completed(&bed.app, "ou_1", "t").await;
    let person = ou("ou_1");
    let changed = [token(bed, &person)];
    assert_eq!(feed.next().await.unwrap(), changed, "consent");
    assert_eq!(feed.next().await.unwrap(), []);

    let owner = bed.uuid();
    let claim = bed.store.claim_refresh(&bed.app, &person, owner, Duration::from_secs(30)).await.unwrap();
    let RefreshClaim::Leased(leased) = claim else { unreachable!("{claim:?}") };
    let before = bed.now() + Duration::from_secs(1);
    assert!(bed.store.touch_token(&bed.app, &person, before, before).await.unwrap());
    assert_eq!(feed.next().await.unwrap(), [], "a lease and a use concern no reader");

    let old = leased.token;
    let end = RefreshEnd { status: old.status, failures: 1, next_attempt_at: None };
    assert!(bed.store.end_refresh(&bed.app, &person, owner, end).await.unwrap());
    assert_eq!(feed.next().await.unwrap(), changed, "a failure");
    let refreshed = RefreshedToken {
        app_id: bed.app.clone(),
        open_id: person.clone(),
        generation: old.generation,
        pair: bed.pair("u-2"),
        failures: 0,
        next_attempt_at: None,
        now: bed.now(),
    };
    assert!(bed.store.complete_refresh(&refreshed).await.unwrap());
    assert_eq!(feed.next().await.unwrap(), changed, "a refresh");
    assert!(bed.store.revoke_token(&bed.app, &person, TokenKind::User, &bed.act()).await.unwrap());
    assert_eq!(feed.next().await.unwrap(), changed, "a revocation");

    bed.store.erase_person(&bed.app, &person, &bed.act()).await.unwrap();
    let erased = feed.next().await.unwrap();
    assert!(erased == changed || erased == [Change::Everything], "{erased:?}");
    assert_eq!(feed.next().await.unwrap(), []);
}

/// Changes of applications and API keys are returned; the record of a key's use is none.
pub async fn next_after_change_of_application_or_key_returns_it(bed: &Bed) {
    let Some(mut feed) = feed(bed).await else { return };
    bed.store.put_application(&application(&bed.app), &bed.act()).await.unwrap();
    let changed = feed.next().await.unwrap();
    assert!(
        !changed.is_empty() && changed.iter().all(|change| *change == Change::Applications),
        "{changed:?}"
    );
    assert!(bed.store.set_application_enabled(&bed.app, false, &bed.act()).await.unwrap());
    assert_eq!(feed.next().await.unwrap(), [Change::Applications]);

    let key = super::audit::key(bed);
    bed.store.put_api_key(&key, &[1; 32], &bed.act()).await.unwrap();
    assert_eq!(feed.next().await.unwrap(), [Change::ApiKeys]);
    bed.store.touch_api_key(key.id, bed.now()).await.unwrap();
    assert_eq!(feed.next().await.unwrap(), []);
    let until = bed.now() + Duration::from_secs(60);
    let successor = crate::ApiKey { id: bed.uuid(), ..key.clone() };
    assert!(bed.store.rotate_api_key(key.id, until, &successor, &[2; 32], &bed.act()).await.unwrap());
    let changed = feed.next().await.unwrap();
    assert!(!changed.is_empty() && changed.iter().all(|change| *change == Change::ApiKeys), "{changed:?}");
    assert!(bed.store.revoke_api_key(key.id, &bed.act()).await.unwrap());
    assert_eq!(feed.next().await.unwrap(), [Change::ApiKeys]);
}

/// Each feed returns each change, and what was committed before it was opened is in none.
pub async fn next_of_every_feed_returns_changes_since_it_was_opened(bed: &Bed) {
    let Some(mut first) = feed(bed).await else { return };
    bed.completed(&bed.app, "ou_1", "t").await;
    let Some(mut second) = feed(bed).await else { return };
    bed.completed(&bed.app, "ou_2", "t").await;
    assert_eq!(first.next().await.unwrap(), [token(bed, &ou("ou_1")), token(bed, &ou("ou_2"))]);
    assert_eq!(second.next().await.unwrap(), [token(bed, &ou("ou_2"))]);
}

/// Waiting for a change loses none, whether the wait ends by a change or is cancelled.
pub async fn arrived_cancelled_loses_no_change(bed: &Bed) {
    let Some(mut feed) = feed(bed).await else { return };
    for open_id in ["ou_1", "ou_2"] {
        let (waited, ()) = tokio::join!(timeout(Duration::from_millis(200), feed.arrived()), async {
            bed.completed(&bed.app, open_id, "t").await;
        });
        // A database that does not call leaves the wait to its deadline.
        drop(waited);
        assert_eq!(feed.next().await.unwrap(), [token(bed, &ou(open_id))]);
    }
}
