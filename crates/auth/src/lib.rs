//! The domain's operations: inviting, taking clicks and redirects, exchanging codes, serving tokens, ending sessions.
//!
//! What may live here: decisions. What may not: SQL, AMQP, HTTP servers. This crate knows the traits
//! [`larkauth_storage::Store`] and [`larkauth_messaging::Bus`] and Lark's client, and not what is behind them.
//!
//! [`Context`] is the one way in: every operation is one of its methods, and its fields are private. An operation that
//! changes something or reads a secret takes who asks ([`Actor`](larkauth_models::Actor)) and when.
//!
//! The way of the data, by module: [`sessions`] creates an invitation → [`handlers`] send the card → [`callbacks`] take the
//! click and [`redirect`] the browser → `consent` exchanges the code and ends the session, `escrow` keeps the tokens in
//! between → [`handlers`] update the card to its final face → `tokens` serves the token, `refresh` keeps it alive, within the
//! rate limit that `rate_limit` shares between processes, `user_sync` looks its person up and suspends it, `reauthorize` asks
//! the person again. `relay`
//! passes on what is not larkauth's. [`jobs`] expire sessions and reconcile cards. `apps` holds the registered
//! applications, `registrations`, [`api_keys`], `encryption_keys` (with `key_use`), `horizon`, `people`, `token_list`, `overview`, `backup`,
//! `dead_letters` and `console_sessions` what an operator does, [`capacity`] what an application can carry, `audit` the record of all that, `process` what a service needs, `database_clock` the time that
//! counts, `reads` what a process keeps in memory of the store.
//!
//! To add an operation: a method of [`Context`] in the module of its subject, which records itself as `audit` says, or calls
//! `note_operation` when it neither changes nor shows anything of a person or a secret. To add a
//! message: its type in `larkauth-contracts`, a handler here that decodes, calls one operation and maps the result, a line
//! in [`handlers::consumers`]. To add a scheduled job: an entry in [`jobs::all`].

pub mod api_keys;
mod apps;
mod audit;
mod audit_log;
mod audit_queue;
mod audit_repeats;
mod backup;
pub mod callbacks;
pub mod capacity;
mod cards;
mod changes;
mod consent;
mod console_sessions;
mod context;
mod database_clock;
mod dead_letters;
mod encryption_keys;
mod error;
mod escrow;
mod event_id;
mod events;
pub mod handlers;
mod horizon;
pub mod jobs;
mod key_use;
mod key_watch;
mod overview;
mod people;
mod people_policy;
mod policy;
mod process;
mod rate_limit;
mod reads;
mod reauthorize;
pub mod redirect;
mod refresh;
mod refresh_schedule;
mod registrations;
mod relay;
mod schedule;
mod seal;
pub mod sessions;
mod side_effect;
mod spool;
mod token_list;
mod tokens;
mod user_sync;
mod worker;

pub use apps::{App, AppRegistry, LarkSettings};
pub use audit::audit_view;
pub use console_sessions::ConsoleSession;
pub use context::{Context, ContextParts};
pub use database_clock::DatabaseClock;
pub use encryption_keys::{KeyRotation, ListedKey, Retirement};
pub use error::AuthError;
pub use horizon::{HorizonPage, TokenStanding};
pub use key_use::check_keys_open;
pub use overview::{AppOverview, BudgetOverview, Overview};
pub use people::{ErasedPerson, pseudonym};
pub use people_policy::{ReauthorizePolicy, UserSyncPolicy};
pub use policy::{AuditTimings, Policy, WebhookTimings};
pub use process::check_writes;
pub use rate_limit::SharedRateLimiter;
pub use refresh_schedule::{Life, RefreshSchedule};
pub use side_effect::{FaultPoint, Faults, SideEffect};
pub use spool::{EscrowSpool, SpoolState};
