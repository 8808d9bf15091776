//! Data that crosses a process border: message types with their routing keys, the queue topology, REST bodies, problem codes.
//!
//! What may live here: serialisable types and constants. What may not: behaviour, IO, a secret in the clear (a code on
//! the bus is sealed; `relay` names what only passes through). From here `contracts/asyncapi.yaml` is generated; `contracts/openapi.yaml` is generated from the
//! gateway's routes, whose bodies live here.
//!
//! Feature `schema` derives JSON schemas of the messages and adds `asyncapi`; feature `openapi` derives schemas of the REST
//! bodies. Both are off by default: a client needs neither. `schema` holds the schemas of the types of `models`.
//!
//! To add a message: a struct in [`message`], a routing key, a queue binding in [`topology`] if this project consumes
//! it, an entry in [`message::catalogue`]; then `scripts/generate`. A retired type stays readable for one release, so
//! that rolling deploys are safe. A type changes only by adding optional fields; anything else is a new version.

#[cfg(feature = "schema")]
pub mod asyncapi;
pub mod message;
pub mod problem;
pub mod relay;
pub mod rest;
#[cfg(any(feature = "openapi", feature = "schema"))]
pub mod schema;
pub mod topology;
