-- Keys of the REST API: their SHA-256, never the keys themselves.
create table api_keys (
    key_id     uuid        primary key,
    name       text        not null,
    scopes     text[]      not null,
    key_sha256 bytea       not null,
    created_at timestamptz not null,
    revoked_at timestamptz,

    constraint api_keys_hash check (octet_length(key_sha256) = 32),
    constraint api_keys_key unique (key_sha256)
);
