//! The state of the platform: tables by topic, and what all rules need. One lock guards it. Nothing here waits.

pub(crate) mod cards;
pub(crate) mod codes;
pub(crate) mod devices;
pub(crate) mod grants;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod messages;
pub(crate) mod sockets;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use larkauth_models::{Entropy, ExposeSecret, SecretString, Timestamp};

use self::{
    codes::Refusal, devices::Devices, grants::Grants, limits::Limiter, messages::Messages, sockets::Sockets,
};
use crate::{
    config::{Lifetimes, Limits, SimApp, SimConfig},
    users::{SimUser, UserStatus, Users},
    violations::{Peak, Stats, ViolationKind, Violations},
};

/// State of the platform.
pub(crate) struct State {
    pub(crate) apps: BTreeMap<String, SimApp>,
    pub(crate) users: Users,
    pub(crate) grants: Grants,
    pub(crate) devices: Devices,
    pub(crate) messages: Messages,
    pub(crate) sockets: Sockets,
    pub(crate) violations: Violations,
    pub(crate) stats: Stats,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) limits: Limits,
    pub(crate) templates: BTreeMap<String, serde_json::Value>,
    limiter: Limiter,
    /// Running refreshes by (application, person).
    refreshing: HashMap<(String, String), u32>,
    issued: VecDeque<String>,
    entropy: Arc<dyn Entropy>,
}

const ISSUED_CAPACITY: usize = 100_000;

impl State {
    pub(crate) fn new(config: &SimConfig) -> Self {
        let mut state = Self {
            apps: BTreeMap::new(),
            users: Users::default(),
            grants: Grants::default(),
            devices: Devices::default(),
            messages: Messages::default(),
            sockets: Sockets::default(),
            violations: Violations::default(),
            stats: Stats::default(),
            lifetimes: config.lifetimes,
            limits: config.limits,
            templates: config.templates.clone(),
            limiter: Limiter::default(),
            refreshing: HashMap::new(),
            issued: VecDeque::new(),
            entropy: Arc::clone(&config.entropy),
        };
        for app in &config.apps {
            state.add_app(app.clone());
        }
        for user in &config.users {
            state.add_user(user.clone());
        }
        state
    }

    pub(crate) fn add_app(&mut self, app: SimApp) {
        let optional = [&app.verification_token, &app.encrypt_key];
        for secret in optional.into_iter().flatten().chain([&app.secret]) {
            self.remember_secret(secret.expose_secret());
        }
        self.users.add_app(&app.app_id);
        self.apps.insert(app.app_id.clone(), app);
    }

    pub(crate) fn add_user(&mut self, user: SimUser) {
        for secret in [&user.email, &user.mobile].into_iter().flatten() {
            self.remember_secret(secret);
        }
        self.users.add(user);
    }

    /// Records a secret that must never appear in a log.
    pub(crate) fn remember_secret(&mut self, secret: &str) {
        if self.issued.len() == ISSUED_CAPACITY {
            self.issued.pop_front();
        }
        self.issued.push_back(secret.to_owned());
    }

    pub(crate) fn issued_secrets(&self) -> Vec<String> {
        let mut secrets: Vec<_> = self.issued.iter().cloned().collect();
        secrets.sort_unstable();
        secrets.dedup();
        secrets
    }

    /// Issues a secret of this many random characters.
    pub(crate) fn issue(&mut self, prefix: &str, length: usize) -> String {
        let text = format!("{prefix}{}", self.random_text(length));
        self.remember_secret(&text);
        text
    }

    /// Returns a new public id: `prefix` and 32 hexadecimal digits.
    pub(crate) fn fresh_id(&self, prefix: &str) -> String {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        format!("{prefix}{}", hex::encode(bytes))
    }

    pub(crate) fn random_text(&self, length: usize) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bytes = vec![0; length];
        self.entropy.fill(&mut bytes);
        bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect()
    }

    /// Returns a uniformly distributed number below `bound`, which must not be zero.
    pub(crate) fn random_below(&self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % bound as u64).unwrap_or(0)
    }

    /// Returns the application with these credentials. Fails with the code of the token endpoint.
    pub(crate) fn authenticate(&self, app_id: &str, secret: &str) -> Result<&SimApp, Refusal> {
        let app = self.apps.get(app_id).ok_or(Refusal::oauth(20048))?;
        if app.secret.expose_secret() != secret {
            return Err(Refusal::oauth(20002));
        }
        if !app.enabled {
            return Err(Refusal::oauth(20069));
        }
        Ok(app)
    }

    /// Counts a call against the limit of this group of endpoints.
    pub(crate) fn limit(&mut self, group: &str, app_id: &str, now: Timestamp) -> Result<(), Refusal> {
        let key = format!("{group}/{app_id}");
        let Err(seconds) = self.limiter.check(&key, now, self.limits.per_second, self.limits.per_minute)
        else {
            return Ok(());
        };
        self.violations.add(now, ViolationKind::LimitExceeded, app_id, group);
        Err(Refusal::too_many_requests(seconds))
    }

    /// Returns the busiest windows of a group of endpoints.
    pub(crate) fn peak(&self, group: &str, app_id: &str) -> Peak {
        self.limiter.peak(&format!("{group}/{app_id}"))
    }

    /// Counts a message or an update against its own limit per second.
    pub(crate) fn limit_each(
        &mut self,
        key: &str,
        app_id: &str,
        now: Timestamp,
        per_second: usize,
    ) -> Result<(), Refusal> {
        let minute = per_second.saturating_mul(60);
        if self.limiter.check(key, now, per_second, minute).is_ok() {
            return Ok(());
        }
        let group = key.split('/').next().unwrap_or_default().to_owned();
        self.violations.add(now, ViolationKind::LimitExceeded, app_id, group);
        Err(Refusal::new(400, 230_020, "This operation triggers the frequency limit."))
    }

    /// Returns the person. Fails when the token endpoint does not serve them.
    pub(crate) fn check_user(&self, union_id: &str) -> Result<&SimUser, Refusal> {
        let user = self.users.get(union_id).ok_or(Refusal::oauth(20008))?;
        match user.status {
            UserStatus::Active | UserStatus::BotStopped => Ok(user),
            UserStatus::OutOfRange => Err(Refusal::oauth(20010)),
            UserStatus::Frozen | UserStatus::Resigned | UserStatus::Exited | UserStatus::NotRegistered => {
                Err(Refusal::oauth(20066))
            }
        }
    }

    /// Marks a refresh as running. Concurrent refreshes for one person are a violation.
    pub(crate) fn begin_refresh(&mut self, now: Timestamp, app_id: &str, union_id: &str) {
        let running = self.refreshing.entry((app_id.to_owned(), union_id.to_owned())).or_default();
        *running += 1;
        if *running > 1 {
            self.violations.add(now, ViolationKind::RefreshesInFlight, app_id, union_id);
        }
    }

    pub(crate) fn end_refresh(&mut self, app_id: &str, union_id: &str) {
        let key = (app_id.to_owned(), union_id.to_owned());
        if let Some(running) = self.refreshing.get_mut(&key) {
            *running -= 1;
            if *running == 0 {
                self.refreshing.remove(&key);
            }
        }
    }
}

/// Returns the text of a secret, empty without one.
pub(crate) fn exposed(secret: Option<&SecretString>) -> &str {
    secret.map_or("", |secret| secret.expose_secret())
}

/// Returns `now` plus a duration, at most the maximum timestamp.
pub(crate) fn after(now: Timestamp, by: std::time::Duration) -> Timestamp {
    chrono::TimeDelta::from_std(by)
        .ok()
        .and_then(|by| now.checked_add_signed(by))
        .unwrap_or(Timestamp::MAX_UTC)
}
