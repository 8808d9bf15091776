//! The auth-worker's process.

use std::process::ExitCode;

use larkauth_config::Service;

fn main() -> ExitCode {
    larkauth_runtime::service_main(
        Service::AuthWorker,
        "Sends invitation cards, exchanges authorization codes, stores tokens, updates cards",
        larkauth_auth_worker::start,
    )
}
