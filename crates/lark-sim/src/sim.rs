//! The handle that drives the platform, and the state that its parts share.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use larkauth_models::{SecretString, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{SimApp, SimConfig},
    error::SimError,
    faults::{Endpoint, Faults},
    net::{ConnectionControl, ConnectionControls},
    state::{State, grants::Api, limits::TOKEN_ENDPOINT, sockets::ConnectionIds},
    users::{SimUser, UserStatus},
    violations::{Peak, Stats, Violation},
};

struct Shared {
    state: Mutex<State>,
    faults: Faults,
    config: SimConfig,
    base_url: String,
    http: reqwest::Client,
    browser: reqwest::Client,
    controls: ConnectionControls,
    stop: CancellationToken,
    tasks: TaskTracker,
    changes: watch::Sender<u64>,
}

/// A handle that drives a running platform. It is cheap to clone and does not keep the platform running.
#[derive(Clone)]
pub struct Sim(Arc<Shared>);

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("base_url", &self.0.base_url).finish_non_exhaustive()
    }
}

impl Sim {
    /// Assembles the platform that answers at `addr`; [`Sim::start`] serves it.
    pub(crate) fn assemble(
        config: SimConfig,
        addr: SocketAddr,
        controls: ConnectionControls,
    ) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            state: Mutex::new(State::new(&config)),
            faults: Faults::default(),
            base_url: config.base_url.clone().unwrap_or_else(|| format!("http://{addr}")),
            // Callbacks are never redirected; browsers of people are.
            http: client(reqwest::redirect::Policy::none())?,
            browser: client(reqwest::redirect::Policy::limited(5))?,
            controls,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            changes: watch::channel(0).0,
            config,
        })))
    }

    /// Stops every task and cuts every connection, without waiting for either.
    pub(crate) fn stop_now(&self) {
        self.0.stop.cancel();
        self.0.controls.cut_all();
    }

    /// Returns the base of the open API, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// Returns the base of the accounts pages; here the same as [`Self::base_url`].
    #[must_use]
    pub fn accounts_url(&self) -> &str {
        &self.0.base_url
    }

    /// Returns an application as the developer console shows it.
    #[must_use]
    pub fn app(&self, app_id: &str) -> Option<SimApp> {
        self.state().apps.get(app_id).cloned()
    }

    /// Returns all applications.
    #[must_use]
    pub fn apps(&self) -> Vec<SimApp> {
        self.state().apps.values().cloned().collect()
    }

    /// Registers one more application, or replaces the one of the same id.
    ///
    /// # Errors
    /// [`SimError::AppId`].
    pub fn put_app(&self, app: SimApp) -> Result<(), SimError> {
        app.check()?;
        self.state().add_app(app);
        Ok(())
    }

    /// Changes an application.
    ///
    /// # Errors
    /// [`SimError::NoApp`].
    pub fn change_app(&self, app_id: &str, change: impl FnOnce(&mut SimApp)) -> Result<(), SimError> {
        let mut app = self.app(app_id).ok_or(SimError::NoApp)?;
        change(&mut app);
        self.put_app(app)
    }

    /// Returns all people, in the order in which they were added.
    #[must_use]
    pub fn users(&self) -> Vec<SimUser> {
        self.state().users.all().cloned().collect()
    }

    /// Adds a person.
    pub fn add_user(&self, user: SimUser) {
        self.state().add_user(user);
    }

    /// Removes a person. The platform no longer knows them.
    ///
    /// # Errors
    /// [`SimError::NoUser`].
    pub fn remove_user(&self, open_id: &str) -> Result<(), SimError> {
        let union_id = self.person(open_id)?.union_id;
        self.state().users.remove(&union_id).then_some(()).ok_or(SimError::NoUser)
    }

    /// Changes the status of a person.
    ///
    /// # Errors
    /// [`SimError::NoUser`].
    pub fn set_status(&self, open_id: &str, status: UserStatus) -> Result<(), SimError> {
        let union_id = self.person(open_id)?.union_id;
        self.state().users.get_mut(&union_id).map(|user| user.status = status).ok_or(SimError::NoUser)
    }

    /// Returns the person with this `open_id` of any application.
    ///
    /// # Errors
    /// [`SimError::NoUser`].
    pub fn person(&self, open_id: &str) -> Result<SimUser, SimError> {
        self.state().users.resolve(open_id).map(|(_, user)| user.clone()).ok_or(SimError::NoUser)
    }

    /// Returns the `open_id` of a person in this application.
    #[must_use]
    pub fn open_id(&self, app_id: &str, user: &SimUser) -> String {
        self.state().users.open_id(app_id, user)
    }

    /// Returns the planned faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Returns the violations, oldest first.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.state().violations.list()
    }

    /// Returns the busiest windows of an application at the token endpoint.
    #[must_use]
    pub fn token_endpoint_peak(&self, app_id: &str) -> Peak {
        self.state().peak(TOKEN_ENDPOINT, app_id)
    }

    /// Issues a pair of tokens, as if the person had consented and the application had exchanged the code. Returns the
    /// access token and the refresh token.
    ///
    /// # Errors
    /// [`SimError::NoUser`].
    pub fn issue_tokens(
        &self,
        app_id: &str,
        open_id: &str,
        scope: &str,
    ) -> Result<(SecretString, Option<SecretString>), SimError> {
        let union_id = self.person(open_id)?.union_id;
        let now = self.now();
        let mut state = self.state();
        state.grant_scopes(app_id, &union_id, scope);
        let scopes = state.granted(app_id, &union_id);
        let issued = state.issue_pair(now, app_id, &union_id, scopes, now, Api::V2);
        drop(state);
        let refresh = issued.refresh.map(|(token, _)| SecretString::from(token));
        Ok((SecretString::from(issued.access_token), refresh))
    }

    /// Clears the violations.
    pub fn clear_violations(&self) {
        self.state().violations.clear();
    }

    /// Counters of the platform.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.state();
        Stats { connections_open: state.sockets.connections.len() as u64, ..state.stats.clone() }
    }

    /// Returns every token, code, ticket, verifier, secret, mobile and email that was issued or is known. For tests
    /// that search for leaks.
    #[must_use]
    pub fn issued_secrets(&self) -> Vec<String> {
        self.state().issued_secrets()
    }

    /// Returns the number of long connections of an application.
    #[must_use]
    pub fn connections(&self, app_id: &str) -> usize {
        self.state().connections_of(app_id)
    }

    /// Cuts the TCP connections of an application's long connections (of all applications for `None`). Returns their
    /// number.
    pub fn drop_connections(&self, app_id: Option<&str>) -> usize {
        self.break_connections(|ids| app_id.is_none_or(|id| ids.app_id == id), ConnectionControl::cut)
    }

    /// Makes long connections half-open: reads and writes stall, the sockets stay open. Returns their number.
    pub fn half_open_connections(&self, app_id: Option<&str>) -> usize {
        self.break_connections(|ids| app_id.is_none_or(|id| ids.app_id == id), ConnectionControl::stall)
    }

    /// Cuts one connection.
    pub(crate) fn drop_connection(&self, device_id: &str) {
        self.break_connections(|ids| ids.device_id == device_id, ConnectionControl::cut);
    }

    fn break_connections(
        &self,
        which: impl Fn(&ConnectionIds) -> bool,
        how: impl Fn(&ConnectionControl),
    ) -> usize {
        let controls: Vec<_> = {
            let state = self.state();
            let hit = state.sockets.connections.iter().filter(|open| which(&open.ids));
            hit.map(|connection| connection.control.clone()).collect()
        };
        controls.iter().for_each(how);
        controls.len()
    }

    /// Waits until `look` returns a value. `look` is called again after every change of the platform's state.
    ///
    /// # Errors
    /// [`SimError::Deadline`].
    pub async fn wait_until<T>(
        &self,
        deadline: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, SimError> {
        let mut changes = self.0.changes.subscribe();
        let seen = async {
            loop {
                if let Some(seen) = look(self) {
                    return seen;
                }
                // The sender is part of `self`, so this only returns after a change.
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(deadline, seen).await.map_err(|_| SimError::Deadline)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    pub(crate) fn config(&self) -> &SimConfig {
        &self.0.config
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.config.clock.now()
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    pub(crate) fn browser(&self) -> &reqwest::Client {
        &self.0.browser
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Wakes the callers of [`Self::wait_until`].
    pub(crate) fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Counts a call. [`Sim::wait_until`] sees it before the call is answered.
    pub(crate) fn count_call(&self, endpoint: Endpoint) {
        *self.state().stats.calls.entry(endpoint).or_default() += 1;
        self.changed();
    }

    pub(crate) async fn stopped(&self) {
        self.0.stop.cancelled().await;
    }

    /// Waits for the duration, or until the simulator stops.
    pub(crate) async fn wait(&self, duration: Duration) {
        tokio::select! {
            () = self.stopped() => {}
            () = tokio::time::sleep(duration) => {}
        }
    }

    /// Waits until the simulator stops.
    pub(crate) async fn hang(&self) {
        self.stopped().await;
    }

    /// Runs a task that ends when the simulator stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}

fn client(redirects: reqwest::redirect::Policy) -> io::Result<reqwest::Client> {
    larkauth_net::Network::default()
        .client_builder()
        .timeout(Duration::from_secs(10))
        .redirect(redirects)
        .build()
        .map_err(io::Error::other)
}
