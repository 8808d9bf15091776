use serde::{Deserialize, Serialize};
use url::Url;

use crate::spelled_enum::spelled_enum;

/// How an invitation card looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardOptions {
    /// Detailed card (what is asked for and why) or concise one.
    #[serde(default = "yes")]
    pub include_description: bool,
    /// A card template of the developer console to use instead of the built-in card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    /// One paragraph shown on the card, at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_message: Option<String>,
    /// A link to the privacy policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_policy_url: Option<Url>,
}

const fn yes() -> bool {
    true
}

impl Default for CardOptions {
    fn default() -> Self {
        Self { include_description: true, template_id: None, custom_message: None, privacy_policy_url: None }
    }
}

spelled_enum! {
    /// What a card shows.
    CardFace {
        /// "Please authorize", with an authorize and a cancel button.
        Invitation = "invitation",
        /// "Waiting for your consent"; keeps the authorize button.
        Processing = "processing",
        /// Authorized.
        Done = "done",
        /// The person said no.
        Declined = "declined",
        /// The invitation's time is over.
        Expired = "expired",
        /// It went wrong; offers to try again.
        Failed = "failed",
        /// An earlier authorization ended; asks again.
        Reauthorize = "reauthorize",
    }
}

impl CardFace {
    /// True when no button on it can change anything any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Declined | Self::Expired | Self::Failed)
    }
}

spelled_enum! {
    /// A language the product speaks, spelled as Lark spells it.
    Locale {
        /// Simplified Chinese.
        ZhCn = "zh_cn",
        /// English.
        EnUs = "en_us",
    }
}
