-- The ids by which the caller asked for a person. Identity is checked against them. `open_id` and `user_id` are those and
-- what was learned since. Of an older row every known id counts as asked for.
alter table user_auth_sessions add column asked_open_id text;
alter table user_auth_sessions add column asked_user_id text;

update user_auth_sessions set asked_open_id = open_id, asked_user_id = user_id;

create trigger user_auth_sessions_asked_person before insert on user_auth_sessions
    when new.asked_open_id is null and new.asked_user_id is null
begin
    select raise(abort, 'a session has no person');
end;
create trigger user_auth_sessions_keep_asked_person before update on user_auth_sessions
    when old.app_id is not new.app_id
      or old.asked_open_id is not new.asked_open_id
      or old.asked_user_id is not new.asked_user_id
      or new.open_id <> new.asked_open_id
      or new.user_id <> new.asked_user_id
begin
    select raise(abort, 'the person of a session cannot be replaced');
end;
