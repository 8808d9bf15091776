use larkauth_lark_sim::{Effect, Endpoint, Fault, Sim, SimError};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A fault that the page offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Breakage {
    /// Every call to Lark is answered 503, and the long connection is cut, until repaired.
    LarkDown,
    /// Lark takes 2.5 s for every call, until repaired.
    SlowLark,
    /// The next three calls of each API are answered 429 with a wait of one second.
    RateLimited,
    /// The next exchange of a code succeeds, but its answer is lost.
    LostAnswer,
    /// The next refresh succeeds, but its answer is lost.
    LostRefresh,
    /// The long connection is cut.
    CutConnection,
    /// The long connection goes silent, yet its socket stays open.
    HalfOpen,
    /// An event without a handler.
    UnknownEvent,
}

impl Breakage {
    /// Faults that last until repaired or consumed.
    const LASTING: [Self; 5] =
        [Self::LarkDown, Self::SlowLark, Self::RateLimited, Self::LostAnswer, Self::LostRefresh];

    /// Returns its name on the page.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::LarkDown => "lark_down",
            Self::SlowLark => "slow_lark",
            Self::RateLimited => "rate_limited",
            Self::LostAnswer => "lost_answer",
            Self::LostRefresh => "lost_refresh",
            Self::CutConnection => "cut_connection",
            Self::HalfOpen => "half_open",
            Self::UnknownEvent => "unknown_event",
        }
    }

    /// Applies the fault.
    pub(crate) fn happen(self, sim: &Sim, app_id: &str) -> Result<(), SimError> {
        if !self.is_planned(sim) {
            self.faults().into_iter().for_each(|fault| sim.faults().push(fault));
        }
        match self {
            Self::LarkDown | Self::CutConnection => {
                sim.drop_connections(None);
            }
            Self::HalfOpen => {
                sim.half_open_connections(None);
            }
            Self::UnknownEvent => {
                let event = json!({"chat_id": "oc_demo", "message": "hello"});
                sim.push_event(app_id, "im.message.receive_v1", &event)?;
            }
            Self::SlowLark | Self::RateLimited | Self::LostAnswer | Self::LostRefresh => {}
        }
        Ok(())
    }

    /// Returns the faults that are active now.
    pub(crate) fn present(sim: &Sim) -> Vec<Self> {
        Self::LASTING.into_iter().filter(|breakage| breakage.is_planned(sim)).collect()
    }

    fn faults(self) -> Vec<Fault> {
        match self {
            Self::LarkDown => {
                vec![Fault::anywhere(Effect::Answer { status: 503, code: 20050 }).until_cleared()]
            }
            Self::SlowLark => vec![Fault::anywhere(Effect::Latency(2500)).until_cleared()],
            // Pages that people open have no limit.
            Self::RateLimited => {
                [Endpoint::MessageSend, Endpoint::MessageUpdate, Endpoint::TokenCode, Endpoint::UserInfo]
                    .map(|endpoint| Fault::at(endpoint, Effect::TooManyRequests(1)).times(3))
                    .into()
            }
            Self::LostAnswer => vec![Fault::at(Endpoint::TokenCode, Effect::LostAnswer)],
            Self::LostRefresh => vec![Fault::at(Endpoint::TokenRefresh, Effect::LostAnswer)],
            Self::CutConnection | Self::HalfOpen | Self::UnknownEvent => Vec::new(),
        }
    }

    /// Returns whether a part of the fault is still planned at the simulator. The remaining number is not compared.
    fn is_planned(self, sim: &Sim) -> bool {
        let planned = sim.faults().list();
        let same = |a: &Fault, b: &Fault| a.endpoint == b.endpoint && a.effect == b.effect;
        self.faults().iter().any(|fault| planned.iter().any(|planned| same(planned, fault)))
    }
}
