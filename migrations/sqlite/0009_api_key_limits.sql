-- What a key may reach beside its scopes, its end, and when it was used last. An empty list restricts nothing.
alter table api_keys add column app_ids text not null default '[]'
    constraint api_keys_app_ids check (json_valid(app_ids) and json_type(app_ids) = 'array');
alter table api_keys add column lark_scopes text not null default '[]'
    constraint api_keys_lark_scopes check (json_valid(lark_scopes) and json_type(lark_scopes) = 'array');
alter table api_keys add column requests_per_minute integer constraint api_keys_requests check (requests_per_minute > 0);
alter table api_keys add column expires_at integer;
alter table api_keys add column last_used_at integer;
