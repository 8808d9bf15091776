//! The state of the parts that all processes share, for an operator: queues, applications with their breakers, budgets of
//! calls, the escrow spool.

use std::time::Duration;

use futures::future::join_all;
use larkauth_contracts::topology::Queue;
use larkauth_lark::api::EndpointClass;
use larkauth_messaging::BusHealth;
use larkauth_models::{Actor, AppId, CallRate, Lane, Timestamp};
use larkauth_storage::Registration;
use tokio::time::timeout;

use crate::{context::Context, error::AuthError, spool::SpoolState};

/// Time for one question to one part: 2 s. A part that does not answer hides no other one.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most applications whose budgets are looked at.
const MAX_BUDGETS: usize = 20;
/// The classes whose budgets are looked at: those that a wave of refreshes or of invitations uses up.
const CLASSES: [EndpointClass; 2] = [EndpointClass::Token, EndpointClass::MessageSend];

/// What [`Context::overview`] found. `None` in place of a number: its part did not answer.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Messages that wait in each queue.
    pub queues: Vec<(Queue, Option<u64>)>,
    /// Dead letters.
    pub dead_letters: Option<u64>,
    /// The applications that the actor sees, by id.
    pub applications: Option<Vec<AppOverview>>,
    /// Budgets of calls of these applications.
    pub budgets: Vec<BudgetOverview>,
    /// What is in the escrow spool of this process.
    pub spool: Option<SpoolState>,
}

/// The state of an application.
#[derive(Clone, Debug)]
pub struct AppOverview {
    /// Its id.
    pub app_id: AppId,
    /// Whether it is served.
    pub enabled: bool,
    /// Since when its breaker is open, and why.
    pub breaker: Option<(Timestamp, String)>,
    /// Its row cannot be decrypted.
    pub is_unreadable: bool,
}

/// How much of a budget of calls is granted ahead.
#[derive(Clone, Debug)]
pub struct BudgetOverview {
    /// The application.
    pub app_id: AppId,
    /// The class of endpoints.
    pub class: &'static str,
    /// How long the next call of a person waits. `None`: the store did not answer.
    pub wait: Option<Duration>,
    /// Part of the burst that is granted, in percent; above 100 calls wait.
    pub used: Option<u32>,
}

impl From<Registration> for AppOverview {
    fn from(registration: Registration) -> Self {
        let application = registration.application.ok();
        let is_unreadable = application.is_none();
        let breaker =
            application.and_then(|app| Some((app.frozen_since?, app.frozen_reason.unwrap_or_default())));
        Self { app_id: registration.app_id, enabled: registration.enabled, breaker, is_unreadable }
    }
}

impl Context {
    /// Returns the state of the parts that all processes share. Shows nothing of a person, and of applications those that the
    /// actor sees.
    pub async fn overview(&self, actor: &Actor, now: Timestamp) -> Overview {
        self.note_operation(actor, now, "overview");
        let spool = timeout(PATIENCE, self.spool.state());
        let (queues, dead_letters, applications, spool) = tokio::join!(
            self.queue_depths(),
            timeout(PATIENCE, self.bus.dead_letter_depth()),
            self.visible_applications(actor),
            spool
        );
        let applications = applications.ok();
        let budgets = match &applications {
            Some(applications) => self.budgets(applications).await,
            None => Vec::new(),
        };
        Overview {
            queues,
            dead_letters: dead_letters.ok().and_then(Result::ok),
            applications,
            budgets,
            spool: spool.ok().and_then(Result::ok),
        }
    }

    /// Returns the ids of the applications that the actor sees.
    ///
    /// # Errors
    /// The store's.
    pub async fn visible_app_ids(&self, actor: &Actor, now: Timestamp) -> Result<Vec<AppId>, AuthError> {
        self.note_operation(actor, now, "app.ids");
        let visible = self.visible_applications(actor).await?;
        Ok(visible.into_iter().map(|app| app.app_id).collect())
    }

    async fn visible_applications(&self, actor: &Actor) -> Result<Vec<AppOverview>, AuthError> {
        let known = self.store.applications().await?.into_iter().map(AppOverview::from);
        Ok(known.filter(|app| actor.may_use_app(&app.app_id)).collect())
    }

    async fn queue_depths(&self) -> Vec<(Queue, Option<u64>)> {
        // Each question would wait for its deadline.
        let is_down = matches!(*self.bus_health().borrow(), BusHealth::Down { .. });
        let depth = async |queue: Queue| match is_down {
            true => (queue, None),
            false => (queue, timeout(PATIENCE, self.bus.depth(queue)).await.ok().and_then(Result::ok)),
        };
        join_all(Queue::ALL.iter().map(|queue| depth(*queue))).await
    }

    async fn budgets(&self, applications: &[AppOverview]) -> Vec<BudgetOverview> {
        let apps = applications.iter().filter(|app| app.enabled).take(MAX_BUDGETS);
        let of_app = apps.flat_map(|app| CLASSES.map(|class| self.budget(&app.app_id, class)));
        join_all(of_app).await
    }

    async fn budget(&self, app_id: &AppId, class: EndpointClass) -> BudgetOverview {
        let rate = CallRate::LARK;
        // A request for no call takes none, and the answer tells the lead.
        let none = rate.request(Lane::People, 0, Duration::ZERO);
        let asking = timeout(PATIENCE, self.store.grant_calls(app_id, class.as_str(), &none));
        let lead = asking.await.ok().and_then(Result::ok).map(|granted| granted.lead);
        let burst = (rate.interval * rate.burst).as_micros().max(1);
        BudgetOverview {
            app_id: app_id.clone(),
            class: class.as_str(),
            wait: lead.map(|lead| rate.wait(Lane::People, lead, 0)),
            used: lead.map(|lead| u32::try_from(lead.as_micros() * 100 / burst).unwrap_or(u32::MAX)),
        }
    }
}
