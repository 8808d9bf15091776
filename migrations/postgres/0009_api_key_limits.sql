-- What a key may reach beside its scopes, its end, and when it was used last. An empty list restricts nothing.
alter table api_keys
    add column app_ids             text[]      not null default '{}',
    add column lark_scopes         text[]      not null default '{}',
    add column requests_per_minute bigint,
    add column expires_at          timestamptz,
    add column last_used_at        timestamptz,
    add constraint api_keys_requests check (requests_per_minute > 0);
