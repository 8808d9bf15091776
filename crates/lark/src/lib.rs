//! The client of the Lark/Feishu open platform: the HTTP API ([`api`]), the long connection ([`long_connection`]), HTTP
//! callbacks ([`callback`]), the events of both ([`event`]), webhooks of other programs ([`webhook`]), and the cards in
//! chats ([`card`]).
//!
//! This crate holds the platform's protocols and the meaning of its responses. It does not hold the decisions of larkauth,
//! a database or a broker. Clock, rate limiter, deadlines and observers are arguments. Errors name the kind of failure
//! and whether a retry is safe, and hold no part of the request. To add a call see [`api`], a code see [`error`], a
//! card's face see [`card`].
//!
//! `examples/long_connection.rs` runs the client and the long connection with settings from the environment.

pub mod api;
pub mod callback;
pub mod card;
pub mod error;
pub mod event;
pub mod event_type;
pub mod frame;
mod http;
mod lenient;
pub mod long_connection;
pub mod webhook;

pub use api::{
    AccountStatus, AuthorizeRequest, CallObserver, CodeGrant, Contact, DeviceAuthorization, EndpointClass,
    Endpoints, LarkClient, LarkClientOptions, LocalRateLimiter, NoObserver, RateLimitExceeded, RateLimiter,
    Receiver, pkce_challenge,
};
pub use callback::{Callback, CallbackError, CallbackVerifier};
pub use error::{Cause, ErrorKind, LarkError, MessageProblem, Outcome, ScopeHolder};
pub use event::{CardAction, Event, EventError, Operator, PushForm};
pub use http::{HttpTimeouts, MAX_BODY, http_client, http_reason};
