-- The embedded bus. A message is a row, and is in one place: a work queue or the dead letters. Times are microseconds
-- since 1970 (UTC).
create table bus_messages (
    seq            integer primary key,
    -- A queue's name, or `dead-letters`.
    place          text    not null,
    event_id       text    not null,
    type           text    not null,
    -- The key it was published with.
    routing_key    text    not null,
    -- An object of texts.
    headers        text    not null,
    body           blob    not null,
    -- From 1; counts what handlers gave back.
    attempt        integer not null,
    -- How often it was handed out in this attempt; more than once only when somebody died with it in hand.
    deliveries     integer not null default 0,
    -- It is not handed out before: the end of a wait or of a lease. In the dead letters: when it died.
    visible_at     integer not null,
    -- Drawn each time it is handed out, so that nobody settles what somebody else has in hand by now.
    lease          integer,
    -- Unknown when it had to wait on purpose.
    published_at   integer,
    -- Where an answer is expected, while it is.
    reply_to       text,
    correlation_id text,
    -- In the dead letters: the queue it died in, and why. Neither when it was published to them.
    died_in        text,
    reason         text,

    constraint bus_messages_headers check (json_valid(headers) and json_type(headers) = 'object'),
    constraint bus_messages_attempt check (attempt >= 1),
    constraint bus_messages_deliveries check (deliveries >= 0),
    constraint bus_messages_reply check ((reply_to is null) = (correlation_id is null)),
    constraint bus_messages_dead check (place = 'dead-letters' or (died_in is null and reason is null)),
    constraint bus_messages_dead_are_free check (place <> 'dead-letters' or lease is null)
) strict;

-- Handing out, depth, browsing and purging.
create index bus_messages_by_visibility on bus_messages (place, visible_at);

-- Whoever killed its consumers too often.
create index bus_messages_leased on bus_messages (visible_at) where lease is not null;

-- An operator's requeue and drop.
create index bus_messages_dead_by_event on bus_messages (event_id, visible_at) where place = 'dead-letters';

-- How many messages are in a place, those that wait or are in hand included: every publish looks.
create table bus_lengths (
    place    text    not null primary key,
    messages integer not null,

    constraint bus_lengths_messages check (messages >= 0)
) strict, without rowid;

create trigger bus_messages_come after insert on bus_messages begin
    insert into bus_lengths (place, messages) values (new.place, 1)
    on conflict (place) do update set messages = messages + 1;
end;

create trigger bus_messages_go after delete on bus_messages begin
    update bus_lengths set messages = messages - 1 where place = old.place;
end;

create trigger bus_messages_move after update of place on bus_messages begin
    update bus_lengths set messages = messages - 1 where place = old.place;
    insert into bus_lengths (place, messages) values (new.place, 1)
    on conflict (place) do update set messages = messages + 1;
end;
