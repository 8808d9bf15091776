//! What each table is made of.

/// How a column's values are written in JSON, and what the databases keep them as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Uuid,
    Integer,
    /// Microseconds since 1970.
    Time,
    Bool,
    /// Hexadecimal.
    Bytes,
    /// The same, of a value that the cipher sealed for this column and row.
    Sealed,
    /// An array of texts.
    List,
    Json,
}

pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// What a table is made of.
pub(crate) struct Shape {
    pub(super) table: &'static str,
    /// What tells its rows apart in any database.
    pub(super) key: &'static [Column],
    pub(super) columns: &'static [Column],
    /// A column that only means something inside one database, and the expression that finds its value in another.
    pub(super) derived: Option<(&'static str, &'static str)>,
}

macro_rules! shape {
    ($table:literal, key [$($key:ident: $key_kind:ident),+], [$($name:ident: $kind:ident),+ $(,)?], $derived:expr) => {
        Shape {
            table: $table,
            key: &[$(Column { name: stringify!($key), kind: Kind::$key_kind }),+],
            columns: &[
                $(Column { name: stringify!($key), kind: Kind::$key_kind },)+
                $(Column { name: stringify!($name), kind: Kind::$kind }),+
            ],
            derived: $derived,
        }
    };
}

pub(super) static APPLICATIONS: Shape = shape!(
    "applications",
    key [app_id: Text],
    [
        app_secret_sealed: Sealed,
        verification_token_sealed: Sealed,
        encrypt_key_sealed: Sealed,
        brand: Text,
        token_api: Text,
        redirect_uri: Text,
        default_scopes: List,
        enabled: Bool,
        frozen_since: Time,
        frozen_reason: Text,
        created_at: Time,
        updated_at: Time,
    ],
    None
);

/// Without `token_id`, which is a number of this database only.
pub(super) static TOKENS: Shape = shape!(
    "access_tokens",
    key [app_id: Text, open_id: Text, kind: Text],
    [
        access_token_sealed: Sealed,
        access_expires_at: Time,
        refresh_token_sealed: Sealed,
        refresh_expires_at: Time,
        scopes: List,
        issued_at: Time,
        granted_at: Time,
        generation: Integer,
        status: Text,
        revoked_at: Time,
        lease_owner: Uuid,
        lease_until: Time,
        failures: Integer,
        next_attempt_at: Time,
        last_used_at: Time,
    ],
    None
);

pub(super) static PROFILES: Shape = shape!(
    "user_profiles",
    key [app_id: Text, open_id: Text],
    [
        union_id: Text,
        user_id: Text,
        name: Text,
        en_name: Text,
        avatar_url: Text,
        email_sealed: Sealed,
        mobile_sealed: Sealed,
        tenant_key: Text,
        updated_at: Time,
    ],
    None
);

pub(super) static SESSIONS: Shape = shape!(
    "user_auth_sessions",
    key [session_id: Uuid],
    [
        app_id: Text,
        user_id: Text,
        open_id: Text,
        union_id: Text,
        user_name: Text,
        email_sealed: Sealed,
        mobile_sealed: Sealed,
        auth_method: Text,
        state: Text,
        failure_reason: Text,
        scopes: List,
        card: Json,
        oauth_state_sha256: Bytes,
        oauth_state_sealed: Sealed,
        pkce_verifier_sealed: Sealed,
        code_sha256: Bytes,
        exchange_claim: Uuid,
        exchange_claimed_until: Time,
        message_id: Text,
        card_face: Text,
        card_asked_at: Time,
        created_at: Time,
        expires_at: Time,
        completed_at: Time,
        ended_at: Time,
    ],
    // A completed session's token is its person's.
    Some((
        "token_id",
        "case when r.state = 'completed' then (
             select token_id from access_tokens t
             where t.app_id = r.app_id and t.open_id = r.open_id and t.kind = 'user') end"
    ))
);

pub(super) static API_KEYS: Shape = shape!(
    "api_keys",
    key [key_id: Uuid],
    [name: Text, scopes: List, key_sha256: Bytes, created_at: Time, revoked_at: Time],
    None
);

pub(super) static PROCESSED_EVENTS: Shape =
    shape!("processed_events", key [consumer: Text, event_id: Text], [processed_at: Time], None);
