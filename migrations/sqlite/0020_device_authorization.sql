-- The device authorization of a pending session (RFC 8628): the sealed codes and addresses, their expiry, and the polls. A
-- poll takes the claim of the exchange, because its answer may hold the token pair.
alter table user_auth_sessions add column device_grant_sealed blob
    constraint user_auth_sessions_device_while_pending check (device_grant_sealed is null or state = 'pending');
alter table user_auth_sessions add column device_expires_at integer
    constraint user_auth_sessions_device_has_expiry check ((device_grant_sealed is null) = (device_expires_at is null));
-- Shortest time between two polls. Lark's `slow_down` adds to it.
alter table user_auth_sessions add column device_interval_seconds integer
    constraint user_auth_sessions_device_has_interval check (
        (device_grant_sealed is null) = (device_interval_seconds is null)
        and (device_interval_seconds is null or device_interval_seconds > 0)
    );
-- The next poll, by the clock of the database.
alter table user_auth_sessions add column device_poll_at integer
    constraint user_auth_sessions_device_has_poll check ((device_grant_sealed is null) = (device_poll_at is null));
-- When the person opened the page by a click on the card. Polls are rarer before.
alter table user_auth_sessions add column device_opened_at integer
    constraint user_auth_sessions_device_was_opened check (device_opened_at is null or device_grant_sealed is not null);
-- Polls without an answer in a row.
alter table user_auth_sessions add column device_poll_failures integer not null default 0;
-- The answer to a poll was lost, and no later one says that it held no pair.
alter table user_auth_sessions add column device_answer_lost integer not null default 0;
-- The card is not known to show the present codes.
alter table user_auth_sessions add column device_card_is_stale integer not null default 0;

-- Polls that are due. Pending sessions of the device flow are few.
create index user_auth_sessions_device_polls on user_auth_sessions (device_poll_at) where device_poll_at is not null;
