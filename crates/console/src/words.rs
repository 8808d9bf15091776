//! What the pages call states, and the tone of each.

use larkauth_models::{AuthMethod, FailureReason, LossReason, SessionState, SuspensionReason, TokenStatus};
use larkauth_telemetry::PartState;

use crate::lang::Lang;

/// A word with its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Badge {
    pub(crate) text: &'static str,
    /// Class of the style sheet.
    pub(crate) tone: &'static str,
}

const GOOD: &str = "good";
const NEUTRAL: &str = "neutral";
const WAITING: &str = "waiting";
const DOUBTFUL: &str = "doubtful";
const BAD: &str = "bad";

const fn badge(text: &'static str, tone: &'static str) -> Badge {
    Badge { text, tone }
}

pub(crate) const fn session_state(lang: Lang, state: SessionState) -> Badge {
    match state {
        SessionState::Pending => badge(lang.t("pending", "待处理"), WAITING),
        SessionState::Completed => badge(lang.t("completed", "已完成"), GOOD),
        SessionState::Rejected => badge(lang.t("declined", "已拒绝"), NEUTRAL),
        SessionState::Expired => badge(lang.t("expired", "已过期"), NEUTRAL),
        SessionState::Failed => badge(lang.t("failed", "失败"), BAD),
    }
}

pub(crate) const fn token_status(lang: Lang, status: TokenStatus) -> Badge {
    match status {
        TokenStatus::Active => badge(lang.t("active", "有效"), GOOD),
        TokenStatus::OutcomeUnknown => badge(lang.t("outcome unknown", "结果未知"), DOUBTFUL),
        TokenStatus::ReauthorizationRequired => badge(lang.t("needs consent", "需重新授权"), DOUBTFUL),
        TokenStatus::Suspended => badge(lang.t("suspended", "已暂停"), BAD),
        TokenStatus::Revoked => badge(lang.t("revoked", "已撤销"), NEUTRAL),
    }
}

pub(crate) const fn suspension(lang: Lang, reason: SuspensionReason) -> &'static str {
    match reason {
        SuspensionReason::Frozen => lang.t("account frozen", "账号已冻结"),
        SuspensionReason::Resigned => lang.t("has left the company", "已离职"),
        SuspensionReason::Exited => lang.t("has left the tenant", "已退出企业"),
        SuspensionReason::Refused => lang.t("refused by Lark", "被飞书拒绝"),
    }
}

pub(crate) const fn loss(lang: Lang, reason: LossReason) -> &'static str {
    match reason {
        LossReason::ReauthorizationRequired => lang.t("needs consent", "需重新授权"),
        LossReason::Suspended => lang.t("suspended", "已暂停"),
        LossReason::OutcomeUnknown => lang.t("outcome of a refresh unknown", "刷新结果未知"),
        LossReason::NoRefreshToken => lang.t("no refresh token", "没有刷新令牌"),
        LossReason::RefreshTokenExpires => lang.t("refresh token expires", "刷新令牌到期"),
        LossReason::ConsentEnds => lang.t("365 days after the consent", "授权满 365 天"),
        LossReason::BreakerOpen => lang.t("breaker of the application open", "应用熔断中"),
    }
}

pub(crate) const fn auth_method(lang: Lang, method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::WebsocketCard => lang.t("card", "卡片"),
        AuthMethod::Oauth => lang.t("consent page", "授权页面"),
        AuthMethod::HttpCallback => lang.t("card, HTTP callback", "卡片（HTTP 回调）"),
        AuthMethod::DeviceCode => lang.t("device code", "设备码"),
    }
}

pub(crate) const fn failure(lang: Lang, reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::IdentityMismatch => lang.t("another person consented", "由其他人授权"),
        FailureReason::CodeInvalid => lang.t("the code was not accepted", "授权码无效"),
        FailureReason::ExchangeInterrupted => lang.t("the exchange was interrupted", "兑换被中断"),
        FailureReason::ExchangeOutcomeUnknown => {
            lang.t("the outcome of the exchange is unknown", "兑换结果未知")
        }
        FailureReason::UpstreamUnavailable => lang.t("Lark was not available", "飞书不可用"),
        FailureReason::UserUnavailable => {
            lang.t("Lark denies this person the application", "飞书不允许此用户使用该应用")
        }
        FailureReason::AppMisconfigured => lang.t("the application is misconfigured", "应用配置有误"),
        FailureReason::AppDisabled => lang.t("the application was disabled", "应用已停用"),
        FailureReason::CardUndeliverable => lang.t("the card was not delivered", "卡片无法送达"),
        FailureReason::ServiceUnavailable => {
            lang.t("a part of larkauth was not available", "larkauth 组件不可用")
        }
    }
}

pub(crate) const fn part(lang: Lang, state: PartState) -> Badge {
    match state {
        PartState::Ok => badge(lang.t("ok", "正常"), GOOD),
        PartState::Starting => badge(lang.t("starting", "启动中"), WAITING),
        PartState::Failing => badge(lang.t("failing", "异常"), BAD),
        PartState::Stopped => badge(lang.t("stopped", "已停止"), BAD),
    }
}

pub(crate) const fn enabled(lang: Lang, is_enabled: bool) -> Badge {
    if is_enabled {
        badge(lang.t("enabled", "已启用"), GOOD)
    } else {
        badge(lang.t("disabled", "已停用"), NEUTRAL)
    }
}

pub(crate) const fn breaker(lang: Lang, is_open: bool) -> Badge {
    if is_open { badge(lang.t("open", "熔断"), BAD) } else { badge(lang.t("closed", "正常"), GOOD) }
}

pub(crate) fn outcome(lang: Lang, outcome: &str) -> Badge {
    match outcome {
        "ok" => badge(lang.t("ok", "成功"), GOOD),
        "refused" => badge(lang.t("refused", "被拒绝"), DOUBTFUL),
        _ => badge(lang.t("failed", "失败"), BAD),
    }
}

/// Returns what a page says after an action.
pub(crate) fn done(lang: Lang, what: &str) -> Option<&'static str> {
    Some(match what {
        "revoked" => lang.t(
            "The token is revoked. Lark itself accepts the access token until it expires, at most two hours.",
            "令牌已撤销。飞书在访问令牌到期前（最多两小时）仍会接受它。",
        ),
        "no_token" => lang.t("There was no token to revoke.", "没有可撤销的令牌。"),
        "refreshed" => lang.t("The token is refreshed.", "令牌已刷新。"),
        "requeued" => lang.t("The dead letter is back in its queue.", "死信已放回队列。"),
        "dropped" => lang.t("The dead letter is dropped.", "死信已丢弃。"),
        "enabled" => lang.t("The application is enabled.", "应用已启用。"),
        "disabled" => lang.t("The application is disabled.", "应用已停用。"),
        "logged_out" => lang.t("You are logged out.", "已退出登录。"),
        _ => return None,
    })
}
