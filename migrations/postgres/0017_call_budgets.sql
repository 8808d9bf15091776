-- The calls to Lark that all processes may make together, one row for each application and class of endpoint.
create table call_budgets (
    app_id        text        not null,
    class         text        not null,
    -- The end of the calls that were granted so far. The clock of the database measures it.
    granted_until timestamptz not null,

    primary key (app_id, class)
) with (fillfactor = 50);

-- Due tokens of one application: logins that end soon, access tokens that end soon, and all others.
drop index access_tokens_due;
create index access_tokens_due on access_tokens (app_id, next_attempt_at)
    where status in ('active', 'outcome_unknown') and refresh_token_sealed is not null and next_attempt_at is not null;
create index access_tokens_due_by_access_end on access_tokens (app_id, access_expires_at, next_attempt_at)
    where status in ('active', 'outcome_unknown') and refresh_token_sealed is not null and next_attempt_at is not null;
create index access_tokens_due_by_login_end on access_tokens (app_id, refresh_expires_at, next_attempt_at)
    where status in ('active', 'outcome_unknown') and refresh_token_sealed is not null and next_attempt_at is not null;
