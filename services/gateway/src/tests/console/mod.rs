//! The operator console, as a browser sees it.

mod browser;
mod forms;
mod login;
mod pages;
mod restricted;
