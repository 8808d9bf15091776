use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use larkauth_auth::Context;
use larkauth_config::{LoadOptions, Service, Settings};
use larkauth_lark_sim::Sim;
use larkauth_models::{Clock, Entropy, ExposeSecret, OsEntropy};
use larkauth_telemetry::{Health, HealthPart};
use tempfile::TempDir;

use super::caller::{Caller, STEP_TIMEOUT};
use crate::{
    report,
    standalone::{self, Standalone},
};

/// larkauth as `larkauth standalone` runs it, on a folder of its own that is removed afterwards.
pub(crate) struct Stage {
    standalone: Standalone,
    caller: Caller,
    _folder: TempDir,
}

/// Health of the services.
#[derive(Clone)]
pub(crate) struct ServiceHealth {
    health: Health,
    context: Context,
}

impl Stage {
    /// Starts everything with the simulator's application, the gateway at `base`, and waits until it is ready.
    pub(crate) async fn build(sim: &Sim, base: &str, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let app = sim.apps().into_iter().next().context("the simulator has no application")?;
        let folder =
            tempfile::Builder::new().prefix("larkauth-demo-").tempdir().context("no temporary folder")?;
        let key = OsEntropy.secret_token();
        // The environment is ignored: the demo must not reach a real database or a real Lark.
        let pairs = [
            ("DATA_DIR", folder.path().join("data").display().to_string()),
            ("HTTP_ADDR", base.trim_start_matches("http://").to_owned()),
            ("API_KEY", key.expose_secret().to_owned()),
            ("APP_ID", app.app_id.clone()),
            ("APP_SECRET", app.secret.expose_secret().to_owned()),
            ("LARK_BASE_URL", sim.base_url().to_owned()),
            ("LARK_ACCOUNTS_URL", sim.accounts_url().to_owned()),
            ("OAUTH_REDIRECT_URI", format!("{base}/oauth/callback")),
            // A person who tries the demo asks more often than a service should.
            ("AUTH_REQUEST_RATE_LIMIT", "100".to_owned()),
        ];
        let options = LoadOptions { config_file: None, service: Service::Standalone };
        let settings = Settings::from_pairs(&options, pairs.map(|(name, value)| (name.to_owned(), value)))?;
        let standalone = standalone::start(&settings, clock).await?;
        let stage = Self { standalone, caller: Caller::new(base, key)?, _folder: folder };
        stage.health().until_ready().await?;
        report::done("larkauth is ready: gateway, auth-worker and token-refresher in one process", base);
        Ok(stage)
    }

    /// Returns a caller of the gateway.
    pub(crate) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Health of the services.
    pub(crate) fn health(&self) -> ServiceHealth {
        let running = &self.standalone.running;
        ServiceHealth { health: running.health.clone(), context: running.context.clone() }
    }

    /// Stops the services and removes their folder.
    pub(crate) async fn tear_down(self) -> anyhow::Result<()> {
        self.standalone.running.stop();
        self.standalone.running.wait().await
    }
}

impl ServiceHealth {
    /// Returns the parts that report their state.
    pub(crate) fn parts(&self) -> Vec<HealthPart> {
        self.health.report().parts
    }

    /// Returns the number of dead letters, or `None` while the bus does not answer.
    pub(crate) async fn dead_letters(&self) -> Option<u64> {
        self.context.dead_letter_count().await.ok()
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let ready = async {
            while !self.parts().iter().all(HealthPart::is_ok) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(STEP_TIMEOUT, ready).await.is_err() {
            let reasons =
                self.parts().into_iter().filter_map(|part| Some(format!("{}: {}", part.name, part.reason?)));
            bail!("not ready: {}", reasons.collect::<Vec<_>>().join("; "));
        }
        Ok(())
    }
}
