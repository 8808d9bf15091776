-- When the bus confirmed the announcement of the session's end. Null from the end until then; without meaning while the
-- session is pending. Rows from before this migration count as announced.
alter table user_auth_sessions add column announced_at integer;
update user_auth_sessions set announced_at = 0;

-- The sweep of ends that are not announced. They are few.
create index user_auth_sessions_unannounced on user_auth_sessions (ended_at, session_id)
    where announced_at is null and ended_at is not null;
