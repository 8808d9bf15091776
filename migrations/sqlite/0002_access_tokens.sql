-- One row per application, person and kind; a newer pair replaces the older one in place and raises the generation.
create table access_tokens (
    token_id             integer primary key autoincrement,
    app_id               text    not null references applications,
    open_id              text    not null,
    kind                 text    not null,
    access_token_sealed  blob,
    access_expires_at    integer not null,
    refresh_token_sealed blob,
    refresh_expires_at   integer,
    scopes               text    not null,
    issued_at            integer not null,
    granted_at           integer not null,
    generation           integer not null default 1,
    status               text    not null default 'active',
    revoked_at           integer,
    -- Who refreshes the pair at present, and until when nobody else may.
    lease_owner          text,
    lease_until          integer,
    failures             integer not null default 0,
    next_attempt_at      integer,
    last_used_at         integer,

    constraint access_tokens_one_per_person unique (app_id, open_id, kind),
    constraint access_tokens_kind check (kind in ('user', 'tenant', 'app')),
    constraint access_tokens_status
        check (status in ('active', 'outcome_unknown', 'reauthorization_required', 'suspended', 'revoked')),
    constraint access_tokens_scopes check (json_valid(scopes) and json_type(scopes) = 'array'),
    constraint access_tokens_generation check (generation > 0),
    constraint access_tokens_failures check (failures >= 0),
    constraint access_tokens_lease check ((lease_owner is null) = (lease_until is null)),
    constraint access_tokens_revoked_has_time check ((status = 'revoked') = (revoked_at is not null)),
    constraint access_tokens_secret_unless_revoked check ((status = 'revoked') = (access_token_sealed is null)),
    constraint access_tokens_revoked_is_wiped check (status <> 'revoked' or refresh_token_sealed is null)
) strict;
