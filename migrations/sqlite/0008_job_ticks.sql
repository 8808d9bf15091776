-- The latest claimed tick of each scheduled job, so that one process of all runs it.
create table job_ticks (
    name    text    not null primary key,
    tick_at integer not null
) strict, without rowid;
