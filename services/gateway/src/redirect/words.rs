use axum::http::StatusCode;
use larkauth_auth::redirect::Landing;
use larkauth_models::{FailureReason, SessionState, text};

/// How it went, as far as the person is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The token is stored.
    Authorized {
        /// Who consented.
        name: Option<String>,
        /// What they are called in English, where that is another name.
        english_name: Option<String>,
    },
    /// The person said no.
    Declined,
    /// Too late.
    Expired,
    /// It went wrong.
    Failed(Option<FailureReason>),
    /// A worker is processing it.
    Processing,
    /// The `state` belongs to no session.
    UnknownLink,
    /// The `state` was used with another code.
    LinkUsed,
    /// The consent page reported an error.
    ConsentFailed,
    /// A part is down.
    TryAgain,
}

impl Outcome {
    pub(super) fn of(landing: Landing, english_name: Option<&str>) -> Self {
        match landing {
            Landing::UnknownState => Self::UnknownLink,
            Landing::StateUsed => Self::LinkUsed,
            Landing::ConsentFailed => Self::ConsentFailed,
            Landing::Session(session) => match session.state {
                SessionState::Pending => Self::Processing,
                // Earlier builds stored names as they came.
                SessionState::Completed => Self::Authorized {
                    name: session.user_name.as_deref().and_then(text::name),
                    english_name: english_name.and_then(text::name),
                },
                SessionState::Rejected => Self::Declined,
                SessionState::Expired => Self::Expired,
                SessionState::Failed => Self::Failed(session.failure_reason),
            },
        }
    }
}

/// The sign at the top of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// It went well.
    Good,
    /// It did not, and nothing is wrong.
    Neutral,
    /// It is not over.
    Waiting,
    /// It went wrong.
    Bad,
}

impl Tone {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Neutral => "neutral",
            Self::Waiting => "waiting",
            Self::Bad => "bad",
        }
    }
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Neutral => "–",
            Self::Waiting => "…",
            Self::Bad => "!",
        }
    }
}

/// A title and one or two sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) title: &'static str,
    pub(super) text: &'static str,
}

const fn words(title: &'static str, text: &'static str) -> Words {
    Words { title, text }
}

impl Outcome {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Authorized { .. } | Self::Declined => StatusCode::OK,
            Self::Processing => StatusCode::ACCEPTED,
            Self::Failed(Some(FailureReason::IdentityMismatch)) => StatusCode::FORBIDDEN,
            Self::Failed(_) | Self::ConsentFailed => StatusCode::BAD_REQUEST,
            Self::UnknownLink => StatusCode::NOT_FOUND,
            Self::LinkUsed => StatusCode::CONFLICT,
            Self::Expired => StatusCode::GONE,
            Self::TryAgain => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The names there are: their own, and the English one.
    pub(super) fn names(&self) -> [Option<&str>; 2] {
        match self {
            Self::Authorized { name, english_name } => [name.as_deref(), english_name.as_deref()],
            _ => [None, None],
        }
    }

    pub(super) const fn tone(&self) -> Tone {
        match self {
            Self::Authorized { .. } => Tone::Good,
            Self::Declined | Self::Expired | Self::LinkUsed | Self::UnknownLink => Tone::Neutral,
            Self::Processing => Tone::Waiting,
            Self::Failed(_) | Self::ConsentFailed | Self::TryAgain => Tone::Bad,
        }
    }

    pub(super) const fn english(&self) -> Words {
        match self {
            Self::Authorized { .. } => {
                words("Authorized", "Done. You can close this page and go back to the chat.")
            }
            Self::Declined => {
                words("Declined", "You did not authorize, so nothing was shared. You can close this page.")
            }
            Self::Expired => {
                words("This invitation has expired", "Ask for a new one in the chat; nothing was shared.")
            }
            Self::Failed(reason) => match reason {
                Some(FailureReason::IdentityMismatch) => words(
                    "This invitation is for another person",
                    "You are signed in as another person than the one who was asked. Nothing was stored. Switch to the right account, then ask for a new invitation.",
                ),
                Some(FailureReason::CodeInvalid) => words(
                    "The authorization came too late",
                    "Lark no longer accepts this authorization. Press “Try again” on the card in the chat.",
                ),
                Some(FailureReason::ExchangeInterrupted | FailureReason::ExchangeOutcomeUnknown) => words(
                    "The authorization was interrupted",
                    "It could not be completed, and nothing is stored. Press “Try again” on the card in the chat.",
                ),
                Some(FailureReason::UpstreamUnavailable) => words(
                    "Lark could not be reached",
                    "Your authorization could not be completed in time. Press “Try again” on the card in the chat, a little later.",
                ),
                Some(FailureReason::UserUnavailable) => words(
                    "You cannot use this application",
                    "Lark does not let your account use it. Ask your administrator to add you to the application's range.",
                ),
                Some(FailureReason::AppMisconfigured) => words(
                    "The application is not set up correctly",
                    "This is not your fault. Please tell the people who run this application.",
                ),
                Some(FailureReason::AppDisabled) => words(
                    "The application is switched off",
                    "Nothing was shared. If you need it, please ask the people who run this application.",
                ),
                Some(FailureReason::CardUndeliverable) => words(
                    "The invitation could not be delivered",
                    "Ask for a new one in the chat; nothing was shared.",
                ),
                Some(FailureReason::ServiceUnavailable) => words(
                    "The service was not available",
                    "Ask for a new invitation in the chat a little later; nothing was shared.",
                ),
                None => {
                    words("It did not work", "Nothing was stored. Press “Try again” on the card in the chat.")
                }
            },
            Self::Processing => words(
                "One moment…",
                "Your authorization is being completed. This page looks again by itself.",
            ),
            Self::UnknownLink => words(
                "Unknown link",
                "This address belongs to no invitation. Open the authorize button on the card in the chat.",
            ),
            Self::LinkUsed => words(
                "This link was used already",
                "Each authorization works once. The card in the chat shows how it went.",
            ),
            Self::ConsentFailed => words(
                "The consent page reported an error",
                "Nothing was shared, and the invitation is still open: press the authorize button on the card again.",
            ),
            Self::TryAgain => words(
                "Please try again",
                "Something is not available at present. Reload this page in a moment; nothing is lost.",
            ),
        }
    }

    pub(super) const fn chinese(&self) -> Words {
        match self {
            Self::Authorized { .. } => words("授权成功", "已完成。你可以关闭本页面，回到聊天。"),
            Self::Declined => words("已拒绝授权", "你没有授权，未共享任何信息。你可以关闭本页面。"),
            Self::Expired => words("邀请已过期", "请在聊天中重新获取邀请；未共享任何信息。"),
            Self::Failed(reason) => match reason {
                Some(FailureReason::IdentityMismatch) => words(
                    "此邀请是发给其他人的",
                    "你当前登录的账号不是被邀请的人，未保存任何信息。请切换到正确的账号，再重新获取邀请。",
                ),
                Some(FailureReason::CodeInvalid) => {
                    words("授权已失效", "飞书不再接受此次授权。请在聊天中的卡片上点击“再试一次”。")
                }
                Some(FailureReason::ExchangeInterrupted | FailureReason::ExchangeOutcomeUnknown) => words(
                    "授权被中断",
                    "此次授权未能完成，未保存任何信息。请在聊天中的卡片上点击“再试一次”。",
                ),
                Some(FailureReason::UpstreamUnavailable) => {
                    words("无法连接飞书", "授权未能及时完成。请稍后在聊天中的卡片上点击“再试一次”。")
                }
                Some(FailureReason::UserUnavailable) => words(
                    "你无法使用此应用",
                    "飞书不允许你的账号使用此应用。请联系管理员将你加入应用的可用范围。",
                ),
                Some(FailureReason::AppMisconfigured) => {
                    words("应用配置有误", "这不是你的问题。请联系此应用的负责人。")
                }
                Some(FailureReason::AppDisabled) => {
                    words("应用已停用", "未共享任何信息。如需使用，请联系此应用的负责人。")
                }
                Some(FailureReason::CardUndeliverable) => {
                    words("邀请未能送达", "请在聊天中重新获取邀请；未共享任何信息。")
                }
                Some(FailureReason::ServiceUnavailable) => {
                    words("服务暂时不可用", "请稍后在聊天中重新获取邀请；未共享任何信息。")
                }
                None => words("授权失败", "未保存任何信息。请在聊天中的卡片上点击“再试一次”。"),
            },
            Self::Processing => words("请稍候…", "正在完成授权，本页面会自动刷新。"),
            Self::UnknownLink => words("链接无效", "此链接不属于任何邀请。请在聊天中的卡片上点击授权按钮。"),
            Self::LinkUsed => words("链接已被使用", "每次授权只能使用一次。请查看聊天中的卡片了解结果。"),
            Self::ConsentFailed => {
                words("授权页面出错", "未共享任何信息，邀请仍然有效：请再次点击卡片上的授权按钮。")
            }
            Self::TryAgain => words("请重试", "服务暂时不可用。请稍后刷新本页面；你的授权不会丢失。"),
        }
    }
}

/// For a person who has watched the page look again for long enough.
pub(super) const WAITED_ENOUGH: (Words, Words) = (
    words("Still being processed", "You can close this page. The card in the chat will show how it went."),
    words("仍在处理中", "你可以关闭本页面，聊天中的卡片会显示结果。"),
);
