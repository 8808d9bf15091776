-- The token pair of an exchange, sealed, from Lark's answer until it is stored or wiped. A claim without `sent_at` may be
-- taken over; a claim with `sent_at` and without an escrow has lost its answer once the wait for the escrow is over.
alter table user_auth_sessions add column exchange_sent_at integer
    constraint user_auth_sessions_sent_has_claim check (exchange_sent_at is null or exchange_claim is not null);
alter table user_auth_sessions add column exchange_unanswered_at integer
    constraint user_auth_sessions_unanswered_was_sent
        check (exchange_unanswered_at is null or exchange_sent_at is not null);
alter table user_auth_sessions add column exchange_escrow_sealed blob
    constraint user_auth_sessions_escrow_was_sent
        check (exchange_escrow_sealed is null or exchange_sent_at is not null);

-- Resuming. Sessions whose code was sent and whose exchange has not ended are few.
create index user_auth_sessions_sent on user_auth_sessions (exchange_claimed_until) where exchange_sent_at is not null;
