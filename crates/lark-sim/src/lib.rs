//! A Lark/Feishu open platform in one process: for tests, for the demo, for `larkauth sim`.
//!
//! It keeps real state and applies real rules: codes and refresh tokens work once, PKCE and redirect URIs are checked,
//! codes and tokens expire, applications are limited, a push goes to one connection of many. People are simulated too:
//! they click cards, consent, decline, or consent in place of another person. Faults can be planned ([`Faults`]), and
//! acts that a correct client never commits are recorded ([`Violation`]).
//!
//! It is an independent reading of the platform's documentation. From the client (`larkauth-lark`) it takes the frame's
//! wire format only, so that a misunderstanding there cannot cancel itself out here.
//!
//! `error`, `config`, `users`, `faults`, `violations` and `net` are at the bottom. `state` holds the tables, `rules`
//! the platform's rules over them, `sim` the shared handle. `callback`, `ws`, `http` and `control` are the transports,
//! `drive` and `behaviour` the people, `server` starts everything.
//!
//! ```no_run
//! # async fn example() -> Result<(), larkauth_lark_sim::SimError> {
//! use larkauth_lark_sim::{Sim, SimConfig};
//! let sim = Sim::start(SimConfig::demo()).await?;
//! // point LARK_BASE_URL and LARK_ACCOUNTS_URL at `sim.base_url()`, then:
//! let user = sim.users().remove(0);
//! let second = std::time::Duration::from_secs(1);
//! let card = sim.wait_for_card(&user.open_id, second, |_| true).await?;
//! let outcome = sim.click(&card.message_id, 0, &user.open_id).await?;
//! assert!(outcome.answered && sim.violations().is_empty());
//! sim.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! To add an endpoint: a variant in [`Endpoint`], its rule as a method of `State` (`rules/`), its HTTP form in `http/`.

mod behaviour;
mod callback;
mod config;
mod control;
mod drive;
mod envelope;
mod error;
mod faults;
mod http;
mod net;
mod pages;
mod rules;
mod server;
mod sim;
mod state;
mod users;
mod violations;
mod ws;

pub use config::{Delivery, Lifetimes, Limits, SimApp, SimConfig, Socket};
pub use drive::{ButtonRef, ClickOutcome, Page};
pub use error::{PushError, SimError};
pub use faults::{Effect, Endpoint, Fault, Faults, Frames};
pub use server::SimHandle;
pub use sim::Sim;
pub use state::{
    cards::Button,
    messages::{Face, FaceOrigin, Message},
};
pub use users::{Behaviour, SimUser, UserStatus};
pub use violations::{Peak, Stats, Violation, ViolationKind};
