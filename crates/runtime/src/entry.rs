use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Arg, ArgAction, Command, value_parser};
use larkauth_config::{ConfigError, LoadOptions, SETTINGS, Service, Settings};

use crate::{ServiceHandle, healthcheck, shutdown_signal};

/// Exit code for a wrong or missing setting.
const EXIT_USAGE: u8 = 2;
/// Name of the command that asks a running service.
const HEALTHCHECK: &str = "healthcheck";
/// Its option: each part must work.
const ALL: &str = "all";

/// The whole `main` of a service: settings, telemetry, start, wait for a signal, stop in order, flush. With the command
/// `healthcheck`, asks a running one instead.
///
/// Exits 0 after an orderly stop, 2 for a wrong setting, 1 for everything else; each failure is one line on standard
/// error that says the cure.
pub fn service_main<F>(service: Service, about: &'static str, start: impl FnOnce(Settings) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<ServiceHandle>>,
{
    let Arguments { config_file, asked } = arguments(service, about, std::env::args_os());
    let settings = match Settings::load(&LoadOptions { config_file, service }) {
        Ok(settings) => settings,
        Err(error) => return fail(service, &error, EXIT_USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(service, &error, 1),
    };
    if let Some(Checked { all_parts }) = asked {
        return match runtime.block_on(healthcheck(settings.http.addr, all_parts)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(service, &format!("{error:#}"), 1),
        };
    }
    let code = runtime.block_on(async {
        let guard = match larkauth_telemetry::init(&settings.telemetry) {
            Ok(guard) => guard,
            Err(error) => return fail(service, &error, EXIT_USAGE),
        };
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let result = async { until_stopped(start(settings).await?, shutdown_signal()).await }.await;
        let code = match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let code = if error.is::<ConfigError>() { EXIT_USAGE } else { 1 };
                fail(service, &format!("{error:#}"), code)
            }
        };
        guard.shutdown().await;
        code
    });
    // All work has ended. A name lookup of the operating system that hangs would be waited for.
    runtime.shutdown_background();
    code
}

/// Waits for a signal, or for a part that fails, then until all work in progress is finished.
///
/// # Errors
/// As [`ServiceHandle::wait`].
pub async fn until_stopped(
    running: ServiceHandle,
    signal: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let stop = running.stop_token();
    tokio::select! {
        () = signal => tracing::info!("stopping: taking no new work, finishing work in progress"),
        () = stop.cancelled() => {}
    }
    running.stop();
    running.wait().await
}

/// What a service was started with.
struct Arguments {
    config_file: Option<PathBuf>,
    /// A running service is to be asked.
    asked: Option<Checked>,
}

/// Arguments of the command `healthcheck`.
struct Checked {
    all_parts: bool,
}

fn arguments(service: Service, about: &'static str, args: impl IntoIterator<Item = OsString>) -> Arguments {
    let width = SETTINGS.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
    let settings: String =
        SETTINGS.iter().map(|setting| format!("  {:width$}  {}\n", setting.name, setting.help())).collect();
    let endpoints = match service {
        Service::Gateway => {
            "/v1, /docs, /healthz, /readyz, /health, /metrics; for browsers and Lark: /oauth/callback, /lark/callback"
        }
        _ => "/healthz, /readyz, /health, /metrics",
    };
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("A TOML file with the settings below; the environment wins over it")
        .global(true)
        .action(ArgAction::Set)
        .value_parser(value_parser!(PathBuf));
    let mut matches = Command::new(service.name())
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .arg(config)
        .subcommand(
            Command::new(HEALTHCHECK)
                .about("Ask the running service on this machine whether it is ready; exits 0 when it is, else 1")
                .arg(Arg::new(ALL).long(ALL).help("Each of its parts must work").action(ArgAction::SetTrue)),
        )
        .after_help(format!(
            "Settings (environment variables; every secret X also as X_FILE):\n{settings}\nEndpoints: {endpoints}"
        ))
        .get_matches_from(args);
    let asked = matches.remove_subcommand().map(|(_, given)| Checked { all_parts: given.get_flag(ALL) });
    // A value given after the command is here, too.
    Arguments { config_file: matches.remove_one("config"), asked }
}

#[expect(
    clippy::print_stderr,
    reason = "the one line of a failed start belongs on standard error, also when RUST_LOG turns logs off"
)]
fn fail(service: Service, error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{}: {error}", service.name());
    ExitCode::from(code)
}
