-- Which deliveries have had their effect, by consumer, so that a repeated one has none.
create table processed_events (
    consumer     text    not null,
    event_id     text    not null,
    processed_at integer not null,

    primary key (consumer, event_id)
) strict, without rowid;

-- Purging.
create index processed_events_by_time on processed_events (processed_at);
