//! The auth-worker consumes the queues with the handlers of `larkauth-auth`.
//!
//! What may live here: wiring and edges. What may not: a decision, SQL, AMQP.

use axum::Router;
use larkauth_auth::handlers;
use larkauth_config::Settings;
use larkauth_runtime::{Process, Routes, ServiceHandle};

/// Starts the service; it works until [`ServiceHandle::stop`].
///
/// # Errors
/// One line that says which part failed and the cure.
pub async fn start(settings: Settings) -> anyhow::Result<ServiceHandle> {
    let process = Process::start(&settings).await?;
    spawn_tasks(&process, &settings);
    process.serve(Routes::on_one_listener(Router::new()))
}

/// Spawns the service's tasks in a process that may hold others too.
pub fn spawn_tasks(process: &Process, settings: &Settings) {
    for (consume, handler) in handlers::consumers(&process.context, settings.worker.concurrency) {
        let (context, stopping) = (process.context.clone(), process.stopping.clone());
        process.spawn(
            "a queue's consumer",
            async move { Ok(context.consume(consume, handler, stopping).await?) },
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larkauth_auth::Policy;
    use larkauth_config::{LoadOptions, Service};

    use super::*;

    #[test]
    fn shutdown_grace_outlasts_a_handler() {
        let options = LoadOptions { config_file: None, service: Service::Standalone };
        let settings = Settings::from_pairs(&options, std::iter::empty()).unwrap();
        assert!(settings.shutdown_grace > Policy::default().handler_deadline);
        assert!(settings.shutdown_grace < Duration::from_secs(30), "Kubernetes kills then");
    }
}
