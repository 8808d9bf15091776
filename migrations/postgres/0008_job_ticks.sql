-- The latest claimed tick of each scheduled job, so that one process of all runs it.
create table job_ticks (
    name    text        primary key,
    tick_at timestamptz not null
);
