//! Registered applications and their Lark clients.
//!
//! [`registry`] answers which application may do what. It stands on the [`cache`] of recent registrations, on the
//! [`client`] factory, on the [`names`] that Lark gives, and on the [`breaker`], which keeps an application that Lark refuses from inviting people.

mod app;
mod breaker;
mod cache;
mod client;
mod names;
mod registry;

pub use app::App;
pub use client::LarkSettings;
pub use registry::AppRegistry;
