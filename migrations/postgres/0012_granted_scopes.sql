-- The scopes that Lark granted in this consent, in the order of its answer. Null in sessions from before.
alter table user_auth_sessions add column granted_scopes text[];
