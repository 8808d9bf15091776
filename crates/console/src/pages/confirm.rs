//! The page that asks before an action.

use askama::Template;
use axum::response::Response;

use crate::shell::{Shell, page};

/// A question, and the form that answers it.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Confirm {
    pub(super) shell: Shell,
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    /// What it is about: names and values.
    pub(super) about: Vec<(&'static str, String)>,
    /// Address of the form, the same as that of the page.
    pub(super) action: &'static str,
    /// Fields of the form.
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) button: &'static str,
    /// It cannot be undone.
    pub(super) is_dangerous: bool,
    /// Where to go without it.
    pub(super) back: String,
}

impl Confirm {
    pub(super) fn respond(&self) -> Response {
        page(self)
    }
}
