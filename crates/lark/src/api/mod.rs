//! The HTTP API, one method of [`LarkClient`] per call.
//!
//! To add a call: give it an `Api` constant and a method in the file of its topic. Choose `Repeat::Safe` only if
//! sending the request twice has the same effect as sending it once. Read the response field by field from
//! `Fields`, and require only what the caller cannot do without.

mod app_token;
mod application;
mod call;
mod client;
mod lifetime;
mod message;
mod oauth;
mod observer;
mod person;
mod rate_limiter;
mod response;
mod spec;
#[cfg(test)]
mod tests;
mod token_cache;

pub use client::{Endpoints, LarkClient, LarkClientOptions};
pub use message::{MAX_CARD_BYTES, Receiver};
pub use oauth::{AuthorizeRequest, CodeGrant, DeviceAuthorization, MAX_VERIFICATION_URI, pkce_challenge};
pub use observer::{CallObserver, NoObserver};
pub use person::{AccountStatus, Contact};
pub use rate_limiter::{EndpointClass, LocalRateLimiter, RateLimitExceeded, RateLimiter};
