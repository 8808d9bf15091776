//! What is deleted: old sessions, profiles that belong to nothing, one person.

use std::time::Duration;

use larkauth_models::{Person, SessionId, TokenKind, UserId};

use super::fixtures::{Bed, ou, person};
use crate::{AuditFilter, Erased, ProfileCursor, SessionEnding};

/// Old ended sessions are deleted up to the limit, oldest first. Pending and younger sessions remain.
pub async fn purge_sessions_ended_sessions_removed_oldest_first(bed: &Bed) {
    let mut old = Vec::new();
    let pending = bed.pending("ou_1").await;
    for number in 0..5 {
        let id = if number == 2 {
            bed.completed(&bed.app, "ou_2", "t").await
        } else {
            let id = bed.pending("ou_1").await;
            assert!(bed.store.end_session(id, SessionEnding::Expired, &bed.act()).await.unwrap());
            id
        };
        assert!(bed.store.record_announced(id, bed.now()).await.unwrap());
        old.push(id);
        bed.advance(1);
    }
    let unannounced = bed.pending("ou_1").await;
    assert!(bed.store.end_session(unannounced, SessionEnding::Rejected, &bed.act()).await.unwrap());
    bed.advance(1);
    let before = bed.now();
    let young = bed.pending("ou_1").await;
    assert!(bed.store.end_session(young, SessionEnding::Rejected, &bed.act()).await.unwrap());
    let exists = async |id: SessionId| bed.second.session(id).await.unwrap().is_some();

    assert_eq!(bed.store.purge_sessions(before, 2).await.unwrap(), 2);
    assert!(!exists(old[0]).await && !exists(old[1]).await && exists(old[2]).await);
    assert_eq!(bed.second.purge_sessions(before, 100).await.unwrap(), 3);
    assert_eq!(bed.store.purge_sessions(before, 100).await.unwrap(), 0);
    assert!(exists(pending).await && exists(young).await);
    assert!(exists(unannounced).await, "its end is still to be announced");
    let token = bed.store.token(&bed.app, &ou("ou_2"), TokenKind::User).await.unwrap();
    assert!(token.is_some(), "a token outlives its session");
}

/// A profile is deleted when its person has neither a token nor a session. The pages cover all profiles.
pub async fn purge_profiles_person_without_token_and_session_removed(bed: &Bed) {
    for (app, open_id) in [
        (&bed.app, "ou_1"),
        (&bed.app, "ou_2"),
        (&bed.app, "ou_3"),
        (&bed.other_app, "ou_1"),
        (&bed.app, "ou_4"),
    ] {
        let id = bed.completed(app, open_id, "t").await;
        assert!(bed.store.record_announced(id, bed.now()).await.unwrap());
    }
    bed.advance(1);
    assert_eq!(bed.store.purge_sessions(bed.now(), 100).await.unwrap(), 5);
    // ou_1 keeps the token, ou_2 has a revoked token, ou_3 has a revoked token and a session.
    for open_id in ["ou_2", "ou_3", "ou_4"] {
        assert!(bed.store.revoke_token(&bed.app, &ou(open_id), TokenKind::User, &bed.act()).await.unwrap());
    }
    bed.pending("ou_3").await;
    let (mut after, mut pages, mut deleted) = (ProfileCursor::default(), 0, 0);
    loop {
        let page = bed.second.purge_profiles(&after, 2).await.unwrap();
        deleted += page.deleted;
        let Some(last) = page.last else { break };
        assert!(last > after);
        (after, pages) = (last, pages + 1);
    }
    assert_eq!((pages, deleted), (3, 2));
    for (app, open_id, kept) in [
        (&bed.app, "ou_1", true),
        (&bed.app, "ou_2", false),
        (&bed.app, "ou_3", true),
        (&bed.app, "ou_4", false),
        (&bed.other_app, "ou_1", true),
    ] {
        assert_eq!(bed.store.profile(app, &ou(open_id)).await.unwrap().is_some(), kept, "{app} {open_id}");
    }
}

/// Sessions, tokens and profile of one person are deleted, by open id and by user id; those of other people and
/// applications remain. The call can be repeated.
pub async fn erase_person_removes_everything_of_one_person(bed: &Bed) {
    let by_user_id = |id: &str| Person { open_id: None, user_id: Some(UserId::new(id).unwrap()) };
    let theirs = [
        bed.completed(&bed.app, "ou_1", "t").await,
        bed.pending("ou_1").await,
        bed.claimed("ou_1").await.0,
        // The profile of the fixtures has this user id.
        bed.create(&bed.new_session(&bed.app, by_user_id("u_ou_1"))).await,
    ];
    let others = [
        bed.completed(&bed.app, "ou_2", "t").await,
        bed.completed(&bed.other_app, "ou_1", "t").await,
        bed.create(&bed.new_session(&bed.app, by_user_id("u_ou_2"))).await,
        bed.create(&bed.new_session(&bed.app, person("ou_3"))).await,
    ];
    let mut ids = bed.store.person_ids(&bed.app, &ou("ou_1")).await.unwrap();
    ids.sort();
    assert_eq!(ids, ["ou_1", "u_ou_1"]);
    assert_eq!(bed.store.person_ids(&bed.app, &ou("ou_9")).await.unwrap(), ["ou_9"]);

    bed.advance(60);
    let (first, second) = (bed.act(), bed.act());
    let erased = bed.second.erase_person(&bed.app, &ou("ou_1"), &first).await.unwrap();
    assert_eq!(erased, Erased { sessions: 4, tokens: 1, profiles: 1 });
    for id in theirs {
        assert!(bed.store.session(id).await.unwrap().is_none());
    }
    for id in others {
        assert!(bed.store.session(id).await.unwrap().is_some());
    }
    assert!(bed.store.token(&bed.app, &ou("ou_1"), TokenKind::User).await.unwrap().is_none());
    assert!(bed.store.profile(&bed.app, &ou("ou_1")).await.unwrap().is_none());
    for (app, open_id) in [(&bed.app, "ou_2"), (&bed.other_app, "ou_1")] {
        assert!(bed.store.token(app, &ou(open_id), TokenKind::User).await.unwrap().is_some());
        assert!(bed.store.profile(app, &ou(open_id)).await.unwrap().is_some());
    }
    let again = bed.store.erase_person(&bed.app, &ou("ou_1"), &second).await.unwrap();
    assert_eq!(again, Erased::default());
    let filter = AuditFilter { since: Some(bed.now() - Duration::from_secs(1)), ..AuditFilter::default() };
    assert_eq!(bed.store.list_audit(&filter, None, 100).await.unwrap().len(), 2);
    // A worker that was exchanging the code stores nothing any more.
    let claim = bed.uuid();
    assert!(!bed.store.complete_session(&bed.completion(theirs[2], claim, "ou_1", "t")).await.unwrap());
}
