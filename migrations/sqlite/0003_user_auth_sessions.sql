-- One row per invitation to authorize. Only `pending` rows change state, and only once.
create table user_auth_sessions (
    session_id             text    not null primary key,
    app_id                 text    not null references applications,
    user_id                text,
    open_id                text,
    union_id               text,
    user_name              text,
    email_sealed           blob,
    mobile_sealed          blob,
    auth_method            text    not null,
    state                  text    not null default 'pending',
    failure_reason         text,
    scopes                 text    not null,
    card                   text    not null,
    -- What the consent page is opened with: gone as soon as the session ends. The hash stays, to recognise late redirects.
    oauth_state_sha256     blob    not null,
    oauth_state_sealed     blob,
    pkce_verifier_sealed   blob,
    -- The one authorization code of this session, and who exchanges it.
    code_sha256            blob,
    exchange_claim         text,
    exchange_claimed_until integer,
    message_id             text,
    card_face              text,
    token_id               integer references access_tokens,
    created_at             integer not null,
    expires_at             integer not null,
    completed_at           integer,
    -- Whatever the ending.
    ended_at               integer,
    -- The session has ended, and its card is not known to show how.
    card_is_stale          integer not null generated always as (
        message_id is not null and state <> 'pending' and card_face is distinct from
        case state when 'completed' then 'done' when 'rejected' then 'declined' else state end
    ) stored,

    constraint user_auth_sessions_person check (user_id is not null or open_id is not null),
    constraint user_auth_sessions_method
        check (auth_method in ('websocket_card', 'oauth', 'http_callback', 'device_code')),
    constraint user_auth_sessions_state
        check (state in ('pending', 'completed', 'rejected', 'expired', 'failed')),
    constraint user_auth_sessions_scopes check (json_valid(scopes) and json_type(scopes) = 'array'),
    constraint user_auth_sessions_card check (json_valid(card)),
    constraint user_auth_sessions_ended_has_time check ((state = 'pending') = (ended_at is null)),
    constraint user_auth_sessions_failed_has_reason check ((state = 'failed') = (failure_reason is not null)),
    constraint user_auth_sessions_completed_has_time check ((state = 'completed') = (completed_at is not null)),
    constraint user_auth_sessions_completed_has_token check ((state = 'completed') = (token_id is not null)),
    constraint user_auth_sessions_completed_has_open_id check (state <> 'completed' or open_id is not null),
    constraint user_auth_sessions_secrets_while_pending check (
        (state = 'pending') = (oauth_state_sealed is not null)
        and (state = 'pending') = (pkce_verifier_sealed is not null)
    ),
    constraint user_auth_sessions_claim check ((exchange_claim is null) = (exchange_claimed_until is null)),
    constraint user_auth_sessions_claim_while_pending check (exchange_claim is null or state = 'pending'),
    constraint user_auth_sessions_face_has_card check (card_face is null or message_id is not null),
    constraint user_auth_sessions_hashes check (length(oauth_state_sha256) = 32 and length(code_sha256) = 32),
    constraint user_auth_sessions_times check (expires_at > created_at),
    constraint user_auth_sessions_oauth_state unique (oauth_state_sha256),
    constraint user_auth_sessions_message unique (message_id)
) strict;

-- A person's sessions: the invitation limit, and lists by open id with or without an application. Ends in the id so that
-- it has the whole order of a list; otherwise the planner takes the index by application for it.
create index user_auth_sessions_by_open_id on user_auth_sessions (open_id, app_id, created_at, session_id)
    where open_id is not null;
create index user_auth_sessions_by_user_id on user_auth_sessions (user_id, app_id, created_at)
    where user_id is not null;
-- Lists, newest first, with a cursor.
create index user_auth_sessions_by_app on user_auth_sessions (app_id, created_at, session_id);
create index user_auth_sessions_by_creation on user_auth_sessions (created_at, session_id);
-- Expiry. Ended sessions, nearly all of them, are not in it.
create index user_auth_sessions_pending on user_auth_sessions (expires_at) where state = 'pending';
-- Mending cards.
create index user_auth_sessions_stale_card on user_auth_sessions (ended_at) where card_is_stale;
