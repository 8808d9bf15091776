-- Tokens whose refresh is due, those that are due longest first.
create index access_tokens_due on access_tokens (next_attempt_at)
    where status in ('active', 'outcome_unknown') and refresh_token_sealed is not null;

-- Tokens from before refreshing are due when little of their life is left.
update access_tokens set next_attempt_at = issued_at + (access_expires_at - issued_at) * 0.8
    where kind = 'user' and status = 'active' and refresh_token_sealed is not null;
