//! The texts that a person reads, in both languages. Friendly, short and accurate.

use std::{borrow::Cow, time::Duration};

use larkauth_models::{CardFace, FailureReason, ReauthorizationReason};

/// A text in both languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) zh_cn: Cow<'static, str>,
    pub(super) en_us: Cow<'static, str>,
}

const fn fixed(zh_cn: &'static str, en_us: &'static str) -> Text {
    Text { zh_cn: Cow::Borrowed(zh_cn), en_us: Cow::Borrowed(en_us) }
}

pub(super) fn formatted(zh_cn: String, en_us: String) -> Text {
    Text { zh_cn: zh_cn.into(), en_us: en_us.into() }
}

/// The application's name, or a phrase in place of an unknown name.
#[derive(Clone, Copy)]
pub(super) struct AppName<'a>(pub(super) Option<&'a str>);

impl AppName<'_> {
    fn zh(&self) -> &str {
        self.0.unwrap_or("此应用")
    }
    fn en(&self) -> &str {
        self.0.unwrap_or("this app")
    }
    fn en_start(&self) -> &str {
        self.0.unwrap_or("This app")
    }
}

pub(super) fn title(face: CardFace, app: AppName<'_>) -> Text {
    match face {
        CardFace::Invitation => formatted(
            format!("{}需要你的授权", app.zh()),
            format!("{} needs your permission", app.en_start()),
        ),
        CardFace::Reauthorize => formatted(
            format!("{}需要你重新授权", app.zh()),
            format!("{} needs your permission again", app.en_start()),
        ),
        CardFace::Processing => fixed("等待授权完成", "Waiting for your consent"),
        CardFace::Done => fixed("授权成功", "You're all set"),
        CardFace::Declined => fixed("你已拒绝授权", "You declined"),
        CardFace::Expired => fixed("邀请已过期", "This invitation has expired"),
        CardFace::Failed => fixed("授权没有成功", "That didn't work"),
    }
}

/// Returns the text of the detailed invitation.
pub(super) fn invitation(app: AppName<'_>) -> Text {
    formatted(
        format!("同意后，{}可以在你授权的范围内以你的身份工作。你也可以拒绝。", app.zh()),
        format!(
            "If you agree, {} can work on your behalf within what you allow. You are free to decline.",
            app.en()
        ),
    )
}

/// Text of the concise invitation.
pub(super) const INVITATION_CONCISE: Text = fixed("点击“授权”继续。", "Choose “Authorize” to continue.");

pub(super) fn reauthorization(reason: Option<ReauthorizationReason>, app: AppName<'_>) -> Text {
    if reason == Some(ReauthorizationReason::EndsSoon) {
        return formatted(
            format!(
                "平台每 365 天需要你重新确认一次授权。你给{}的授权即将到期，现在确认可以避免中断。",
                app.zh()
            ),
            format!(
                "The platform asks for your consent again every 365 days. Yours for {} ends soon; if you confirm now, \
                 nothing is interrupted.",
                app.en()
            ),
        );
    }
    formatted(
        format!("之前的授权已经失效，{}暂时无法以你的身份工作。", app.zh()),
        format!(
            "Your earlier authorization has ended, so {} cannot work on your behalf at the moment.",
            app.en()
        ),
    )
}

/// Returns who asks.
pub(super) fn requested_by(name: &str) -> Text {
    formatted(format!("发起方：{name}"), format!("Requested by {name}"))
}

pub(super) const SCOPES: Text = fixed("申请的权限：", "It asks for:");

pub(super) const OFFLINE: Text =
    fixed("你不在线时，这项授权也会继续有效。", "The permission also applies while you are away.");

/// Rounds to minutes, so that a card that is shown shortly after its time started says the full time.
pub(super) const fn nearest_minute(duration: Duration) -> u64 {
    (duration.as_secs() + 30) / 60
}

pub(super) fn valid_for(duration: Duration) -> Text {
    match nearest_minute(duration) {
        0 | 1 => fixed("请在 1 分钟内完成。", "Please answer within a minute."),
        minutes @ 2..=119 => formatted(
            format!("请在 {minutes} 分钟内完成。"),
            format!("Please answer within {minutes} minutes."),
        ),
        minutes => {
            let hours = minutes / 60;
            formatted(format!("请在 {hours} 小时内完成。"), format!("Please answer within {hours} hours."))
        }
    }
}

pub(super) const CONFIRM_ON_PAGE: Text = fixed(
    "请在打开的页面中确认。如果页面已关闭，可以用下面的按钮重新打开。",
    "Please confirm on the page that opened. If you closed it, the button below opens it again.",
);

pub(super) const WORKING: Text = fixed("正在处理，请稍候。", "Working on it, just a moment.");

pub(super) fn done(person_zh: Option<&str>, person_en: Option<&str>, app: AppName<'_>) -> Text {
    let zh = person_zh.map(|name| format!("，{name}")).unwrap_or_default();
    let en = person_en.map(|name| format!(", {name}")).unwrap_or_default();
    formatted(
        format!("谢谢{zh}。{}现在可以在你授权的范围内以你的身份工作了。", app.zh()),
        format!("Thank you{en}. {} can now work on your behalf within what you allowed.", app.en_start()),
    )
}

pub(super) fn declined(app: AppName<'_>) -> Text {
    formatted(
        format!("{}没有获得这次授权。", app.zh()),
        format!("{} did not get the permission it asked for.", app.en_start()),
    )
}

pub(super) const EXPIRED: Text = fixed(
    "没有在有效时间内完成授权。需要时可以重新发起。",
    "It was not answered in time. You can ask for a new one.",
);

/// Returns the explanation of a failure for the invited person.
pub(super) fn failure(reason: Option<FailureReason>) -> Text {
    match reason {
        Some(FailureReason::IdentityMismatch) => fixed(
            "授权是由另一个账号完成的，因此没有保存任何信息。请用你自己的账号再试一次。",
            "The authorization came from another account, so nothing was stored. Please try again with your own account.",
        ),
        Some(FailureReason::CodeInvalid) => fixed(
            "授权码已失效或已被使用。再试一次即可。",
            "The confirmation was too old or had been used before. Trying again helps.",
        ),
        Some(FailureReason::ExchangeInterrupted) => fixed(
            "我们在处理时被中断了。请再试一次。",
            "We were interrupted while finishing. Please try again.",
        ),
        Some(FailureReason::ExchangeOutcomeUnknown) => fixed(
            "我们没有收到平台的答复，无法确认是否成功。请再试一次。",
            "The platform's answer did not reach us, so we cannot tell whether it worked. Please try again.",
        ),
        Some(FailureReason::UpstreamUnavailable) => fixed(
            "平台暂时没有响应。请稍后再试。",
            "The platform did not respond for a while. Please try again a little later.",
        ),
        Some(FailureReason::UserUnavailable) => fixed(
            "你的账号目前不能使用此应用。请联系管理员。",
            "Your account cannot use this app at present. Please ask your administrator.",
        ),
        Some(FailureReason::AppMisconfigured) => fixed(
            "应用的配置有误，这不是你的问题。请联系管理员，修复后可以再试。",
            "The app is not set up correctly, which is not your fault. Please tell your administrator, then try again.",
        ),
        Some(FailureReason::AppDisabled) => fixed(
            "应用已停用，没有共享任何信息。请联系管理员。",
            "The app is switched off, and nothing was shared. Please ask your administrator.",
        ),
        Some(FailureReason::CardUndeliverable) => {
            fixed("卡片没能送达。请再试一次。", "The card could not be delivered. Please try again.")
        }
        Some(FailureReason::ServiceUnavailable) => fixed(
            "授权服务暂时不可用。请稍后再试。",
            "The authorization service was not available. Please try again a little later.",
        ),
        None => fixed("出了点问题。请再试一次。", "Something went wrong. Please try again."),
    }
}

pub(super) const AUTHORIZE: Text = fixed("授权", "Authorize");
pub(super) const OPEN_AGAIN: Text = fixed("重新打开授权页", "Open the page again");
pub(super) const DECLINE: Text = fixed("拒绝", "Decline");
pub(super) const ASK_AGAIN: Text = fixed("重新发起", "Ask me again");
pub(super) const TRY_AGAIN: Text = fixed("再试一次", "Try again");
pub(super) const PRIVACY_POLICY: Text = fixed("隐私政策", "Privacy policy");

/// The text of a toast after a click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToastText {
    /// The click is received and the consent page is open.
    ConfirmOnPage,
    /// The click is received and is being processed.
    Working,
    /// The token is stored.
    Authorized,
    /// The person declined.
    Declined,
    /// A new invitation will be sent.
    AskedAgain,
    /// The card's session is not known here.
    UnknownSession,
    /// The session expired.
    Expired,
    /// The card was sent to another person.
    NotForYou,
    /// The person asked for too many invitations in a short time.
    TooOften,
    /// The click could not be stored. Another click may succeed.
    TryAgain,
    /// The button is unknown or no longer supported.
    UnknownButton,
    /// The session failed.
    Failed(FailureReason),
}

impl ToastText {
    pub(super) fn text(self) -> Text {
        match self {
            Self::ConfirmOnPage => fixed("请在打开的页面中确认", "Please confirm on the page that opened"),
            Self::Working => fixed("收到，正在处理", "Got it, working on it"),
            Self::Authorized => fixed("授权成功", "Authorized, thank you"),
            Self::Declined => fixed("已拒绝授权", "Declined"),
            Self::AskedAgain => fixed("新的邀请马上就到", "A new invitation is on its way"),
            Self::UnknownSession => fixed(
                "这里没有这张卡片的授权请求，卡片可能由另一个程序发出。没有做任何更改，请重新发起授权",
                "This card's request is not known here; another program may have sent it. Nothing was changed, please ask for a new card",
            ),
            Self::Expired => fixed("这次邀请已过期", "This invitation has expired"),
            Self::NotForYou => fixed("这张卡片是发给其他人的", "This card was sent to another person"),
            Self::TooOften => fixed("操作太频繁，请稍后再试", "That was a bit often, please wait a minute"),
            Self::TryAgain => fixed("没有成功，请再点一次", "That did not go through, please click again"),
            Self::UnknownButton => fixed("这个按钮已不可用", "This button no longer does anything"),
            Self::Failed(reason) => failure(Some(reason)),
        }
    }

    /// Returns every text.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let plain = [
            Self::ConfirmOnPage,
            Self::Working,
            Self::Authorized,
            Self::Declined,
            Self::AskedAgain,
            Self::UnknownSession,
            Self::Expired,
            Self::NotForYou,
            Self::TooOften,
            Self::TryAgain,
            Self::UnknownButton,
        ];
        plain.into_iter().chain(FailureReason::ALL.iter().copied().map(Self::Failed)).collect()
    }
}
