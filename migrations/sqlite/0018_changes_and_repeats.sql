-- Processes keep tokens, API keys and the state of applications in memory. A change of such a row is noted in its own
-- transaction, whichever program makes it. Readers follow the notes by their number; a missing number means that everything
-- may have changed.
create table changes (
    change_id integer primary key autoincrement,
    subject   text    not null,
    app_id    text,
    open_id   text,

    constraint changes_subject check (subject in ('token', 'applications', 'api_keys', 'all')),
    constraint changes_token_is_named check ((subject = 'token') = (app_id is not null and open_id is not null))
) strict;
-- The erasure of a person removes the notes about this person.
create index changes_by_person on changes (open_id) where open_id is not null;
create trigger changes_bounded after insert on changes
begin
    delete from changes where change_id <= new.change_id - 10000;
end;

-- Not the lease and the time of use, which no reader is served.
create trigger access_tokens_note_insert after insert on access_tokens
begin
    insert into changes (subject, app_id, open_id) values ('token', new.app_id, new.open_id);
end;
create trigger access_tokens_note_update after update of
    app_id, open_id, access_token_sealed, access_expires_at, refresh_token_sealed, refresh_expires_at, scopes, issued_at,
    granted_at, generation, status, failures, next_attempt_at
    on access_tokens
begin
    insert into changes (subject, app_id, open_id) values ('token', new.app_id, new.open_id);
end;
create trigger access_tokens_note_delete after delete on access_tokens
begin
    delete from changes where open_id = old.open_id;
    insert into changes (subject) values ('all');
end;
create trigger applications_note_insert after insert on applications
begin
    insert into changes (subject) values ('applications');
end;
create trigger applications_note_update after update on applications
begin
    insert into changes (subject) values ('applications');
end;
create trigger applications_note_delete after delete on applications
begin
    insert into changes (subject) values ('applications');
end;
create trigger api_keys_note_insert after insert on api_keys
begin
    insert into changes (subject) values ('api_keys');
end;
create trigger api_keys_note_update after update of
    key_sha256, name, scopes, app_ids, lark_scopes, requests_per_minute, revoked_at, expires_at
    on api_keys
begin
    insert into changes (subject) values ('api_keys');
end;
create trigger api_keys_note_delete after delete on api_keys
begin
    insert into changes (subject) values ('api_keys');
end;

-- Reads of one token by one caller that follow each other within a second are one record with their number.
alter table audit_log add column count integer not null default 1 constraint audit_log_count check (count > 0);
drop trigger audit_log_no_update;
-- The erasure of a person replaces ids by a pseudonym, and changes nothing else.
create trigger audit_log_no_update before update on audit_log
when new.audit_id is not old.audit_id or new.at is not old.at or new.actor_kind is not old.actor_kind
    or new.actor_name is not old.actor_name or new.action is not old.action or new.app_id is not old.app_id
    or new.session_id is not old.session_id or new.key_id is not old.key_id or new.address is not old.address
    or new.request_id is not old.request_id or new.trace_id is not old.trace_id or new.outcome is not old.outcome
    or new.reason is not old.reason or new.count is not old.count
    or (new.person is not old.person and coalesce(new.person, '') not like 'erased:%')
    or (new.actor_id is not old.actor_id and (old.actor_kind <> 'person' or new.actor_id not like 'erased:%'))
begin
    select raise(abort, 'audit_log is append-only: UPDATE refused');
end;
