use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use larkauth_auth::Context;
use larkauth_config::{LoadOptions, Service, Settings};
use larkauth_lark_sim::Sim;
use larkauth_models::{Clock, Entropy, ExposeSecret, OsEntropy, Timestamp};
use larkauth_telemetry::{Health, HealthPart, PartState};
use tempfile::TempDir;

use super::caller::{ByHand, Caller, STEP_TIMEOUT};
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
pub(crate) enum ServiceHealth {
    /// In this process.
    Here { health: Health, context: Context },
    /// Read from the gateway. `since` is the time from which a gateway that does not answer is reported.
    Elsewhere { caller: Caller, since: Timestamp },
}

/// What the page's server needs of the services.
pub(crate) struct DemoParts {
    /// The service that calls the gateway, with an API key.
    pub(crate) caller: Caller,
    /// Health of the services.
    pub(crate) health: ServiceHealth,
    /// Pages of the gateway for browsers.
    pub(crate) pages: GatewayPages,
    /// The services run in this process, by the clock of the demo.
    pub(crate) services_run_here: bool,
}

/// Where pages of the gateway for browsers are.
#[derive(Clone)]
pub(crate) struct GatewayPages {
    /// As redirects name them.
    pub(crate) named: String,
    /// As this process reaches them.
    pub(crate) reached: String,
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
        let by_hand = ByHand { base: base.to_owned(), key: key.expose_secret().to_owned() };
        let stage = Self { standalone, caller: Caller::new(base, key, by_hand)?, _folder: folder };
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
        ServiceHealth::Here { health: running.health.clone(), context: running.context.clone() }
    }

    /// Returns what the page's server needs of the services.
    pub(crate) fn parts(&self) -> DemoParts {
        let base = self.caller.base().to_owned();
        DemoParts {
            caller: self.caller(),
            health: self.health(),
            pages: GatewayPages { named: base.clone(), reached: base },
            services_run_here: true,
        }
    }

    /// Stops the services and removes their folder.
    pub(crate) async fn tear_down(self) -> anyhow::Result<()> {
        self.standalone.running.stop();
        self.standalone.running.wait().await
    }
}

impl ServiceHealth {
    /// Returns the parts that report their state.
    pub(crate) async fn parts(&self) -> Vec<HealthPart> {
        match self {
            Self::Here { health, .. } => health.report().parts,
            Self::Elsewhere { caller, since } => match caller.health().await {
                Ok(report) => report.parts,
                Err(error) => vec![HealthPart {
                    name: "gateway".to_owned(),
                    state: PartState::Failing,
                    since: *since,
                    reason: Some(format!("{error:#}")),
                }],
            },
        }
    }

    /// Returns the number of dead letters, or `None` while the bus does not answer, and for services that run elsewhere.
    pub(crate) async fn dead_letters(&self) -> Option<u64> {
        match self {
            Self::Here { context, .. } => context.dead_letter_count().await.ok(),
            Self::Elsewhere { .. } => None,
        }
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let ready = async {
            while !self.parts().await.iter().all(HealthPart::is_ok) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(STEP_TIMEOUT, ready).await.is_err() {
            let parts = self.parts().await;
            let reasons =
                parts.into_iter().filter_map(|part| Some(format!("{}: {}", part.name, part.reason?)));
            bail!("not ready: {}", reasons.collect::<Vec<_>>().join("; "));
        }
        Ok(())
    }
}
