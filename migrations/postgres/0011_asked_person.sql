-- The ids by which the caller asked for a person. Identity is checked against them. `open_id` and `user_id` are those and
-- what was learned since. Of an older row every known id counts as asked for.
alter table user_auth_sessions
    add column asked_open_id text,
    add column asked_user_id text;

update user_auth_sessions set asked_open_id = open_id, asked_user_id = user_id;

alter table user_auth_sessions add constraint user_auth_sessions_asked_person
    check (asked_open_id is not null or asked_user_id is not null);

create function user_auth_sessions_keep_asked_person() returns trigger language plpgsql as $$
begin
    raise exception 'the person of a session cannot be replaced' using errcode = 'integrity_constraint_violation';
end $$;
create trigger user_auth_sessions_keep_asked_person before update on user_auth_sessions for each row
    when (old.app_id is distinct from new.app_id
          or old.asked_open_id is distinct from new.asked_open_id
          or old.asked_user_id is distinct from new.asked_user_id
          or coalesce(new.open_id <> new.asked_open_id, false)
          or coalesce(new.user_id <> new.asked_user_id, false))
    execute function user_auth_sessions_keep_asked_person();
