//! The audit log.

use std::{collections::BTreeSet, time::Duration};

use larkauth_models::{Actor, AppId, AuditAction, AuditOutcome, KeyAccess, Origin, Principal, TokenKind};
use uuid::Uuid;

use super::fixtures::{Bed, UNLIMITED, application, ou, person};
use crate::{
    ApiKey, AuditCursor, AuditEntry, AuditFilter, Created, NewSession, Result, SessionEnding, StorageError,
};

/// Returns the ids of all records, newest first.
async fn records(bed: &Bed) -> Vec<Uuid> {
    let listed = bed.second.list_audit(&AuditFilter::default(), None, 1000).await.unwrap();
    listed.into_iter().map(|entry| entry.id).collect()
}

pub(super) fn key(bed: &Bed) -> ApiKey {
    ApiKey {
        id: bed.uuid(),
        name: "crm".to_owned(),
        scopes: Vec::new(),
        access: KeyAccess::default(),
        requests_per_minute: None,
        created_at: bed.now(),
        revoked_at: None,
        expires_at: None,
        last_used_at: None,
    }
}

/// Every change and its record are one transaction: a record that is refused, because its id exists, undoes the change.
pub async fn change_with_record_writes_both_or_neither(bed: &Bed) {
    let known = bed.act();
    bed.store.append_audit(std::slice::from_ref(&known)).await.unwrap();
    let (first, second, third) = (key(bed), key(bed), key(bed));
    let unknown = AppId::new("cli_00000000000000a0").unwrap();
    let (ended, claimed) = (bed.pending("ou_1").await, bed.claimed("ou_2").await);
    let other = bed.completed(&bed.app, "ou_3", "t").await;
    let until = bed.now() + Duration::from_secs(60);

    // Each act once with the record that exists already, and once with a new one.
    for audit in [known.clone(), bed.act()] {
        let is_new = audit.id != known.id;
        let expect = |changed: Result<bool>| match changed {
            Ok(changed) => assert!(changed && is_new),
            Err(error) => assert!(!is_new && matches!(error, StorageError::Refused { .. }), "{error}"),
        };
        let count = records(bed).await.len();
        let act = |number: u128| match is_new {
            true => AuditEntry { id: Uuid::from_u128(number), ..audit.clone() },
            false => audit.clone(),
        };
        expect(bed.store.put_api_key(&first, &[1; 32], &act(1)).await.map(|()| true));
        if !is_new {
            assert_eq!(bed.store.api_keys().await.unwrap(), []);
            bed.store.put_api_key(&second, &[2; 32], &bed.act()).await.unwrap();
        }
        expect(bed.store.rotate_api_key(second.id, until, &third, &[3; 32], &act(2)).await);
        expect(bed.store.revoke_api_key(second.id, &act(3)).await);
        expect(bed.store.put_application(&application(&unknown), &act(4)).await.map(|()| true));
        expect(bed.store.set_application_enabled(&bed.other_app, false, &act(5)).await);
        expect(bed.store.end_session(ended, SessionEnding::Rejected, &act(6)).await);
        let new = NewSession { audit: act(7), ..bed.new_session(&bed.app, person("ou_9")) };
        expect(bed.store.create_session(&new, UNLIMITED).await.map(|created| created == Created::Created));
        assert_eq!(bed.store.session(new.id).await.unwrap().is_some(), is_new);
        let completion = bed.completion(claimed.0, claimed.1, "ou_2", "t");
        let completion = crate::Completion { audit: act(8), ..completion };
        expect(bed.store.complete_session(&completion).await);
        expect(bed.store.revoke_token(&bed.app, &ou("ou_3"), TokenKind::User, &act(9)).await);
        expect(bed.store.erase_person(&bed.app, &ou("ou_3"), &act(10)).await.map(|_| true));
        if is_new {
            let written: BTreeSet<_> = records(bed).await.into_iter().collect();
            assert!((1..=10).all(|number| written.contains(&Uuid::from_u128(number))), "{written:?}");
            assert_eq!(written.len(), count + 10);
        } else {
            // One key was stored in between.
            assert_eq!(records(bed).await.len(), count + 1);
            assert_eq!(bed.store.api_key(&[2; 32]).await.unwrap(), Some(second.clone()));
            assert!(bed.store.application(&unknown).await.unwrap().is_none());
            assert!(bed.store.application(&bed.other_app).await.unwrap().unwrap().enabled);
            assert!(!bed.get(ended).await.state.is_final() && !bed.get(claimed.0).await.state.is_final());
            let token = bed.store.token(&bed.app, &ou("ou_3"), TokenKind::User).await.unwrap();
            assert!(token.is_some() && bed.get(other).await.state.is_final());
        }
    }
}

/// A call that changes nothing writes no record.
pub async fn change_of_nothing_writes_no_record(bed: &Bed) {
    let id = bed.completed(&bed.app, "ou_1", "t").await;
    let before = records(bed).await;
    let unknown = AppId::new("cli_00000000000000a0").unwrap();
    assert!(!bed.store.end_session(id, SessionEnding::Rejected, &bed.act()).await.unwrap());
    assert!(!bed.store.revoke_token(&bed.app, &ou("ou_2"), TokenKind::User, &bed.act()).await.unwrap());
    assert!(!bed.store.revoke_api_key(bed.uuid(), &bed.act()).await.unwrap());
    assert!(!bed.store.set_application_enabled(&unknown, true, &bed.act()).await.unwrap());
    let successor = key(bed);
    let until = bed.now();
    assert!(!bed.store.rotate_api_key(bed.uuid(), until, &successor, &[1; 32], &bed.act()).await.unwrap());
    let claim = bed.uuid();
    assert!(!bed.store.complete_session(&bed.completion(id, claim, "ou_1", "t")).await.unwrap());
    let limit = crate::InvitationLimit { max: 0, ..UNLIMITED };
    let limited = bed.store.create_session(&bed.new_session(&bed.app, person("ou_1")), limit).await.unwrap();
    assert!(matches!(limited, Created::RateLimited { .. }));
    assert_eq!(records(bed).await, before);
}

fn full(bed: &Bed) -> AuditEntry {
    let principal =
        Principal::ApiKey { id: bed.uuid(), name: "crm".to_owned(), access: KeyAccess::default() };
    let origin = Origin { address: Some("192.0.2.1".to_owned()), request_id: Some("r-1".to_owned()) };
    let actor = Actor { principal, origin };
    let entry = AuditEntry::new(bed.uuid(), &actor, bed.now(), AuditAction::TokenServe);
    let mut entry = entry.app(&bed.app).open_id(&ou("ou_1")).key(bed.uuid());
    entry.session_id = Some(bed.uuid());
    entry.trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
    entry.encryption_key("main").not_done(AuditOutcome::Refused, "forbidden")
}

/// Every field is stored, with and without its optional values.
pub async fn append_audit_every_field_returned_unchanged(bed: &Bed) {
    bed.advance(1);
    let with_all = AuditEntry { count: 3, ..full(bed) };
    bed.advance(1);
    let entries = [with_all, bed.act()];
    bed.store.append_audit(&entries).await.unwrap();
    let listed = bed.second.list_audit(&AuditFilter::default(), None, 2).await.unwrap();
    assert_eq!(listed, [entries[1].clone(), entries[0].clone()]);
}

/// A batch whose answer was lost can be written again, and a record of it that is new is added.
pub async fn append_audit_repeated_writes_once(bed: &Bed) {
    let before = records(bed).await.len();
    let entries = [bed.act(), bed.act(), bed.act()];
    for count in [2, 3, 3] {
        bed.store.append_audit(&entries[..count]).await.unwrap();
        assert_eq!(records(bed).await.len(), before + count);
    }
    bed.store.append_audit(&[]).await.unwrap();
}

/// Each filter selects its records, alone and together with others.
pub async fn list_audit_with_filter_returns_matches(bed: &Bed) {
    bed.advance(10);
    let start = bed.now();
    let mut entries = Vec::new();
    for (app, open_id, actor, action) in [
        (&bed.app, "ou_1", "a", AuditAction::TokenServe),
        (&bed.app, "ou_2", "a", AuditAction::TokenRevoke),
        (&bed.other_app, "ou_1", "b", AuditAction::TokenServe),
        (&bed.other_app, "ou_2", "b", AuditAction::AppDisable),
    ] {
        bed.advance(1);
        let actor = Actor::operator(actor.to_owned(), None);
        let entry = AuditEntry::new(bed.uuid(), &actor, bed.now(), action);
        entries.push(entry.app(app).open_id(&ou(open_id)));
    }
    bed.store.append_audit(&entries).await.unwrap();
    let none = AuditFilter { since: Some(start), ..AuditFilter::default() };
    let found = async |filter: AuditFilter| {
        let listed = bed.second.list_audit(&filter, None, 100).await.unwrap();
        let number = |found: &AuditEntry| entries.iter().position(|entry| entry == found).unwrap();
        listed.iter().map(number).collect::<Vec<_>>()
    };
    let app = Some(bed.app.clone());
    assert_eq!(found(none.clone()).await, [3, 2, 1, 0]);
    assert_eq!(found(AuditFilter { app_id: app.clone(), ..none.clone() }).await, [1, 0]);
    assert_eq!(found(AuditFilter { person: Some("ou_1".into()), ..none.clone() }).await, [2, 0]);
    assert_eq!(found(AuditFilter { actor: Some("b".into()), ..none.clone() }).await, [3, 2]);
    assert_eq!(found(AuditFilter { action: Some(AuditAction::TokenServe), ..none.clone() }).await, [2, 0]);
    let both = AuditFilter { person: Some("ou_2".into()), app_id: app.clone(), ..none.clone() };
    assert_eq!(found(both).await, [1]);
    let actor = AuditFilter { actor: Some("a".into()), person: Some("ou_2".into()), ..none.clone() };
    assert_eq!(found(actor).await, [1]);
    let nothing = AuditFilter { actor: Some("b".into()), app_id: app.clone(), ..none.clone() };
    assert_eq!(found(nothing).await, [0; 0]);
    let at = |seconds| Some(start + Duration::from_secs(seconds));
    assert_eq!(found(AuditFilter { since: at(2), until: at(4), ..none.clone() }).await, [2, 1]);
    // An actor that sees some applications only, and records about none of them.
    let restricted = |app_ids: &[&AppId]| AuditFilter {
        app_ids: app_ids.iter().map(|app| app.to_string()).collect(),
        ..AuditFilter::default()
    };
    assert_eq!(found(restricted(&[&bed.other_app])).await, [3, 2]);
    assert_eq!(found(restricted(&[&bed.app, &bed.other_app])).await, [3, 2, 1, 0]);
    assert_eq!(found(AuditFilter { app_id: app, ..restricted(&[&bed.other_app]) }).await, [0; 0]);
}

/// Pages neither repeat nor omit a record, even when several were written in the same microsecond.
pub async fn list_audit_equal_times_paged_completely(bed: &Bed) {
    let mut expected = records(bed).await.len();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let entries: Vec<_> = (0..7).map(|_| bed.act()).collect();
        bed.store.append_audit(&entries).await.unwrap();
        expected += entries.len();
        bed.advance(1);
    }
    let mut after = None;
    loop {
        let page = bed.store.list_audit(&AuditFilter::default(), after, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(AuditCursor { at: last.at, id: last.id });
        seen.extend(page.iter().map(|entry| (entry.at, entry.id)));
        // A record written during the listing does not shift the pages.
        bed.store.append_audit(&[bed.act()]).await.unwrap();
    }
    assert_eq!(seen.len(), expected);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first, none twice");
}

/// Old records are deleted up to the limit; younger records remain.
pub async fn purge_audit_old_records_removed_up_to_limit(bed: &Bed) {
    bed.advance(100);
    let start = bed.now();
    for _ in 0..10 {
        bed.store.append_audit(&[bed.act()]).await.unwrap();
        bed.advance(1);
    }
    // The records of the fixtures are older.
    assert!(bed.store.purge_audit(start, 1000).await.unwrap() > 0);
    let before = start + Duration::from_secs(7);
    assert_eq!(bed.store.purge_audit(before, 4).await.unwrap(), 4);
    assert_eq!(bed.second.purge_audit(before, 100).await.unwrap(), 3);
    assert_eq!(bed.store.purge_audit(before, 100).await.unwrap(), 0);
    assert_eq!(bed.store.purge_audit(start, 100).await.unwrap(), 0, "an earlier time permits nothing more");
    assert_eq!(records(bed).await.len(), 3);
}

/// The ids of one person are replaced in records about and by the person, batch by batch, and in no other record.
pub async fn pseudonymize_audit_replaces_ids_of_one_person(bed: &Bed) {
    bed.advance(1);
    let start = bed.now();
    let about = |app: &AppId, id: &str| AuditEntry { person: Some(id.to_owned()), ..bed.act().app(app) };
    let by = |app: &AppId, id: &str| AuditEntry {
        actor_kind: "person".to_owned(),
        actor_id: id.to_owned(),
        ..about(app, id)
    };
    let (app, other) = (&bed.app, &bed.other_app);
    let theirs = [about(app, "ou_1"), about(app, "u_1"), about(app, "ou_1"), by(app, "ou_1")];
    // Another person, another application, and an operator whose account is spelled like the id.
    let operator = AuditEntry { actor_id: "ou_1".to_owned(), ..bed.act().app(app) };
    let others = [about(app, "ou_2"), about(other, "ou_1"), by(other, "ou_1"), operator];
    bed.store.append_audit(&theirs).await.unwrap();
    bed.store.append_audit(&others).await.unwrap();

    let ids = ["ou_1".to_owned(), "u_1".to_owned()];
    let mut replaced = Vec::new();
    while replaced.last() != Some(&0) {
        replaced.push(bed.second.pseudonymize_audit(app, &ids, "erased:x", 3).await.unwrap());
    }
    assert_eq!(replaced, [4, 1, 0], "at most three about and three by the person at once");
    let filter = AuditFilter { since: Some(start), ..AuditFilter::default() };
    let listed = bed.store.list_audit(&filter, None, 100).await.unwrap();
    assert_eq!(listed.len(), theirs.len() + others.len());
    for entry in theirs {
        let is_by = entry.actor_kind == "person";
        let expected = AuditEntry {
            person: Some("erased:x".to_owned()),
            actor_id: if is_by { "erased:x".to_owned() } else { entry.actor_id.clone() },
            ..entry
        };
        assert!(listed.contains(&expected), "{expected:?}");
    }
    assert!(others.iter().all(|entry| listed.contains(entry)));
    // Nothing else can be written over an id.
    assert!(bed.store.pseudonymize_audit(app, &["ou_2".to_owned()], "ou_3", 3).await.is_err());
}
