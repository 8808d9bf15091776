-- Registered applications. Columns named …_sealed, here and below, hold values encrypted by the program and bound to
-- table, column and row: a value copied elsewhere does not open.
create table applications (
    app_id                    text        primary key,
    app_secret_sealed         bytea       not null,
    verification_token_sealed bytea,
    encrypt_key_sealed        bytea,
    brand                     text        not null,
    token_api                 text        not null,
    redirect_uri              text        not null,
    default_scopes            text[]      not null,
    enabled                   boolean     not null,
    -- The app-level breaker.
    frozen_since              timestamptz,
    frozen_reason             text,
    created_at                timestamptz not null,
    updated_at                timestamptz not null,

    constraint applications_brand check (brand in ('feishu', 'lark')),
    constraint applications_token_api check (token_api in ('v1', 'v2')),
    constraint applications_frozen_has_reason check ((frozen_since is null) = (frozen_reason is null))
);
