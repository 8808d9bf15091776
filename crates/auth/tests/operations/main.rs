//! The operations against a real database and a simulated Lark, with a clock that stands still and a bus that only
//! records. What needs a real bus is in `live.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod announcements;
mod audit;
mod bootstrap;
mod budget;
mod card_faces;
mod clicks;
mod clocks;
mod codes;
mod dead_letters;
mod device_faults;
mod devices;
mod disabled;
mod encryption_keys;
mod escrow;
mod fixture;
mod invitations;
mod jobs;
mod live;
mod maintenance;
mod no_access_token;
mod people;
mod reads;
mod reauthorizations;
mod refreshes;
mod relay;
mod slow;
mod tokens;
mod unlimited;
mod waits;
mod wrong_secret;
