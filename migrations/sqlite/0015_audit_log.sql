-- Who did what, to what, when, from where, and with which result. Holds no secret. Refers to no other table, so that a
-- record outlives what it is about.
create table audit_log (
    audit_id   text    not null primary key,
    at         integer not null,
    actor_kind text    not null,
    actor_id   text    not null,
    actor_name text,
    action     text    not null,
    app_id     text,
    -- Open id, or else user id; after an erasure a pseudonym.
    person     text,
    session_id text,
    key_id     text,
    address    text,
    request_id text,
    trace_id   text,
    outcome    text    not null,
    reason     text,

    constraint audit_log_actor_kind check (actor_kind in ('api_key', 'operator', 'service', 'person')),
    constraint audit_log_outcome check (outcome in ('ok', 'refused', 'failed')),
    constraint audit_log_reason_unless_ok check ((outcome = 'ok') = (reason is null))
) strict;

-- Lists, newest first, with a cursor; purging.
create index audit_log_by_time on audit_log (at, audit_id);
create index audit_log_by_app on audit_log (app_id, at, audit_id);
create index audit_log_by_person on audit_log (person, at, audit_id) where person is not null;
create index audit_log_by_actor on audit_log (actor_id, at, audit_id);
create index audit_log_by_action on audit_log (action, at, audit_id);

-- The time before which records may be deleted. The purge moves it before it deletes.
create table audit_retention (
    only_row         integer not null primary key default 1,
    deletable_before integer not null,

    constraint audit_retention_one_row check (only_row = 1)
) strict;
insert into audit_retention (deletable_before) values (0);

-- The erasure of a person replaces ids by a pseudonym, and changes nothing else.
create trigger audit_log_no_update before update on audit_log
when new.audit_id is not old.audit_id or new.at is not old.at or new.actor_kind is not old.actor_kind
    or new.actor_name is not old.actor_name or new.action is not old.action or new.app_id is not old.app_id
    or new.session_id is not old.session_id or new.key_id is not old.key_id or new.address is not old.address
    or new.request_id is not old.request_id or new.trace_id is not old.trace_id or new.outcome is not old.outcome
    or new.reason is not old.reason
    or (new.person is not old.person and coalesce(new.person, '') not like 'erased:%')
    or (new.actor_id is not old.actor_id and (old.actor_kind <> 'person' or new.actor_id not like 'erased:%'))
begin
    select raise(abort, 'audit_log is append-only: UPDATE refused');
end;
create trigger audit_log_no_delete before delete on audit_log
when old.at >= coalesce((select deletable_before from audit_retention), old.at)
begin
    select raise(abort, 'audit_log is append-only: DELETE refused');
end;
-- `insert or replace` deletes without the trigger above.
create trigger audit_log_no_replace before insert on audit_log
when exists (select 1 from audit_log where audit_id = new.audit_id)
begin
    select raise(abort, 'audit_log is append-only: the record exists');
end;
