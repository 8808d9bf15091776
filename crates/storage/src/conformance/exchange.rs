//! Exchange of a code for a token.

use std::time::Duration;

use larkauth_models::{
    ExposeSecret, FailureReason, OpenId, Person, SessionId, SessionState, StoredToken, TokenKind,
    TokenStatus, UserId, UserProfile,
};

use super::fixtures::{Bed, ou, person, secret};
use crate::{
    CodeBinding, Completion, ExchangeClaim, Sealed, SessionEnding, StorageError, seal_escrow,
    testing::test_cipher,
};

const MINUTE: Duration = Duration::from_secs(60);

fn is_held(outcome: ExchangeClaim) -> bool {
    matches!(outcome, ExchangeClaim::Held { left } if left <= MINUTE)
}

/// Returns the pair of a completion, sealed for the session's row.
fn sealed(bed: &Bed, id: SessionId, token: &str) -> Sealed {
    let completion = bed.completion(id, bed.uuid(), "ou_1", token);
    seal_escrow(&test_cipher(), id, &completion.pair).unwrap()
}

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
    bed.claim(id).await;
    assert_eq!(bed.store.bind_code(id, &[2; 32]).await.unwrap(), CodeBinding::SameCode);
    assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::OtherCode);
    for ending in [SessionEnding::Rejected, SessionEnding::Expired] {
        assert!(!bed.store.end_session(id, ending, &bed.act()).await.unwrap(), "the code is being exchanged");
    }
    let failed = SessionEnding::Failed(FailureReason::CodeInvalid);
    assert!(bed.store.end_session(id, failed, &bed.act()).await.unwrap());
    assert_eq!(bed.store.bind_code(id, &[2; 32]).await.unwrap(), CodeBinding::NotPending);

    let id = bed.pending("ou_1").await;
    let mut outcomes = bed.race(20, |_, store| async move { store.bind_code(id, &[3; 32]).await }).await;
    outcomes.retain(|outcome| *outcome != CodeBinding::SameCode);
    assert_eq!(outcomes, [CodeBinding::Bound]);
}

/// A claim is held until it is released. The same claim again renews it.
pub async fn claim_exchange_claimed_session_held_until_released(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    let (mine, other) = (bed.uuid(), bed.uuid());
    let claim = async |who| bed.second.claim_exchange(id, None, who, MINUTE).await.unwrap();

    assert_eq!(claim(mine).await, ExchangeClaim::Claimed);
    assert_eq!(claim(mine).await, ExchangeClaim::Claimed, "its answer was lost");
    assert!(is_held(claim(other).await));
    assert!(!bed.store.release_exchange(id, other).await.unwrap(), "only its owner releases a claim");
    assert!(bed.store.release_exchange(id, mine).await.unwrap());
    assert!(!bed.store.release_exchange(id, mine).await.unwrap());
    assert_eq!(claim(other).await, ExchangeClaim::Claimed);
    bed.advance(100_000);
    assert!(is_held(claim(mine).await), "the clock of the database counts");
    let failed = SessionEnding::Failed(FailureReason::CodeInvalid);
    assert!(bed.store.end_session(id, failed, &bed.act()).await.unwrap());
    assert_eq!(claim(other).await, ExchangeClaim::NotPending);
}

/// A claim that expired before the code was sent is taken over, also for a later code. Its former owner cannot send.
pub async fn claim_exchange_expired_before_sent_taken_over(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::Bound);
    let first = bed.claim_for(id, Duration::ZERO).await;
    assert_eq!(bed.store.bind_code(id, &[2; 32]).await.unwrap(), CodeBinding::Bound);
    let second = bed.claim(id).await;
    assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::OtherCode);
    assert!(!bed.store.mark_exchange_sent(id, first).await.unwrap());
    assert!(bed.store.mark_exchange_sent(id, second).await.unwrap());
    assert!(bed.store.mark_exchange_sent(id, second).await.unwrap(), "its answer was lost");
    assert!(bed.store.release_exchange(id, second).await.unwrap(), "Lark refused the code");
    let third = bed.claim_for(id, Duration::ZERO).await;
    bed.claim(id).await;
    assert!(!bed.store.release_exchange(id, third).await.unwrap());
}

/// A claim that expired after the code was sent waits once for the escrow, and is abandoned without one.
pub async fn claim_exchange_expired_after_sent_waits_then_abandoned(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    let claim = async |who, life| bed.second.claim_exchange(id, None, who, life).await.unwrap();
    let sent = bed.sent_for(id, Duration::ZERO).await;
    assert_eq!(bed.store.unfinished_exchanges(10).await.unwrap(), [id]);
    assert!(is_held(claim(bed.uuid(), Duration::ZERO).await), "a pair may be on its way");
    for who in [bed.uuid(), sent] {
        assert_eq!(claim(who, MINUTE).await, ExchangeClaim::Abandoned, "no caller sends the code again");
    }
    assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::OtherCode);
    assert_eq!(bed.store.escrowed_pair(id, sent).await.unwrap().map(|_| ()), None);

    // The pair arrives late.
    assert!(bed.store.escrow_exchange(id, sent, &sealed(bed, id, "u-1")).await.unwrap());
    assert_eq!(claim(bed.uuid(), MINUTE).await, ExchangeClaim::Escrowed);
    assert_eq!(bed.store.unfinished_exchanges(10).await.unwrap(), []);
}

/// A refreshed pair takes the place of the one in escrow, whose message may arrive late.
pub async fn replace_escrow_earlier_pair_does_not_come_back(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    let [first, second] = ["u-1", "u-2"].map(|token| sealed(bed, id, token));
    let claim = bed.claim_for(id, MINUTE).await;
    assert!(!bed.store.replace_escrow(id, claim, &second).await.unwrap(), "the code was not sent");
    assert!(bed.store.mark_exchange_sent(id, claim).await.unwrap());
    assert!(bed.store.escrow_exchange(id, claim, &first).await.unwrap());
    assert!(!bed.store.replace_escrow(id, bed.uuid(), &second).await.unwrap(), "the claim of another caller");
    assert!(bed.store.replace_escrow(id, claim, &second).await.unwrap());
    assert!(bed.second.escrow_exchange(id, claim, &first).await.unwrap(), "kept before");
    let kept = bed.store.escrowed_pair(id, claim).await.unwrap().unwrap();
    assert_eq!(kept.access_token.expose_secret(), "u-2");
}

/// A pair in escrow is kept for the next owner of the claim, who completes the session with it.
pub async fn escrow_exchange_abandoned_claim_resumed_with_pair(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    let pair = sealed(bed, id, "u-1");
    let first = bed.claim_for(id, Duration::ZERO).await;
    assert!(!bed.store.escrow_exchange(id, first, &pair).await.unwrap(), "the code was not sent");
    assert!(bed.store.mark_exchange_sent(id, first).await.unwrap());
    assert!(!bed.store.escrow_exchange(id, bed.uuid(), &pair).await.unwrap(), "the claim of another caller");
    assert!(bed.store.escrow_exchange(id, first, &pair).await.unwrap());
    assert!(bed.second.escrow_exchange(id, first, &sealed(bed, id, "u-2")).await.unwrap(), "kept before");
    assert!(!bed.store.release_exchange(id, first).await.unwrap(), "the pair stays");

    let second = bed.uuid();
    let claim = async |who| bed.second.claim_exchange(id, None, who, MINUTE).await.unwrap();
    assert_eq!(claim(second).await, ExchangeClaim::Escrowed);
    assert_eq!(claim(second).await, ExchangeClaim::Escrowed, "its answer was lost");
    assert!(is_held(claim(first).await));
    assert!(bed.store.escrowed_pair(id, first).await.unwrap().is_none());
    let kept = bed.store.escrowed_pair(id, second).await.unwrap().unwrap();
    let given = bed.completion(id, second, "ou_1", "u-1").pair;
    assert_eq!(kept.access_token.expose_secret(), "u-1");
    assert_eq!(kept.refresh_token.as_ref().unwrap().expose_secret(), "refresh-u-1");
    assert_eq!(
        (kept.access_expires_at, kept.refresh_expires_at, &kept.scopes),
        (given.access_expires_at, given.refresh_expires_at, &given.scopes)
    );

    let stale = bed.completion(id, first, "ou_1", "u-0");
    assert!(!bed.store.complete_session(&stale).await.unwrap());
    let completion = Completion { pair: kept, ..bed.completion(id, second, "ou_1", "") };
    assert!(bed.store.complete_session(&completion).await.unwrap());
    assert_eq!(
        token(bed, "ou_1").await.unwrap().pair.access_token.readable().unwrap().expose_secret(),
        "u-1"
    );
    assert!(!bed.store.escrow_exchange(id, second, &pair).await.unwrap(), "the session has ended");
    assert!(bed.store.escrowed_pair(id, second).await.unwrap().is_none(), "wiped");
    assert_eq!(claim(first).await, ExchangeClaim::NotPending);
}

/// The session of a sent code is neither declined nor expired, also after its claim has expired. A failure wipes the pair.
pub async fn end_session_after_sent_only_fails(bed: &Bed) {
    let (empty, kept) = (bed.pending("ou_1").await, bed.pending("ou_2").await);
    bed.sent_for(empty, Duration::ZERO).await;
    let claim = bed.sent_for(kept, Duration::ZERO).await;
    assert!(bed.store.escrow_exchange(kept, claim, &sealed(bed, kept, "u-1")).await.unwrap());
    bed.advance(100_000);
    assert_eq!(bed.store.expire_due_sessions(bed.now(), 10).await.unwrap(), []);
    for id in [empty, kept] {
        for ending in [SessionEnding::Rejected, SessionEnding::Expired] {
            assert!(!bed.store.end_session(id, ending, &bed.act()).await.unwrap());
        }
    }
    assert_eq!(bed.store.unfinished_exchanges(1).await.unwrap(), [empty], "the longest expired first");
    assert_eq!(bed.store.unfinished_exchanges(10).await.unwrap(), [empty, kept]);
    let failed = SessionEnding::Failed(FailureReason::IdentityMismatch);
    for id in [empty, kept] {
        assert!(bed.store.end_session(id, failed, &bed.act()).await.unwrap());
    }
    assert!(bed.store.escrowed_pair(kept, claim).await.unwrap().is_none());
    assert_eq!(bed.store.unfinished_exchanges(10).await.unwrap(), []);
}

/// The code of a disabled application is never marked as sent, also when a cache still holds it as enabled.
pub async fn mark_exchange_sent_disabled_application_refused(bed: &Bed) {
    let (id, claim) = (bed.pending("ou_1").await, bed.uuid());
    assert_eq!(bed.store.claim_exchange(id, None, claim, MINUTE).await.unwrap(), ExchangeClaim::Claimed);
    assert!(bed.second.set_application_enabled(&bed.app, false, &bed.act()).await.unwrap());
    assert!(!bed.store.mark_exchange_sent(id, claim).await.unwrap());
    assert!(bed.second.set_application_enabled(&bed.app, true, &bed.act()).await.unwrap());
    assert!(bed.second.set_application_enabled(&bed.other_app, false, &bed.act()).await.unwrap());
    assert!(bed.store.mark_exchange_sent(id, claim).await.unwrap());
}

/// Only the latest bound code can be claimed, also when the claim is held or abandoned. A claim without a code is not
/// compared with the bound code.
pub async fn claim_exchange_superseded_code_refused(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    let claim = async |code: Option<[u8; 32]>, life| {
        bed.second.claim_exchange(id, code.as_ref(), bed.uuid(), life).await.unwrap()
    };
    let (first, second) = (Some([1; 32]), Some([2; 32]));
    assert_eq!(claim(first, MINUTE).await, ExchangeClaim::Superseded, "never bound");
    for code in [&[1; 32], &[2; 32]] {
        assert_eq!(bed.store.bind_code(id, code).await.unwrap(), CodeBinding::Bound);
    }
    assert_eq!(claim(first, MINUTE).await, ExchangeClaim::Superseded);
    assert_eq!(claim(second, Duration::ZERO).await, ExchangeClaim::Claimed);
    assert_eq!(claim(first, MINUTE).await, ExchangeClaim::Superseded, "expired with another code");
    assert_eq!(claim(second, MINUTE).await, ExchangeClaim::Claimed);
    assert!(is_held(claim(None, MINUTE).await));
    assert_eq!(claim(first, MINUTE).await, ExchangeClaim::Superseded, "held for another code");

    let id = bed.pending("ou_1").await;
    assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::Bound);
    bed.claim(id).await;
}

/// Of twenty concurrent callers one gets the claim, whether it is free or has a pair in escrow.
pub async fn claim_exchange_concurrent_callers_one_claims(bed: &Bed) {
    let free = bed.pending("ou_1").await;
    let kept = bed.pending("ou_2").await;
    let claim = bed.sent_for(kept, Duration::ZERO).await;
    assert!(bed.store.escrow_exchange(kept, claim, &sealed(bed, kept, "u-1")).await.unwrap());
    for (id, won) in [(free, ExchangeClaim::Claimed), (kept, ExchangeClaim::Escrowed)] {
        let mut outcomes = bed
            .race(20, |_, store| {
                let claim = bed.uuid();
                async move { store.claim_exchange(id, None, claim, MINUTE).await }
            })
            .await;
        outcomes.retain(|outcome| !is_held(*outcome));
        assert_eq!(outcomes, [won]);
    }
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
    assert_eq!(stored.access_token.readable().unwrap().expose_secret(), "u-1");
    assert_eq!(stored.refresh_token.unwrap().readable().unwrap().expose_secret(), "refresh-u-1");
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
    let mut completion = bed.completion(id, claim, "ou_1", "t");
    completion.profile.user_id = invited.user_id.clone();
    assert!(bed.store.complete_session(&completion).await.unwrap());
    let session = bed.get(id).await;
    assert_eq!((session.person.open_id, session.person.user_id), (Some(ou("ou_1")), invited.user_id));
    assert!(token(bed, "ou_1").await.is_some());
}

/// Every id that the caller asked by and the profile holds has to agree; one of them is enough.
pub async fn complete_session_checks_every_asked_id(bed: &Bed) {
    let user = |id: &str| Some(UserId::new(id).unwrap());
    for (open_id, user_id, returned, is_stored) in [
        (Some("ou_1"), user("u1"), user("u1"), true),
        (Some("ou_1"), user("u1"), None, true),
        (Some("ou_1"), user("u1"), user("u2"), false),
        (Some("ou_2"), user("u1"), user("u1"), false),
        (Some("ou_2"), None, user("u1"), false),
        (None, user("u1"), user("u2"), false),
        (None, user("u1"), None, false),
    ] {
        let asked = Person { open_id: open_id.map(ou), user_id };
        let id = bed.create(&bed.new_session(&bed.app, asked.clone())).await;
        let claim = bed.claim(id).await;
        let mut completion = bed.completion(id, claim, "ou_1", "t");
        completion.profile.user_id = returned.clone();
        let stored = bed.store.complete_session(&completion).await;
        assert_eq!(stored.is_ok_and(|stored| stored), is_stored, "{asked:?} {returned:?}");
        assert_eq!(bed.get(id).await.asked, asked);
        bed.advance(60);
    }
}

/// An open id that was learned on the way is no more than a guess: the consent decides.
pub async fn complete_session_learned_open_id_replaced(bed: &Bed) {
    let asked = Person { open_id: None, user_id: Some(UserId::new("u1").unwrap()) };
    let id = bed.create(&bed.new_session(&bed.app, asked.clone())).await;
    assert!(bed.store.record_open_id(id, &ou("ou_2")).await.unwrap());
    let claim = bed.claim(id).await;
    let mut completion = bed.completion(id, claim, "ou_1", "t");
    completion.profile.user_id = asked.user_id.clone();
    assert!(bed.store.complete_session(&completion).await.unwrap());
    let session = bed.get(id).await;
    assert_eq!((session.asked, session.person.open_id), (asked, Some(ou("ou_1"))));
}

/// A second consent replaces the token and raises its generation.
pub async fn complete_session_second_consent_replaces_token(bed: &Bed) {
    for (generation, text) in [(1, "u-1"), (2, "u-2"), (3, "u-3")] {
        bed.completed(&bed.app, "ou_1", text).await;
        let token = token(bed, "ou_1").await.unwrap();
        assert_eq!(
            (token.pair.access_token.readable().unwrap().expose_secret(), token.generation),
            (text, generation)
        );
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
    assert_eq!(pair.access_token.readable().unwrap().expose_secret(), access);
    assert_eq!(pair.refresh_token.unwrap().readable().unwrap().expose_secret(), refresh);

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
        assert_eq!(token.pair.access_token.readable().unwrap().expose_secret(), format!("{app}-{open_id}"));
        assert!(bed.store.token(app, &ou(open_id), TokenKind::Tenant).await.unwrap().is_none());
    }
    assert!(bed.store.token(&bed.other_app, &ou("ou_2"), TokenKind::User).await.unwrap().is_none());
    assert!(bed.store.revoke_token(&bed.app, &ou("ou_1"), TokenKind::User, &bed.act()).await.unwrap());
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
        async || bed.store.revoke_token(&bed.app, &ou("ou_1"), TokenKind::User, &bed.act()).await.unwrap();
    assert!(!revoke().await);
    bed.completed(&bed.app, "ou_1", "u-1").await;
    let before = token(bed, "ou_1").await.unwrap().generation;
    assert!(revoke().await);
    assert!(!revoke().await);
    assert!(token(bed, "ou_1").await.is_none());
    bed.completed(&bed.app, "ou_1", "u-2").await;
    let after = token(bed, "ou_1").await.unwrap();
    assert_eq!(
        (after.status, after.pair.access_token.readable().unwrap().expose_secret()),
        (TokenStatus::Active, "u-2")
    );
    assert!(after.generation > before + 1, "a refresh that started before has an old generation");
}
