-- Counting pending sessions and tokens of an application reads these indexes alone. They hold every column that the counts
-- compare, because SQLite reads the row otherwise.
create index user_auth_sessions_pending_by_app on user_auth_sessions (app_id, state) where state = 'pending';
create index access_tokens_by_status on access_tokens (app_id, status, kind) where kind = 'user';
-- Deleting a token looks for the sessions that refer to it.
create index user_auth_sessions_by_token on user_auth_sessions (token_id) where token_id is not null;
