-- Keys of the REST API: their SHA-256, never the keys themselves.
create table api_keys (
    key_id     text    not null primary key,
    name       text    not null,
    scopes     text    not null,
    key_sha256 blob    not null,
    created_at integer not null,
    revoked_at integer,

    constraint api_keys_scopes check (json_valid(scopes) and json_type(scopes) = 'array'),
    constraint api_keys_hash check (length(key_sha256) = 32),
    constraint api_keys_key unique (key_sha256)
) strict;
