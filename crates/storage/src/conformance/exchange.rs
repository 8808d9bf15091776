//! Exchange of a code for a token.

use std::time::Duration;

use larkauth_models::{
    ExposeSecret, FailureReason, OpenId, Person, SessionState, StoredToken, TokenKind, TokenStatus, UserId,
    UserProfile,
};

use super::fixtures::{Bed, ou, person, secret};
use crate::{CodeBinding, Completion, ExchangeClaim, SessionEnding, StorageError};

async fn token(bed: &Bed, open_id: &str) -> Option<StoredToken> {
    bed.second.token(&bed.app, &ou(open_id), TokenKind::User).await.unwrap()
}

/// A later code replaces an earlier one until the exchange is claimed. A repeated code is reported as such.
pub async fn bind_code_until_claimed_newest_code_kept(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::Bound);
    assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::SameCode);
    // The message with the first code may be lost, so the second code is accepted.
    assert_eq!(bed.store.bind_code(id, &[2; 32]).await.unwrap(), CodeBinding::Bound);
    let until = bed.now() + Duration::from_secs(60);
    assert_eq!(
        bed.store.claim_exchange(id, None, bed.uuid(), bed.now(), until).await.unwrap(),
        ExchangeClaim::Claimed
    );
    assert_eq!(bed.store.bind_code(id, &[2; 32]).await.unwrap(), CodeBinding::SameCode);
    assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::OtherCode);
    for ending in [SessionEnding::Rejected, SessionEnding::Expired] {
        assert!(!bed.store.end_session(id, ending, bed.now()).await.unwrap(), "the code is being exchanged");
    }
    let failed = SessionEnding::Failed(FailureReason::CodeInvalid);
    assert!(bed.store.end_session(id, failed, bed.now()).await.unwrap());
    assert_eq!(bed.store.bind_code(id, &[2; 32]).await.unwrap(), CodeBinding::NotPending);

    let id = bed.pending("ou_1").await;
    let mut outcomes = bed.race(20, |_, store| async move { store.bind_code(id, &[3; 32]).await }).await;
    outcomes.retain(|outcome| *outcome != CodeBinding::SameCode);
    assert_eq!(outcomes, [CodeBinding::Bound]);
}

/// A claim is held, released, and abandoned when it expires.
pub async fn claim_exchange_claimed_session_held_until_released_or_abandoned(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    let (mine, other) = (bed.uuid(), bed.uuid());
    let until = bed.now() + Duration::from_secs(60);
    let claim = async |who| bed.second.claim_exchange(id, None, who, bed.now(), until).await.unwrap();

    assert_eq!(claim(mine).await, ExchangeClaim::Claimed);
    assert_eq!(claim(other).await, ExchangeClaim::Held { until });
    assert!(!bed.store.release_exchange(id, other).await.unwrap(), "only its owner releases a claim");
    assert!(bed.store.release_exchange(id, mine).await.unwrap());
    assert!(!bed.store.release_exchange(id, mine).await.unwrap());
    assert_eq!(claim(other).await, ExchangeClaim::Claimed);
    bed.advance(59);
    assert_eq!(claim(mine).await, ExchangeClaim::Held { until });
    bed.advance(1);
    assert_eq!(claim(mine).await, ExchangeClaim::Abandoned);
    assert_eq!(
        claim(mine).await,
        ExchangeClaim::Abandoned,
        "the code may be consumed, so no caller gets the claim again"
    );
    assert!(bed.store.end_session(id, SessionEnding::Rejected, bed.now()).await.unwrap());
    assert_eq!(claim(mine).await, ExchangeClaim::NotPending);
}

/// Only the latest bound code can be claimed, also when the claim is held or abandoned. A claim without a code is not
/// compared with the bound code.
pub async fn claim_exchange_superseded_code_refused(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    let until = bed.now() + Duration::from_secs(60);
    let claim = async |code: Option<[u8; 32]>| {
        bed.second.claim_exchange(id, code.as_ref(), bed.uuid(), bed.now(), until).await.unwrap()
    };
    let (first, second) = (Some([1; 32]), Some([2; 32]));
    assert_eq!(claim(first).await, ExchangeClaim::Superseded, "never bound");
    for code in [&[1; 32], &[2; 32]] {
        assert_eq!(bed.store.bind_code(id, code).await.unwrap(), CodeBinding::Bound);
    }
    assert_eq!(claim(first).await, ExchangeClaim::Superseded);
    assert_eq!(claim(second).await, ExchangeClaim::Claimed);
    assert_eq!(claim(None).await, ExchangeClaim::Held { until });
    assert_eq!(claim(first).await, ExchangeClaim::Superseded, "held for another code");
    bed.advance(60);
    assert_eq!(claim(first).await, ExchangeClaim::Superseded, "abandoned with another code");
    assert_eq!(claim(second).await, ExchangeClaim::Abandoned);

    let id = bed.pending("ou_1").await;
    assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::Bound);
    bed.claim(id).await;
}

/// Of twenty concurrent callers one gets the claim.
pub async fn claim_exchange_concurrent_callers_one_claims(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    let (now, until) = (bed.now(), bed.now() + Duration::from_secs(60));
    let mut outcomes = bed
        .race(20, |_, store| {
            let claim = bed.uuid();
            async move { store.claim_exchange(id, None, claim, now, until).await }
        })
        .await;
    outcomes.retain(|outcome| *outcome != ExchangeClaim::Held { until });
    assert_eq!(outcomes, [ExchangeClaim::Claimed]);
}

/// Every value of a completion can be read back.
pub async fn complete_session_claimed_stores_token_profile_and_session(bed: &Bed) {
    let (id, claim) = bed.claimed("ou_1").await;
    let completion = bed.completion(id, claim, "ou_1", "u-1");
    assert!(bed.store.complete_session(&completion).await.unwrap());
    assert!(!bed.store.complete_session(&completion).await.unwrap(), "once");

    let session = bed.get(id).await;
    assert_eq!((session.state, session.completed_at), (SessionState::Completed, Some(completion.now)));
    assert_eq!(session.union_id, completion.profile.union_id);
    assert_eq!(session.user_name, completion.profile.name);
    assert_eq!(session.person.user_id, completion.profile.user_id);
    assert_eq!(session.email.unwrap().expose_secret(), "ming@example.com");
    assert_eq!(session.mobile.unwrap().expose_secret(), "+8613800138000");
    assert!(session.consent.is_none());

    let token = token(bed, "ou_1").await.unwrap();
    assert_eq!((&token.app_id, token.open_id.as_str(), token.kind), (&bed.app, "ou_1", TokenKind::User));
    assert_eq!((token.status, token.generation), (TokenStatus::Active, 1));
    assert_eq!((token.issued_at, token.granted_at), (completion.now, completion.now));
    let (stored, given) = (token.pair, completion.pair);
    assert_eq!(stored.access_token.expose_secret(), "u-1");
    assert_eq!(stored.refresh_token.unwrap().expose_secret(), "refresh-u-1");
    assert_eq!(stored.access_expires_at, given.access_expires_at);
    assert_eq!((stored.refresh_expires_at, stored.scopes), (given.refresh_expires_at, given.scopes));

    let (stored, given) =
        (bed.second.profile(&bed.app, &ou("ou_1")).await.unwrap().unwrap(), completion.profile);
    assert_eq!((stored.open_id, stored.union_id), (given.open_id, given.union_id));
    assert_eq!((stored.user_id, stored.name, stored.en_name), (given.user_id, given.name, given.en_name));
    assert_eq!((stored.avatar_url, stored.tenant_key), (given.avatar_url, given.tenant_key));
    assert_eq!(stored.email.unwrap().expose_secret(), "ming@example.com");
    assert_eq!(stored.mobile.unwrap().expose_secret(), "+8613800138000");
}

/// Nothing is stored without a claim, with the claim of another caller, or with a released claim.
pub async fn complete_session_without_claim_stores_nothing(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    assert!(!bed.store.complete_session(&bed.completion(id, bed.uuid(), "ou_1", "t")).await.unwrap());
    let claim = bed.claim(id).await;
    assert!(!bed.store.complete_session(&bed.completion(id, bed.uuid(), "ou_1", "t")).await.unwrap());
    assert!(bed.store.release_exchange(id, claim).await.unwrap());
    assert!(!bed.store.complete_session(&bed.completion(id, claim, "ou_1", "t")).await.unwrap());
    assert!(token(bed, "ou_1").await.is_none());
    assert!(bed.store.profile(&bed.app, &ou("ou_1")).await.unwrap().is_none());
    assert_eq!(bed.get(id).await.state, SessionState::Pending);
}

/// The consent of another person is stored neither for that person nor for the invited one.
pub async fn complete_session_other_person_refused(bed: &Bed) {
    let (id, claim) = bed.claimed("ou_1").await;
    let error = bed.store.complete_session(&bed.completion(id, claim, "ou_2", "t")).await.unwrap_err();
    assert!(matches!(error, StorageError::Refused { .. }), "{error}");
    assert!(token(bed, "ou_1").await.is_none() && token(bed, "ou_2").await.is_none());
    assert_eq!(bed.get(id).await.state, SessionState::Pending);
}

/// The session of a person invited by user id gets the open id from the consent.
pub async fn complete_session_unknown_open_id_filled_in(bed: &Bed) {
    let invited = Person { open_id: None, user_id: Some(UserId::new("u1").unwrap()) };
    let id = bed.create(&bed.new_session(&bed.app, invited.clone())).await;
    let claim = bed.claim(id).await;
    assert!(bed.store.complete_session(&bed.completion(id, claim, "ou_1", "t")).await.unwrap());
    let session = bed.get(id).await;
    assert_eq!((session.person.open_id, session.person.user_id), (Some(ou("ou_1")), invited.user_id));
    assert!(token(bed, "ou_1").await.is_some());
}

/// A second consent replaces the token and raises its generation.
pub async fn complete_session_second_consent_replaces_token(bed: &Bed) {
    for (generation, text) in [(1, "u-1"), (2, "u-2"), (3, "u-3")] {
        bed.completed(&bed.app, "ou_1", text).await;
        let token = token(bed, "ou_1").await.unwrap();
        assert_eq!((token.pair.access_token.expose_secret(), token.generation), (text, generation));
        assert_eq!((token.issued_at, token.granted_at), (bed.now(), bed.now()));
        bed.advance(5);
    }
    let mut sessions = Vec::new();
    for _ in 0..10 {
        let (id, claim) = bed.claimed("ou_1").await;
        sessions.push(bed.completion(id, claim, "ou_1", "u-race"));
    }
    let won = bed
        .race(10, |number, store| {
            let completion = sessions[number].clone();
            async move { store.complete_session(&completion).await }
        })
        .await;
    assert!(won.iter().all(|won| *won));
    assert_eq!(token(bed, "ou_1").await.unwrap().generation, 13);
}

/// Tokens of 8 KB are stored unchanged; a pair without a refresh token is stored too.
pub async fn token_large_value_returned_unchanged(bed: &Bed) {
    let large = |seed| {
        let text: String = (0..8 * 1024u32)
            .map(|i| char::from(b'!' + u8::try_from((i * i + seed * i) % 94).unwrap()))
            .collect();
        text
    };
    let (access, refresh) = (large(3), large(5));
    let (id, claim) = bed.claimed("ou_1").await;
    let mut completion = bed.completion(id, claim, "ou_1", "");
    completion.pair.access_token = secret(&access);
    completion.pair.refresh_token = Some(secret(&refresh));
    assert!(bed.store.complete_session(&completion).await.unwrap());
    let pair = token(bed, "ou_1").await.unwrap().pair;
    assert_eq!(pair.access_token.expose_secret(), access);
    assert_eq!(pair.refresh_token.unwrap().expose_secret(), refresh);

    let (id, claim) = bed.claimed("ou_1").await;
    let mut completion = bed.completion(id, claim, "ou_1", "u-2");
    (completion.pair.refresh_token, completion.pair.refresh_expires_at) = (None, None);
    assert!(bed.store.complete_session(&completion).await.unwrap());
    let pair = token(bed, "ou_1").await.unwrap().pair;
    assert!(pair.refresh_token.is_none() && pair.refresh_expires_at.is_none());
}

/// The same person in two applications, and two people in one application, have separate tokens.
pub async fn token_other_application_or_person_kept_apart(bed: &Bed) {
    let people = [(&bed.app, "ou_1"), (&bed.app, "ou_2"), (&bed.other_app, "ou_1")];
    for (app, open_id) in people {
        bed.completed(app, open_id, &format!("{app}-{open_id}")).await;
    }
    for (app, open_id) in people {
        let token = bed.store.token(app, &ou(open_id), TokenKind::User).await.unwrap().unwrap();
        assert_eq!(token.pair.access_token.expose_secret(), format!("{app}-{open_id}"));
        assert!(bed.store.token(app, &ou(open_id), TokenKind::Tenant).await.unwrap().is_none());
    }
    assert!(bed.store.token(&bed.other_app, &ou("ou_2"), TokenKind::User).await.unwrap().is_none());
    assert!(bed.store.revoke_token(&bed.app, &ou("ou_1"), TokenKind::User, bed.now()).await.unwrap());
    assert!(bed.store.token(&bed.other_app, &ou("ou_1"), TokenKind::User).await.unwrap().is_some());
}

/// A profile may lack every field except the open id, depending on the application's permissions. The latest profile
/// replaces the one before.
pub async fn profile_with_open_id_only_stored(bed: &Bed) {
    bed.completed(&bed.app, "ou_1", "t").await;
    let (id, claim) = bed.claimed("ou_1").await;
    let bare = UserProfile {
        open_id: OpenId::new("ou_1").unwrap(),
        union_id: None,
        user_id: None,
        name: None,
        en_name: None,
        avatar_url: None,
        email: None,
        mobile: None,
        tenant_key: None,
    };
    let completion = Completion { profile: bare, ..bed.completion(id, claim, "ou_1", "t") };
    assert!(bed.store.complete_session(&completion).await.unwrap());
    let profile = bed.store.profile(&bed.app, &ou("ou_1")).await.unwrap().unwrap();
    assert!(profile.union_id.is_none() && profile.user_id.is_none() && profile.name.is_none());
    assert!(profile.en_name.is_none() && profile.avatar_url.is_none() && profile.tenant_key.is_none());
    assert!(profile.email.is_none() && profile.mobile.is_none());
    let session = bed.get(id).await;
    assert!(session.email.is_none() && session.mobile.is_none() && session.user_name.is_none());
    assert_eq!(session.person, person("ou_1"));
    assert!(bed.store.profile(&bed.other_app, &ou("ou_1")).await.unwrap().is_none());
}

/// A token is revoked once. The token of a new consent has a higher generation than the revoked one.
pub async fn revoke_token_until_next_consent_not_found(bed: &Bed) {
    let revoke =
        async || bed.store.revoke_token(&bed.app, &ou("ou_1"), TokenKind::User, bed.now()).await.unwrap();
    assert!(!revoke().await);
    bed.completed(&bed.app, "ou_1", "u-1").await;
    let before = token(bed, "ou_1").await.unwrap().generation;
    assert!(revoke().await);
    assert!(!revoke().await);
    assert!(token(bed, "ou_1").await.is_none());
    bed.completed(&bed.app, "ou_1", "u-2").await;
    let after = token(bed, "ou_1").await.unwrap();
    assert_eq!((after.status, after.pair.access_token.expose_secret()), (TokenStatus::Active, "u-2"));
    assert!(after.generation > before + 1, "a refresh that started before has an old generation");
}
