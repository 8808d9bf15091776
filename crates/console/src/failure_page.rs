use askama::Template;
use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use larkauth_contracts::problem::seconds_to_wait;

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
        let mut response = page_with(self.told.status, self);
        let retry_after = self.told.retry_after.map(|wait| HeaderValue::from(seconds_to_wait(wait)));
        response.headers_mut().extend(retry_after.map(|seconds| (header::RETRY_AFTER, seconds)));
        response
    }
}
