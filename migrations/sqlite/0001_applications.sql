-- Registered applications. Columns named …_sealed, here and below, hold values encrypted by the program and bound to
-- table, column and row: a value copied elsewhere does not open.
--
-- Throughout: times are microseconds since 1970 (UTC), ids and UUIDs are text, lists are JSON arrays. Tables, columns and
-- keys are called as in PostgreSQL, so that rows can move from one to the other as they are.
create table applications (
    app_id                    text    not null primary key,
    app_secret_sealed         blob    not null,
    verification_token_sealed blob,
    encrypt_key_sealed        blob,
    brand                     text    not null,
    token_api                 text    not null,
    redirect_uri              text    not null,
    default_scopes            text    not null,
    enabled                   integer not null,
    -- The app-level breaker.
    frozen_since              integer,
    frozen_reason             text,
    created_at                integer not null,
    updated_at                integer not null,

    constraint applications_brand check (brand in ('feishu', 'lark')),
    constraint applications_token_api check (token_api in ('v1', 'v2')),
    constraint applications_scopes check (json_valid(default_scopes) and json_type(default_scopes) = 'array'),
    constraint applications_enabled check (enabled in (0, 1)),
    constraint applications_frozen_has_reason check ((frozen_since is null) = (frozen_reason is null))
) strict;
