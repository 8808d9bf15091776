//! The gateway from outside, on a real database; the broker is real where something must come back from it.

mod api;
mod audit;
mod callbacks;
mod connections;
mod console;
mod contract;
mod keys;
mod limits;
mod listeners;
mod pushes;
mod redirect;
mod tokens;
mod world;
