//! The token-refresher's process.

use std::process::ExitCode;

use larkauth_config::Service;

fn main() -> ExitCode {
    larkauth_runtime::service_main(
        Service::TokenRefresher,
        "Expires invitations on schedule, updates cards that a crash left out of date, deletes old event records",
        larkauth_token_refresher::start,
    )
}
