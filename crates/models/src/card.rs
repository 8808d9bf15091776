use serde::{Deserialize, Serialize};
use url::Url;

use crate::spelled_enum::spelled_enum;

/// Content options of an invitation card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardOptions {
    /// True for the detailed card (requested scopes and reason), false for the concise one.
    #[serde(default = "default_include_description")]
    pub include_description: bool,
    /// Card template of the developer console that replaces the built-in card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    /// Paragraph shown on the card, at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_message: Option<String>,
    /// Link to the privacy policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_policy_url: Option<Url>,
    /// Name of the application on the card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// Name of the caller that asks for the authorization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// Why the person is asked again. Absent on a first invitation, and on one that a caller requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reauthorize: Option<ReauthorizationReason>,
}

const fn default_include_description() -> bool {
    true
}

impl CardOptions {
    /// Whether the same request made both: names that are looked up at each request do not count.
    #[must_use]
    pub fn is_same_request(&self, other: &Self) -> bool {
        let requested = |card: &Self| Self { app_name: None, requested_by: None, ..card.clone() };
        requested(self) == requested(other)
    }
}

impl Default for CardOptions {
    fn default() -> Self {
        Self {
            include_description: true,
            template_id: None,
            custom_message: None,
            privacy_policy_url: None,
            app_name: None,
            requested_by: None,
            reauthorize: None,
        }
    }
}

spelled_enum! {
    /// Why larkauth asks a person again by itself.
    ReauthorizationReason {
        /// Lark has ended the earlier authorization.
        Ended = "ended",
        /// The earlier authorization ends soon, 365 days after the consent.
        EndsSoon = "ends_soon",
    }
}

spelled_enum! {
    /// State that a card shows.
    CardFace {
        /// "Please authorize", with an authorize and a cancel button.
        Invitation = "invitation",
        /// "Waiting for your consent"; keeps the authorize button.
        Processing = "processing",
        /// The authorization is complete.
        Done = "done",
        /// The person refused.
        Declined = "declined",
        /// The session expired.
        Expired = "expired",
        /// The authorization failed; the card has a retry button.
        Failed = "failed",
        /// An earlier authorization ended; the card requests a new one.
        Reauthorize = "reauthorize",
    }
}

impl CardFace {
    /// Returns true when no button of this card has an effect.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Declined | Self::Expired | Self::Failed)
    }
}

spelled_enum! {
    /// A supported language, in Lark's spelling.
    Locale {
        /// Simplified Chinese.
        ZhCn = "zh_cn",
        /// English.
        EnUs = "en_us",
    }
}
