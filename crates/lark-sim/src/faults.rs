use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An endpoint whose calls are counted and where faults can be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /callback/ws/endpoint`.
    Discovery,
    /// The WebSocket upgrade.
    Handshake,
    /// The answer to a client's ping.
    Pong,
    /// A push over the long connection.
    Push,
    /// The client's answer to a push.
    PushAnswer,
    /// `tenant_access_token`.
    TenantToken,
    /// `app_access_token`.
    AppToken,
    /// The consent page.
    Authorize,
    /// Token endpoint, authorization code.
    TokenCode,
    /// Token endpoint, refresh token.
    TokenRefresh,
    /// Token endpoint, device code.
    TokenDevice,
    /// Historical token endpoint, authorization code.
    OidcCode,
    /// Historical token endpoint, refresh token.
    OidcRefresh,
    /// Start of the device flow.
    DeviceAuthorization,
    /// User info.
    UserInfo,
    /// The application's bot.
    BotInfo,
    /// Answers with one contact.
    Contact,
    /// Up to 50 contacts.
    ContactBatch,
    /// Ids by mail address or mobile number.
    ContactIds,
    /// Send a message.
    MessageSend,
    /// Update a message.
    MessageUpdate,
    /// Delayed update of a card.
    CardUpdate,
}

/// One planned fault, applied once by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The endpoint. `None`: every HTTP endpoint.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// The application. `None`: all applications.
    #[serde(default)]
    pub app_id: Option<String>,
    /// Number of calls. `None`: until cleared.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// The effect on the call.
    pub effect: Effect,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's own type")]
const fn once() -> Option<u32> {
    Some(1)
}

impl Fault {
    /// Returns a fault that applies once, at this endpoint, for any application.
    #[must_use]
    pub const fn at(endpoint: Endpoint, effect: Effect) -> Self {
        Self { endpoint: Some(endpoint), app_id: None, times: once(), effect }
    }

    /// Returns a fault that applies once, at any HTTP endpoint, for any application.
    #[must_use]
    pub const fn anywhere(effect: Effect) -> Self {
        Self { endpoint: None, app_id: None, times: once(), effect }
    }

    /// Sets the number of calls.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Applies the fault until [`Faults::clear`].
    #[must_use]
    pub const fn until_cleared(mut self) -> Self {
        self.times = None;
        self
    }

    /// Restricts the fault to this application.
    #[must_use]
    pub fn for_app(mut self, app_id: impl Into<String>) -> Self {
        self.app_id = Some(app_id.into());
        self
    }

    fn matches(&self, endpoint: Endpoint, app_id: Option<&str>) -> bool {
        // These are no calls of the client and must be named.
        let here = match self.endpoint {
            Some(wanted) => wanted == endpoint,
            None => !matches!(endpoint, Endpoint::Pong | Endpoint::Push | Endpoint::PushAnswer),
        };
        here && self.app_id.as_deref().is_none_or(|wanted| app_id == Some(wanted))
    }
}

/// Effect of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Waits this many milliseconds, then handles the call.
    Latency(u64),
    /// Handles the call, then waits this many milliseconds before it answers.
    LateAnswer(u64),
    /// Does not handle the call; answers this instead.
    Answer {
        /// HTTP status.
        status: u16,
        /// `code` of the body.
        code: i64,
    },
    /// Handles the call, then cuts the TCP connection without an answer.
    LostAnswer,
    /// Cuts the TCP connection without handling the call. At [`Endpoint::PushAnswer`]: just before the answer is read.
    Cut,
    /// Neither handles nor answers, and keeps the TCP connection. At [`Endpoint::Pong`] and [`Endpoint::Push`]:
    /// stays silent.
    Hang,
    /// Answers 429 with 99991400 and this many seconds in `x-ogw-ratelimit-reset`.
    TooManyRequests(u64),
    /// Handles the call, then answers 200 with half of its JSON.
    MalformedBody,
    /// Handles the call, then answers with another status and with changes to its JSON (RFC 7396).
    Reshaped {
        /// HTTP status.
        status: u16,
        /// Fields to replace. `null` removes a field.
        merge: Value,
    },
    /// [`Endpoint::Handshake`] only: refuses the upgrade.
    Refuse {
        /// HTTP status and `Handshake-Status`.
        status: u16,
        /// `Handshake-Autherrcode`.
        auth_error: Option<i64>,
    },
    /// [`Endpoint::Push`] only: changes how the frames of a push arrive.
    Frames(Frames),
}

/// Arrangement of the frames of one push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frames {
    /// Number of frames. 0 and 1 do not split.
    pub parts: u32,
    /// Sends the frames out of order.
    pub shuffle: bool,
    /// Sends every frame twice.
    pub duplicate: bool,
    /// Interleaves the frames with those of an event of type `im.chat.access_event.bot_p2p_chat_entered_v1`.
    pub interleave: bool,
    /// Sends frames of type `card` instead of `event`.
    pub as_card: bool,
}

impl Frames {
    /// Returns an arrangement of this many frames, in order.
    #[must_use]
    pub const fn split(parts: u32) -> Self {
        Self { parts, shuffle: false, duplicate: false, interleave: false, as_card: false }
    }
}

/// The planned faults, oldest first.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    const CAPACITY: usize = 1000;

    /// Plans a fault. The oldest is dropped when there are more than a thousand.
    pub fn push(&self, fault: Fault) {
        let mut faults = self.lock();
        if faults.len() == Self::CAPACITY {
            faults.remove(0);
        }
        faults.push(fault);
    }

    /// Clears all faults.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Returns the faults that are still planned.
    #[must_use]
    pub fn list(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    /// Takes the next fault for this call, if any. It counts as applied.
    pub(crate) fn take(&self, endpoint: Endpoint, app_id: Option<&str>) -> Option<Effect> {
        let mut faults = self.lock();
        let index = faults.iter().position(|fault| fault.matches(endpoint, app_id))?;
        let effect = faults[index].effect.clone();
        if let Some(times) = &mut faults[index].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                faults.remove(index);
            }
        }
        drop(faults);
        Some(effect)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.0.lock()
    }
}

impl Effect {
    /// Returns a response with changes to its JSON, of which a field is replaced by each field of `merge`.
    #[must_use]
    pub const fn reshaped(merge: Value) -> Self {
        Self::Reshaped { status: 200, merge }
    }

    /// Returns a wait in milliseconds.
    pub(crate) const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
