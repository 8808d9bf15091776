//! The gateway's process.

use std::process::ExitCode;

use larkauth_config::Service;

fn main() -> ExitCode {
    let about = "Takes what Lark pushes, brings browsers back from the consent page, and serves the REST API";
    larkauth_runtime::service_main(Service::Gateway, about, larkauth_gateway::start)
}
