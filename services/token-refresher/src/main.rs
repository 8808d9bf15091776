//! The token-refresher's process.

use std::process::ExitCode;

use larkauth_config::Service;

fn main() -> ExitCode {
    larkauth_runtime::service_main(
        Service::TokenRefresher,
        "Refreshes tokens and expires invitations on schedule, reconciles cards after a crash, purges old event records",
        larkauth_token_refresher::start,
    )
}
