//! One file per page.

pub(crate) mod app;
pub(crate) mod apps;
pub(crate) mod audit;
mod choice;
mod confirm;
mod cursor;
pub(crate) mod dead_letter;
pub(crate) mod dead_letters;
pub(crate) mod horizon;
pub(crate) mod language;
pub(crate) mod login;
pub(crate) mod overview;
pub(crate) mod people;
pub(crate) mod person;
pub(crate) mod session;
pub(crate) mod sessions;
pub(crate) mod token;
