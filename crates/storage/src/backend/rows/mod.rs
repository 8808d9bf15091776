//! Rows as every database stores them, and their conversion to the domain's types.

mod api_keys;
mod applications;
mod people;
mod seal;
mod sessions;
mod tokens;

pub use self::{
    api_keys::ApiKeyRow,
    applications::{ApplicationRow, active_counts, due_application, registrations},
    people::{ProfileRow, UnannouncedRow, open_ids, suspensions},
    seal::RowSeal,
    sessions::{DevicePollRow, EndRow, SessionRow, claimed_cards},
    tokens::{LeasedRow, TokenRow, leased},
};

pub(super) use self::applications::app_id;

pub const APPLICATIONS: &str = "applications";
pub const SESSIONS: &str = "user_auth_sessions";
pub const TOKENS: &str = "access_tokens";
pub const PROFILES: &str = "user_profiles";
