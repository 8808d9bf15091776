-- People as one application sees them; everything but the open id depends on the application's permissions.
create table user_profiles (
    app_id        text    not null references applications,
    open_id       text    not null,
    union_id      text,
    user_id       text,
    name          text,
    en_name       text,
    avatar_url    text,
    email_sealed  blob,
    mobile_sealed blob,
    tenant_key    text,
    updated_at    integer not null,

    primary key (app_id, open_id)
) strict, without rowid;
