use std::{sync::Arc, time::Duration};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use larkauth_auth::AuthError;
use larkauth_contracts::problem::seconds_to_wait;
use larkauth_models::KeyScope;
use larkauth_storage::StorageError;

use crate::lang::Lang;

/// Why a page is not shown or an action not done. The layer of `login` makes a page of it.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The key lacks this scope.
    Scope(KeyScope),
    /// The request does not come from a form of this login.
    Form,
    /// The key has sent more requests than it may.
    TooMany(Duration),
    /// What was sent has not the expected form.
    Invalid(String),
    /// There is no such object.
    NotFound(String),
    /// The logout is not recorded.
    Logout(Arc<AuthError>),
    /// The operation's.
    Auth(Arc<AuthError>),
    /// This program's fault. The cause is for the log.
    Internal(String),
}

/// What a page says of a failure.
pub(crate) struct Told {
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
    /// In English, and only where it says more.
    pub(crate) detail: String,
    /// After this time the same request may succeed.
    pub(crate) retry_after: Option<Duration>,
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        Self::Auth(Arc::new(error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.told(Lang::En).status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl Failure {
    pub(crate) fn told(&self, lang: Lang) -> Told {
        let told = |status, (en_title, zh_title), (en, zh), detail| Told {
            status,
            title: lang.t(en_title, zh_title),
            text: lang.t(en, zh),
            detail,
            retry_after: None,
        };
        match self {
            Self::Scope(scope) => told(
                StatusCode::FORBIDDEN,
                ("This API key may not do that", "此 API 密钥没有权限"),
                (
                    "The key lacks this scope. Log in with another key, or have one created with it.",
                    "密钥缺少以下权限范围。请使用其他密钥登录，或创建包含该范围的密钥。",
                ),
                scope.to_string(),
            ),
            Self::Form => told(
                StatusCode::FORBIDDEN,
                ("The form is not valid any more", "表单已失效"),
                (
                    "Nothing was changed. The form belongs to another login, or another site sent it. Go back, reload the page \
                     and try again.",
                    "未做任何更改。该表单属于另一次登录，或由其他网站发出。请返回并刷新页面后重试。",
                ),
                String::new(),
            ),
            Self::TooMany(wait) => Told {
                retry_after: Some(*wait),
                ..told(
                    StatusCode::TOO_MANY_REQUESTS,
                    ("Too many requests", "请求过多"),
                    ("Wait, then try again. Seconds to wait:", "请稍后重试。等待秒数："),
                    seconds_to_wait(*wait).to_string(),
                )
            },
            Self::Invalid(detail) => told(
                StatusCode::BAD_REQUEST,
                ("The request cannot be understood", "无法识别的请求"),
                ("Go back and correct this:", "请返回并更正："),
                detail.clone(),
            ),
            Self::NotFound(detail) => told(
                StatusCode::NOT_FOUND,
                ("Not found", "未找到"),
                ("It does not exist, or this key does not see it.", "它不存在，或此密钥无权查看。"),
                detail.clone(),
            ),
            Self::Logout(error) => told(
                StatusCode::SERVICE_UNAVAILABLE,
                ("Logged out in this browser only", "仅在此浏览器中退出"),
                (
                    "The cookie is removed here. The logout is not recorded, so a copy of the cookie is valid until it ends.",
                    "此浏览器中的 Cookie 已删除，但退出未被记录；Cookie 的副本在到期前仍然有效。",
                ),
                error.to_string(),
            ),
            Self::Auth(error) => Self::of_operation(error, lang),
            Self::Internal(_) => Self::internal(lang),
        }
    }

    fn of_operation(error: &AuthError, lang: Lang) -> Told {
        let status = match error {
            AuthError::Forbidden(_) => StatusCode::FORBIDDEN,
            AuthError::Invalid(_) => StatusCode::BAD_REQUEST,
            AuthError::AppNotFound(_)
            | AuthError::SessionNotFound(_)
            | AuthError::OtherApplication { .. }
            | AuthError::AuthenticationRequired => StatusCode::NOT_FOUND,
            AuthError::AppDisabled(_) => StatusCode::CONFLICT,
            AuthError::RateLimited { .. } | AuthError::AskedRecently { .. } => StatusCode::TOO_MANY_REQUESTS,
            AuthError::Storage(StorageError::Unavailable { .. })
            | AuthError::Bus(_)
            | AuthError::Lark(_)
            | AuthError::EncryptionKeyMissing { .. }
            | AuthError::ForeignEncryptionKeys(_)
            | AuthError::AppFrozen { .. }
            | AuthError::RefreshInProgress { .. }
            | AuthError::UpstreamUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => return Self::internal(lang),
        };
        let (title, text) = match status {
            StatusCode::FORBIDDEN => (
                lang.t("This API key may not do that", "此 API 密钥没有权限"),
                lang.t("The key does not reach that far.", "该密钥的权限不足。"),
            ),
            StatusCode::NOT_FOUND => (
                lang.t("Not found", "未找到"),
                lang.t("It does not exist, or this key does not see it.", "它不存在，或此密钥无权查看。"),
            ),
            StatusCode::SERVICE_UNAVAILABLE => (
                lang.t("Not available at present", "暂时不可用"),
                lang.t(
                    "A part that this needs does not answer; try again later. /health and `larkauth doctor` tell more.",
                    "所需的组件没有响应，请稍后重试。/health 与 `larkauth doctor` 提供更多信息。",
                ),
            ),
            _ => (lang.t("That was refused", "操作被拒绝"), lang.t("Nothing was changed.", "未做任何更改。")),
        };
        let retry_after = match error {
            AuthError::RateLimited { retry_after, .. }
            | AuthError::AskedRecently { retry_after }
            | AuthError::RefreshInProgress { retry_after }
            | AuthError::UpstreamUnavailable { retry_after } => Some(*retry_after),
            _ => None,
        };
        Told { status, title, text, detail: error.to_string(), retry_after }
    }

    fn internal(lang: Lang) -> Told {
        Told {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            title: lang.t("Something went wrong on our side", "内部错误"),
            text: lang.t("The log of the gateway says more.", "详情请查看网关日志。"),
            detail: String::new(),
            retry_after: None,
        }
    }

    /// Logs what the log is to say about it.
    pub(crate) fn log(&self) {
        match self {
            Self::Internal(cause) => tracing::error!(cause, "console.failed"),
            Self::Auth(error) | Self::Logout(error) if self.told(Lang::En).status.is_server_error() => {
                tracing::error!(%error, "console.failed");
            }
            Self::Form => tracing::warn!("console.form_refused: not sent by a form of this login"),
            _ => {}
        }
    }
}
