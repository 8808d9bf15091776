//! The Lark/Feishu open platform's client: the HTTP API ([`api`]), the long connection ([`long_connection`]), HTTP
//! callbacks ([`callback`]), what both push ([`event`]), and the cards people see ([`card`]).
//!
//! What may live here: how Lark speaks and what its answers mean. What may not: what larkauth does about them, a
//! database, a broker. Time, deadlines and observation are arguments; errors name whose fault it is and whether
//! repeating is safe, and never repeat what was sent. To teach it a call see [`api`], a code see [`error`],
//! a card's face see [`card`].

pub mod api;
pub mod callback;
pub mod card;
pub mod error;
pub mod event;
pub mod frame;
mod http;
pub mod long_connection;

pub use api::{
    AccountStatus, AuthorizeRequest, CallObserver, CodeGrant, Contact, DeviceAuthorization, EndpointClass,
    Endpoints, LarkClient, LarkClientOptions, LocalRateLimiter, NoObserver, RateLimitExceeded, RateLimiter,
    Receiver, pkce_challenge,
};
pub use callback::{Callback, CallbackError, CallbackVerifier};
pub use error::{Cause, ErrorKind, LarkError, MessageProblem, Outcome, ScopeHolder};
pub use event::{CardAction, Event, EventError, Operator};
pub use http::{HttpTimeouts, MAX_BODY, http_client, http_reason};
