use askama::Template;
use axum::response::Response;

use crate::{
    failure::{Failure, Told},
    shell::{Shell, page_with},
};

/// The page of what failed.
#[derive(Template)]
#[template(path = "failure.html")]
pub(crate) struct FailurePage {
    shell: Shell,
    told: Told,
}

impl FailurePage {
    pub(crate) fn new(shell: Shell, failure: &Failure) -> Self {
        failure.log();
        Self { told: failure.told(shell.lang), shell }
    }

    pub(crate) fn respond(&self) -> Response {
        page_with(self.told.status, self)
    }
}
