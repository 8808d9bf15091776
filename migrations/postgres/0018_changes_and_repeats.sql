-- Processes keep tokens, API keys and the state of applications in memory. A change of such a row is announced in its own
-- transaction, whichever program makes it: listeners are told when it commits, and only then.
create function larkauth_announce_change() returns trigger language plpgsql as $$
declare
    changed record;
begin
    if tg_level = 'STATEMENT' then
        perform pg_notify('larkauth_changes', tg_table_name);
        return null;
    end if;
    if tg_op = 'DELETE' then
        changed := old;
    else
        changed := new;
    end if;
    perform pg_notify('larkauth_changes', 'token ' || changed.app_id || ' ' || changed.open_id);
    return null;
end
$$;
-- Not the lease and the time of use, which no reader is served.
create trigger access_tokens_announce after insert or delete or update of
    app_id, open_id, access_token_sealed, access_expires_at, refresh_token_sealed, refresh_expires_at, scopes, issued_at,
    granted_at, generation, status, failures, next_attempt_at
    on access_tokens for each row execute function larkauth_announce_change();
create trigger access_tokens_announce_truncate after truncate on access_tokens
    for each statement execute function larkauth_announce_change();
create trigger applications_announce after insert or update or delete or truncate on applications
    for each statement execute function larkauth_announce_change();
create trigger api_keys_announce after insert or delete or truncate or update of
    key_sha256, name, scopes, app_ids, lark_scopes, requests_per_minute, revoked_at, expires_at
    on api_keys for each statement execute function larkauth_announce_change();

-- Reads of one token by one caller that follow each other within a second are one record with their number.
alter table audit_log add column count integer not null default 1;
alter table audit_log add constraint audit_log_count check (count > 0);
