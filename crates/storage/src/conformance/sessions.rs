//! Sessions: creation, endings, lists, cards.

use std::time::Duration;

use larkauth_models::{
    AppId, AuthMethod, CardFace, CardOptions, ExposeSecret, FailureReason, MessageId, Person, SessionId,
    SessionState, UserId,
};
use sha2::{Digest, Sha256};

use super::fixtures::{Bed, ou, person, wins};
use crate::{
    CodeBinding, ExchangeClaim, NewSession, Sealed, SessionCursor, SessionEnding, SessionFilter, testing::act,
};

const ENDINGS: [SessionEnding; 3] =
    [SessionEnding::Rejected, SessionEnding::Expired, SessionEnding::Failed(FailureReason::CodeInvalid)];

fn state_hash(new: &NewSession) -> [u8; 32] {
    Sha256::digest(new.consent.state.expose_secret()).into()
}

fn message(id: &str) -> MessageId {
    MessageId::new(id).unwrap()
}

/// Every field of a new session can be read back.
pub async fn create_session_every_field_returned_unchanged(bed: &Bed) {
    let new = NewSession {
        person: Person { open_id: Some(ou("ou_1")), user_id: Some(UserId::new("u1").unwrap()) },
        auth_method: AuthMethod::HttpCallback,
        scopes: vec!["a".to_owned(), "b:c".to_owned()],
        card: CardOptions {
            reauthorize: Some(larkauth_models::ReauthorizationReason::Ended),
            include_description: false,
            template_id: Some("AAq1".to_owned()),
            custom_message: Some("\"quoted\" and 中文".to_owned()),
            privacy_policy_url: Some("https://example.com/privacy".parse().unwrap()),
            app_name: Some("审批助手".to_owned()),
            requested_by: Some("crm".to_owned()),
        },
        ..bed.new_session(&bed.app, person("ou_1"))
    };
    bed.create(&new).await;
    let session = bed.get(new.id).await;
    assert_eq!((session.id, &session.app_id, &session.person), (new.id, &new.app_id, &new.person));
    assert_eq!((session.auth_method, session.state), (new.auth_method, SessionState::Pending));
    assert_eq!((session.scopes, session.card), (new.scopes, new.card));
    assert_eq!((session.created_at, session.expires_at), (new.created_at, new.expires_at));
    assert_eq!((session.completed_at, session.failure_reason), (None, None));
    assert_eq!((session.message_id, session.card_face), (None, None));
    assert!(session.union_id.is_none() && session.user_name.is_none());
    assert!(session.email.is_none() && session.mobile.is_none());
    let consent = session.consent.unwrap();
    assert_eq!(consent.state.expose_secret(), new.consent.state.expose_secret());
    assert_eq!(consent.pkce_verifier.expose_secret(), new.consent.pkce_verifier.expose_secret());
}

/// Every call for an unknown session changes nothing and reports that.
pub async fn unknown_session_every_call_changes_nothing(bed: &Bed) {
    let (store, id, claim) = (&bed.store, SessionId(bed.uuid()), bed.uuid());
    assert!(store.session(id).await.unwrap().is_none());
    assert!(store.session_by_state(&[1; 32]).await.unwrap().is_none());
    assert!(!store.record_card(id, &message("om_1"), CardFace::Invitation).await.unwrap());
    assert!(!store.record_face(id, CardFace::Done).await.unwrap());
    assert!(!store.record_open_id(id, &ou("ou_1")).await.unwrap());
    assert_eq!(store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::NotPending);
    let outcome = store.claim_exchange(id, None, claim, Duration::ZERO).await.unwrap();
    assert_eq!(outcome, ExchangeClaim::NotPending);
    assert!(!store.mark_exchange_sent(id, claim).await.unwrap());
    assert!(!store.escrow_exchange(id, claim, &Sealed(vec![1])).await.unwrap());
    assert!(store.escrowed_pair(id, claim).await.unwrap().is_none());
    assert!(!store.release_exchange(id, claim).await.unwrap());
    assert!(!store.complete_session(&bed.completion(id, claim, "ou_1", "t")).await.unwrap());
    assert!(!store.end_session(id, SessionEnding::Rejected, &bed.act()).await.unwrap());
}

/// A session is found by the hash of its OAuth state, pending or ended.
pub async fn session_by_state_pending_or_ended_found(bed: &Bed) {
    let new = bed.new_session(&bed.app, person("ou_1"));
    bed.create(&new).await;
    bed.pending("ou_2").await;
    let found = bed.store.session_by_state(&state_hash(&new)).await.unwrap().unwrap();
    assert_eq!((found.id, found.consent.is_some()), (new.id, true));
    assert!(bed.store.end_session(new.id, SessionEnding::Rejected, &bed.act()).await.unwrap());
    let found = bed.store.session_by_state(&state_hash(&new)).await.unwrap().unwrap();
    assert_eq!((found.id, found.consent.is_some()), (new.id, false));
}

/// An ended session refuses every further transition and has no consent secrets.
pub async fn end_session_ended_session_refused(bed: &Bed) {
    for first in ENDINGS {
        let (id, claim) = bed.claimed("ou_1").await;
        assert!(bed.store.release_exchange(id, claim).await.unwrap());
        assert!(bed.store.end_session(id, first, &bed.act()).await.unwrap());
        for second in ENDINGS {
            assert!(!bed.store.end_session(id, second, &bed.act()).await.unwrap());
        }
        assert!(!bed.store.complete_session(&bed.completion(id, claim, "ou_1", "t")).await.unwrap());
        assert_eq!(bed.store.bind_code(id, &[1; 32]).await.unwrap(), CodeBinding::NotPending);
        let outcome = bed.store.claim_exchange(id, None, bed.uuid(), Duration::ZERO).await.unwrap();
        assert_eq!(outcome, ExchangeClaim::NotPending);
        assert!(!bed.store.release_exchange(id, claim).await.unwrap());
        let session = bed.get(id).await;
        assert_eq!((session.state, session.failure_reason), (first.state(), first.reason()));
        assert!(session.consent.is_none() && session.completed_at.is_none());
    }
    let id = bed.completed(&bed.app, "ou_1", "t").await;
    for second in ENDINGS {
        assert!(!bed.store.end_session(id, second, &bed.act()).await.unwrap());
    }
    assert_eq!(bed.get(id).await.state, SessionState::Completed);
}

/// Of twenty concurrent endings exactly one succeeds, and the others write nothing.
pub async fn end_session_concurrent_endings_one_wins(bed: &Bed) {
    for round in 0..5 {
        let open_id = format!("ou_{round}");
        let (id, claim) = bed.claimed(&open_id).await;
        let (now, completion) = (bed.now(), bed.completion(id, claim, &open_id, "t"));
        let outcomes = bed
            .race(20, |number, store| {
                let completion = completion.clone();
                async move {
                    match number % 4 {
                        3 => store.complete_session(&completion).await,
                        ending => store.end_session(id, ENDINGS[ending], &act(now)).await,
                    }
                }
            })
            .await;
        assert_eq!(wins(&outcomes), 1);
        let completed = bed.get(id).await.state == SessionState::Completed;
        let token = bed.store.token(&bed.app, &ou(&open_id), larkauth_models::TokenKind::User).await.unwrap();
        assert_eq!(token.is_some(), completed);
        assert_eq!(bed.store.profile(&bed.app, &ou(&open_id)).await.unwrap().is_some(), completed);
    }
}

/// Lists are filtered by application, person and state, separately and combined.
pub async fn list_sessions_with_filter_returns_matches(bed: &Bed) {
    let mut ids = Vec::new();
    for (app, open_id) in [(&bed.app, "ou_1"), (&bed.app, "ou_2"), (&bed.other_app, "ou_1")] {
        ids.push(bed.create(&bed.new_session(app, person(open_id))).await);
        bed.advance(1);
    }
    assert!(bed.store.end_session(ids[1], SessionEnding::Rejected, &bed.act()).await.unwrap());
    let list = async |app: Option<_>, open_id: Option<&str>, state| {
        let filter = SessionFilter { app_id: app, app_ids: Vec::new(), open_id: open_id.map(ou), state };
        let sessions = bed.store.list_sessions(&filter, None, 100).await.unwrap();
        sessions.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, None).await, [ids[2], ids[1], ids[0]], "newest first");
    assert_eq!(list(Some(bed.app.clone()), None, None).await, [ids[1], ids[0]]);
    assert_eq!(list(Some(bed.other_app.clone()), None, None).await, [ids[2]]);
    assert_eq!(list(None, Some("ou_1"), None).await, [ids[2], ids[0]]);
    assert_eq!(list(None, None, Some(SessionState::Pending)).await, [ids[2], ids[0]]);
    assert_eq!(list(Some(bed.app.clone()), Some("ou_1"), Some(SessionState::Pending)).await, [ids[0]]);
    assert_eq!(list(Some(bed.app.clone()), Some("ou_1"), Some(SessionState::Failed)).await, []);

    // What a key may see narrows every filter.
    let seen = async |app: Option<_>, open_id: Option<&str>, app_ids: &[&AppId]| {
        let app_ids = app_ids.iter().map(|app| app.to_string()).collect();
        let filter = SessionFilter { app_id: app, app_ids, open_id: open_id.map(ou), state: None };
        let sessions = bed.store.list_sessions(&filter, None, 100).await.unwrap();
        sessions.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    assert_eq!(seen(None, None, &[&bed.app]).await, [ids[1], ids[0]]);
    assert_eq!(seen(None, None, &[&bed.app, &bed.other_app]).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(seen(None, Some("ou_1"), &[&bed.other_app]).await, [ids[2]]);
    assert_eq!(seen(Some(bed.app.clone()), None, &[&bed.other_app]).await, []);
    assert_eq!(seen(Some(bed.app.clone()), Some("ou_1"), &[&bed.other_app]).await, []);
}

/// Pages neither repeat nor omit a session, even when several sessions were created in the same microsecond.
pub async fn list_sessions_equal_times_paged_completely(bed: &Bed) {
    let mut expected = Vec::new();
    for _ in 0..3 {
        for _ in 0..7 {
            expected.push((bed.now(), bed.pending("ou_1").await));
        }
        bed.advance(1);
    }
    expected.sort_by(|a, b| b.cmp(a));
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = bed.store.list_sessions(&SessionFilter::default(), after, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        after = Some(SessionCursor { created_at: last.created_at, id: last.id });
        seen.extend(page.iter().map(|session| (session.created_at, session.id)));
        // A session created during the listing does not shift the pages.
        bed.pending("ou_2").await;
    }
    assert_eq!(seen, expected);
}

/// The first recorded message is kept. The face of the card can be changed.
pub async fn record_card_second_card_refused(bed: &Bed) {
    let id = bed.pending("ou_1").await;
    assert!(!bed.store.record_face(id, CardFace::Done).await.unwrap(), "there is no card yet");
    assert!(bed.store.record_card(id, &message("om_1"), CardFace::Invitation).await.unwrap());
    assert!(!bed.store.record_card(id, &message("om_2"), CardFace::Invitation).await.unwrap());
    assert!(bed.store.record_face(id, CardFace::Processing).await.unwrap());
    assert!(!bed.store.record_face(id, CardFace::Processing).await.unwrap(), "nothing new");
    let session = bed.get(id).await;
    assert_eq!(session.message_id.unwrap().as_str(), "om_1");
    assert_eq!(session.card_face, Some(CardFace::Processing));
}

/// A new session takes over the card of an ended session of the same application, once.
pub async fn create_session_after_ended_session_takes_card(bed: &Bed) {
    let first = bed.pending("ou_1").await;
    assert!(bed.store.record_card(first, &message("om_1"), CardFace::Invitation).await.unwrap());
    let follow = |app| NewSession { takes_card_of: Some(first), ..bed.new_session(app, person("ou_1")) };

    let too_early = bed.create(&follow(&bed.app)).await;
    assert!(bed.get(too_early).await.message_id.is_none(), "a pending session keeps its card");
    assert!(bed.store.end_session(first, SessionEnding::Expired, &bed.act()).await.unwrap());
    assert!(bed.store.record_face(first, CardFace::Expired).await.unwrap());
    let other = bed.create(&follow(&bed.other_app)).await;
    assert!(bed.get(other).await.message_id.is_none());

    let next = bed.create(&follow(&bed.app)).await;
    let session = bed.get(next).await;
    assert_eq!((session.message_id, session.card_face), (Some(message("om_1")), Some(CardFace::Expired)));
    let first = bed.get(first).await;
    assert_eq!((first.message_id, first.card_face), (None, None));
    let late = bed
        .create(&NewSession { takes_card_of: Some(first.id), ..bed.new_session(&bed.app, person("ou_1")) })
        .await;
    assert!(bed.get(late).await.message_id.is_none());
    // A worker that sent the card before the takeover records it only now.
    assert!(!bed.store.record_card(first.id, &message("om_1"), CardFace::Invitation).await.unwrap());
    assert_eq!(
        (bed.get(first.id).await.message_id, bed.get(next).await.message_id),
        (None, Some(message("om_1")))
    );
}

/// Claims ended sessions whose card does not show the final face and whose end is in the given range. A session without
/// a card is not claimed.
pub async fn claim_unreconciled_cards_ended_sessions_returned(bed: &Bed) {
    let started = bed.now();
    let final_faces = [CardFace::Declined, CardFace::Expired, CardFace::Failed, CardFace::Done];
    let mut ids = Vec::new();
    for number in 0..4 {
        let (id, claim) = bed.claimed("ou_1").await;
        let card = message(&format!("om_{number}"));
        assert!(bed.store.record_card(id, &card, CardFace::Processing).await.unwrap());
        let ended = match ENDINGS.get(number) {
            Some(ending) => {
                assert!(bed.store.release_exchange(id, claim).await.unwrap());
                bed.store.end_session(id, *ending, &bed.act()).await
            }
            None => bed.store.complete_session(&bed.completion(id, claim, "ou_1", "t")).await,
        };
        assert!(ended.unwrap());
        ids.push(id);
        bed.advance(10);
    }
    let without_card = bed.pending("ou_2").await;
    assert!(bed.store.end_session(without_card, SessionEnding::Expired, &act(started)).await.unwrap());
    let pending = bed.pending("ou_3").await;
    assert!(bed.store.record_card(pending, &message("om_p"), CardFace::Invitation).await.unwrap());

    let claim_cards = async |from: u64, to: u64, limit| {
        let at = |seconds| started + Duration::from_secs(seconds);
        bed.advance(1);
        let taken = bed.second.claim_unreconciled_cards(bed.now(), at(from), at(to), limit).await.unwrap();
        assert!(taken.iter().all(|(app, _)| *app == bed.app));
        let mut taken: Vec<_> = taken.into_iter().map(|(_, id)| id).collect();
        taken.sort();
        taken
    };
    assert_eq!(claim_cards(10, 30, 100).await, ids[1..3]);
    assert_eq!(claim_cards(0, 100, 100).await, ids);
    for (number, face) in final_faces.into_iter().enumerate() {
        assert!(bed.store.record_face(ids[number], face).await.unwrap());
        assert_eq!(claim_cards(0, 100, 100).await, ids[number + 1..]);
    }
}

/// Sessions that were never claimed come first, oldest end first, then the least recently claimed. Sessions of a
/// disabled or frozen application are not claimed.
pub async fn claim_unreconciled_cards_repeated_least_recent_first(bed: &Bed) {
    let mut ids = Vec::new();
    let started = bed.now();
    for (number, app) in
        [&bed.other_app, &bed.other_app, &bed.app, &bed.app, &bed.app].into_iter().enumerate()
    {
        let id = bed.create(&bed.new_session(app, person("ou_1"))).await;
        assert!(
            bed.store.record_card(id, &message(&format!("om_{number}")), CardFace::Invitation).await.unwrap()
        );
        assert!(bed.store.end_session(id, SessionEnding::Expired, &bed.act()).await.unwrap());
        bed.advance(1);
        ids.push(id);
    }
    let claim_cards = async |limit| {
        bed.advance(1);
        let (now, before) = (bed.now(), started + Duration::from_secs(60));
        let mut taken = bed.second.claim_unreconciled_cards(now, started, before, limit).await.unwrap();
        taken.sort_by_key(|(_, id)| *id);
        taken.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    };
    assert_eq!(claim_cards(2).await, ids[..2]);
    assert_eq!(claim_cards(2).await, ids[2..4], "the first two were claimed before");
    assert_eq!(claim_cards(2).await, [ids[0], ids[4]], "a session that was never claimed comes first");

    assert!(bed.store.set_application_frozen(&bed.other_app, Some("refused"), bed.now()).await.unwrap());
    assert_eq!(claim_cards(100).await, ids[2..]);
    assert!(bed.store.set_application_frozen(&bed.other_app, None, bed.now()).await.unwrap());
    assert!(bed.store.set_application_enabled(&bed.app, false, &bed.act()).await.unwrap());
    assert_eq!(claim_cards(100).await, ids[..2]);
    assert!(bed.store.set_application_enabled(&bed.app, true, &bed.act()).await.unwrap());

    let (now, before) = (bed.now(), started + Duration::from_secs(60));
    let taken = bed
        .race(5, |_, store| async move { store.claim_unreconciled_cards(now, started, before, 1).await })
        .await;
    assert!(taken.iter().all(|taken| taken.len() == 1), "{taken:?}");
}

/// The open id of a person invited by user id is recorded once and not changed afterwards.
pub async fn record_open_id_second_id_refused(bed: &Bed) {
    let by_user_id = Person { open_id: None, user_id: Some(UserId::new("u1").unwrap()) };
    let id = bed.create(&bed.new_session(&bed.app, by_user_id)).await;
    assert!(bed.store.record_open_id(id, &ou("ou_1")).await.unwrap());
    assert!(!bed.store.record_open_id(id, &ou("ou_2")).await.unwrap());
    let person = bed.get(id).await.person;
    assert_eq!((person.open_id, person.user_id), (Some(ou("ou_1")), Some(UserId::new("u1").unwrap())));
}
