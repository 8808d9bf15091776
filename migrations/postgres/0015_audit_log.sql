-- Who did what, to what, when, from where, and with which result. Holds no secret. Refers to no other table, so that a
-- record outlives what it is about.
create table audit_log (
    audit_id   uuid        primary key,
    at         timestamptz not null,
    actor_kind text        not null,
    actor_id   text        not null,
    actor_name text,
    action     text        not null,
    app_id     text,
    -- Open id, or else user id; after an erasure a pseudonym.
    person     text,
    session_id uuid,
    key_id     uuid,
    address    text,
    request_id text,
    trace_id   text,
    outcome    text        not null,
    reason     text,

    constraint audit_log_actor_kind check (actor_kind in ('api_key', 'operator', 'service', 'person')),
    constraint audit_log_outcome check (outcome in ('ok', 'refused', 'failed')),
    constraint audit_log_reason_unless_ok check ((outcome = 'ok') = (reason is null))
);

-- Lists, newest first, with a cursor; purging.
create index audit_log_by_time on audit_log (at, audit_id);
create index audit_log_by_app on audit_log (app_id, at, audit_id);
create index audit_log_by_person on audit_log (person, at, audit_id) where person is not null;
create index audit_log_by_actor on audit_log (actor_id, at, audit_id);
create index audit_log_by_action on audit_log (action, at, audit_id);

-- The time before which records may be deleted. The purge moves it before it deletes.
create table audit_retention (
    only_row         boolean     primary key default true,
    deletable_before timestamptz not null,

    constraint audit_retention_one_row check (only_row)
);
insert into audit_retention (deletable_before) values ('1970-01-01 00:00:00+00');

create function audit_log_append_only() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and old.at < (select deletable_before from audit_retention) then
        return old;
    end if;
    -- The erasure of a person replaces ids by a pseudonym, and changes nothing else.
    if tg_op = 'UPDATE'
        and to_jsonb(new) - array['person', 'actor_id'] = to_jsonb(old) - array['person', 'actor_id']
        and (new.person is not distinct from old.person or new.person like 'erased:%')
        and (new.actor_id = old.actor_id or (old.actor_kind = 'person' and new.actor_id like 'erased:%'))
    then
        return new;
    end if;
    raise exception 'audit_log is append-only: % refused', tg_op using errcode = 'restrict_violation';
end
$$;
create trigger audit_log_append_only before update or delete on audit_log
    for each row execute function audit_log_append_only();
create trigger audit_log_no_truncate before truncate on audit_log
    for each statement execute function audit_log_append_only();
