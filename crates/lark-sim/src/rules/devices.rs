//! The device flow (RFC 8628).

use std::time::Duration;

use larkauth_models::Timestamp;

use super::grants::Issued;
use crate::{
    state::{
        State, after,
        codes::Refusal,
        devices::{Decision, Device},
        grants::Api,
    },
    violations::ViolationKind,
};

/// Path of the page on which a person types the user code.
pub(crate) const PAGE_PATH: &str = "/oauth/v1/device/verify";

/// Reasons for a poll without a token: a code of the token endpoint or an `error` of RFC 8628.
pub(crate) enum PollRefusal {
    Refused(Refusal),
    Rfc8628(&'static str),
}

/// A started device flow.
pub(crate) struct Started {
    pub(crate) device_code: String,
    pub(crate) user_code: String,
}

impl State {
    pub(crate) fn start_device(&mut self, now: Timestamp, app_id: &str, scope: &str) -> Started {
        let device_code = self.issue("", 64);
        // Easy to read aloud and to type: no letters that look alike.
        const LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";
        let letter = || char::from(LETTERS[self.random_below(LETTERS.len())]);
        let user_code: String = (0..9).map(|i| if i == 4 { '-' } else { letter() }).collect();
        self.remember_secret(&user_code);
        let device = Device {
            app_id: app_id.to_owned(),
            scope: scope.to_owned(),
            expires_at: after(now, self.lifetimes.device),
            interval: self.lifetimes.device_interval,
            last_poll: None,
            decision: Decision::Pending,
        };
        self.devices.by_code.insert(device_code.clone(), device);
        self.devices.codes.insert(user_code.clone(), device_code.clone());
        Started { device_code, user_code }
    }

    /// Returns the flow of a user code while a decision is pending.
    pub(crate) fn pending_device(&self, now: Timestamp, user_code: &str) -> Option<&Device> {
        let device = self.devices.by_code.get(self.devices.codes.get(user_code)?)?;
        (now < device.expires_at && matches!(device.decision, Decision::Pending)).then_some(device)
    }

    /// Records the decision of the person. Returns false when no such flow is pending.
    pub(crate) fn decide_device(&mut self, now: Timestamp, user_code: &str, union_id: Option<&str>) -> bool {
        let Some(device) = self.pending_device(now, user_code) else { return false };
        let (app_id, scope) = (device.app_id.clone(), device.scope.clone());
        let decision = match union_id {
            Some(union_id) => {
                self.grant_scopes(&app_id, union_id, &scope);
                Decision::Granted { union_id: union_id.to_owned(), at: now }
            }
            None => Decision::Denied,
        };
        let code = self.devices.codes.get(user_code).cloned().unwrap_or_default();
        self.devices.by_code.get_mut(&code).map(|device| device.decision = decision).is_some()
    }

    /// Handles `grant_type=urn:ietf:params:oauth:grant-type:device_code`.
    pub(crate) fn poll_device(
        &mut self,
        now: Timestamp,
        app_id: &str,
        device_code: &str,
        delivered: bool,
    ) -> Result<Issued, PollRefusal> {
        let device =
            self.devices.by_code.get_mut(device_code).ok_or(PollRefusal::Rfc8628("invalid_grant"))?;
        if device.app_id != app_id {
            return Err(PollRefusal::Refused(Refusal::oauth(20024)));
        }
        let early = device.last_poll.is_some_and(|last| now < after(last, device.interval));
        device.last_poll = Some(now);
        if early {
            self.violations.add(now, ViolationKind::DevicePolledEarly, app_id, "");
        }
        if now >= device.expires_at {
            return Err(PollRefusal::Rfc8628("expired_token"));
        }
        if early {
            device.interval += Duration::from_secs(5);
            return Err(PollRefusal::Rfc8628("slow_down"));
        }
        let (union_id, granted_at) = match &device.decision {
            Decision::Pending => return Err(PollRefusal::Rfc8628("authorization_pending")),
            Decision::Denied => return Err(PollRefusal::Rfc8628("access_denied")),
            Decision::Used => return Err(PollRefusal::Rfc8628("invalid_grant")),
            Decision::Granted { union_id, at } => (union_id.clone(), *at),
        };
        // Whether Lark gives the pair again after a lost answer is not known, so the simulator can do either.
        let is_used = delivered || !self.device_pair_repeats;
        self.check_user(&union_id).map_err(PollRefusal::Refused)?;
        if let Some(device) = self.devices.by_code.get_mut(device_code).filter(|_| is_used) {
            device.decision = Decision::Used;
        }
        let scopes = self.granted(app_id, &union_id);
        Ok(self.issue_pair(now, app_id, &union_id, scopes, granted_at, Api::V2))
    }
}
