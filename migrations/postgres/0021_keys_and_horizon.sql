-- Encryption keys that stored values may need. A process notes its key before it encrypts with it; an operator retires a key.
create table encryption_key_uses (
    key_id    text        primary key,
    -- Last time at which a running process said that it encrypts with the key.
    sealed_at timestamptz
);

-- The keys of the values that are there: a value begins with a 1, the length of the id, and the id.
insert into encryption_key_uses (key_id)
select distinct key_id from (
    select case when octet_length(sealed) > 2
                then encode(substring(sealed from 3 for get_byte(sealed, 1)), 'escape') end as key_id
    from (
        select app_secret_sealed as sealed from applications
        union all select verification_token_sealed from applications
        union all select encrypt_key_sealed from applications
        union all select access_token_sealed from access_tokens
        union all select refresh_token_sealed from access_tokens
        union all select email_sealed from user_profiles
        union all select mobile_sealed from user_profiles
        union all select email_sealed from user_auth_sessions
        union all select mobile_sealed from user_auth_sessions
        union all select oauth_state_sealed from user_auth_sessions
        union all select pkce_verifier_sealed from user_auth_sessions
        union all select exchange_escrow_sealed from user_auth_sessions
    ) stored
    where sealed is not null
) named
where key_id ~ '^[A-Za-z0-9_-]{1,32}$';

-- When the person's access ends unless something changes, and why. Null for a revoked token. In terms of UTC, because a day
-- has another length in some time zones.
alter table access_tokens
    add column loses_at timestamptz generated always as (
        case
            when status = 'revoked' then null
            when status <> 'active' or refresh_token_sealed is null then access_expires_at
            when refresh_expires_at is not null
                 and (next_attempt_at is null or next_attempt_at >= refresh_expires_at)
                then least(refresh_expires_at, (granted_at at time zone 'UTC' + interval '365 days') at time zone 'UTC')
            else (granted_at at time zone 'UTC' + interval '365 days') at time zone 'UTC'
        end
    ) stored,
    add column loss_reason text generated always as (
        case
            when status = 'revoked' then null
            when status <> 'active' then status
            when refresh_token_sealed is null then 'no_refresh_token'
            when refresh_expires_at is not null
                 and (next_attempt_at is null or next_attempt_at >= refresh_expires_at)
                 and refresh_expires_at < (granted_at at time zone 'UTC' + interval '365 days') at time zone 'UTC'
                then 'refresh_token_expires'
            else 'consent_ends'
        end
    ) stored;

-- The horizon: who loses access, in the order of time.
create index access_tokens_by_loss on access_tokens (loses_at, app_id, open_id, loss_reason) where kind = 'user';
-- Applications whose breaker is open. They are few.
create index applications_frozen on applications (app_id) where frozen_since is not null;
