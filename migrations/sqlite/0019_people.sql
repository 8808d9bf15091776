-- When the person may be asked to consent again, once the token needs it.
alter table access_tokens add column ask_at integer not null default 0;
-- Why the token is suspended. Null: Lark refused a refresh. Without meaning in another status.
alter table access_tokens add column suspended_for text
    constraint access_tokens_suspended_for check (suspended_for in ('frozen', 'resigned', 'exited', 'refused'));
-- Number of announced suspensions and restorations, which alternate: odd when the last one was a suspension.
alter table access_tokens add column status_announcements integer not null default 0;

-- Tokens whose person is asked again: ended ones, and those that end soon by the time of the consent.
create index access_tokens_to_ask on access_tokens (app_id, ask_at, last_used_at)
    where status = 'reauthorization_required' and kind = 'user';
create index access_tokens_by_grant on access_tokens (app_id, granted_at, ask_at)
    where status in ('active', 'outcome_unknown') and kind = 'user' and refresh_token_sealed is not null;
-- Suspensions and restorations that are not announced. They are few.
create index access_tokens_unannounced on access_tokens (app_id, open_id)
    where (status = 'suspended') <> (status_announcements % 2 = 1) and status <> 'revoked' and kind = 'user';

-- When the person was last looked up at Lark.
alter table user_profiles add column synced_at integer not null default 0;
create index user_profiles_by_sync on user_profiles (app_id, synced_at, open_id);
