//! Starts and stops the platform.

use std::{ops::Deref, time::Duration};

use tokio::net::TcpListener;

use crate::{
    config::SimConfig,
    error::SimError,
    http,
    net::{ConnectionControl, ConnectionControls, SimListener},
    sim::Sim,
};

/// Keeps a simulated platform running. Dropping it stops the platform without waiting.
#[derive(Debug)]
#[must_use = "dropping the handle stops the simulator"]
pub struct SimHandle(Sim);

impl Deref for SimHandle {
    type Target = Sim;
    fn deref(&self) -> &Sim {
        &self.0
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        self.0.stop_now();
    }
}

impl SimHandle {
    /// Stops listening, cuts all connections and waits until every task has ended (at most five seconds).
    pub async fn shutdown(self) {
        self.0.stop_now();
        let tasks = self.0.tasks();
        tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.is_err() {
            tracing::warn!(left = tasks.len(), "sim.shutdown.incomplete");
        }
    }
}

impl Sim {
    /// Starts a platform.
    ///
    /// # Errors
    /// [`SimError::NotLoopback`], [`SimError::AppId`] for a bad configuration, [`SimError::Listen`] when the address
    /// cannot be bound.
    pub async fn start(config: SimConfig) -> Result<SimHandle, SimError> {
        if !config.addr.ip().is_loopback() && !config.allow_non_loopback {
            return Err(SimError::NotLoopback(config.addr));
        }
        for app in &config.apps {
            app.check()?;
        }
        let tcp =
            TcpListener::bind(config.addr).await.map_err(|error| SimError::Listen(config.addr, error))?;
        let controls = ConnectionControls::default();
        let sim = Self::assemble(config, tcp.local_addr()?, controls.clone())?;
        let service = http::router(sim.clone()).into_make_service_with_connect_info::<ConnectionControl>();
        sim.spawn(async move {
            let server = axum::serve(SimListener { tcp, controls }, service);
            if let Err(error) = server.await {
                tracing::error!(%error, "sim.serve.failed");
            }
        });
        Ok(SimHandle(sim))
    }
}
