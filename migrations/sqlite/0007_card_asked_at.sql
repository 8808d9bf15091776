-- When the mending of cards last asked for this one, so that others have their turn.
alter table user_auth_sessions add column card_asked_at integer;
