//! `/console/refresh` and `/console/revoke`: actions on the token of a person.

use axum::response::Response;
use larkauth_models::{AppId, OpenId};

use super::confirm::Confirm;
use crate::{
    failure::Failure,
    target,
    visit::{Posted, SessionsWrite, TokensRead, Visit},
};

pub(crate) async fn ask_refresh(visit: Visit<TokensRead>) -> Result<Response, Failure> {
    let (app_id, open_id) = visit.query.person()?;
    let t = |english, chinese| visit.lang.t(english, chinese);
    Ok(Confirm {
        title: t("Refresh this token now?", "现在刷新此令牌？"),
        text: t(
            "Lark is asked for a new pair of tokens. Callers get the new one from then on.",
            "将向飞书请求新的令牌对，此后调用方获得新令牌。",
        ),
        action: "refresh",
        button: t("Refresh now", "立即刷新"),
        is_dangerous: false,
        ..about(&visit, &app_id, &open_id)
    }
    .respond())
}

pub(crate) async fn refresh(Posted { visit, form }: Posted<TokensRead>) -> Result<Response, Failure> {
    let (app_id, open_id) = form.person()?;
    visit.context.refresh_token(&visit.actor, visit.now, &app_id, &open_id, None).await?;
    Ok(target::see(&format!("person?{}", person(&app_id, &open_id, Some("refreshed")))))
}

pub(crate) async fn ask_revoke(visit: Visit<SessionsWrite>) -> Result<Response, Failure> {
    let (app_id, open_id) = visit.query.person()?;
    let t = |english, chinese| visit.lang.t(english, chinese);
    Ok(Confirm {
        title: t("Revoke this token?", "撤销此令牌？"),
        text: t(
            "Its secrets are erased, and no caller gets it any more. The person has to consent again. Lark itself accepts the \
             access token until it expires, at most two hours.",
            "令牌密文将被清除，调用方无法再获取；此用户需要重新授权。飞书在访问令牌到期前（最多两小时）仍会接受它。",
        ),
        action: "revoke",
        button: t("Revoke", "撤销"),
        is_dangerous: true,
        ..about(&visit, &app_id, &open_id)
    }
    .respond())
}

pub(crate) async fn revoke(Posted { visit, form }: Posted<SessionsWrite>) -> Result<Response, Failure> {
    let (app_id, open_id) = form.person()?;
    let revoked = visit.context.revoke_token(&visit.actor, visit.now, &app_id, &open_id).await?;
    let done = if revoked { "revoked" } else { "no_token" };
    Ok(target::see(&format!("person?{}", person(&app_id, &open_id, Some(done)))))
}

fn about<S>(visit: &Visit<S>, app_id: &AppId, open_id: &OpenId) -> Confirm {
    let fields = vec![("app_id", app_id.to_string()), ("open_id", open_id.to_string())];
    Confirm {
        shell: visit.shell(),
        title: "",
        text: "",
        about: vec![
            (visit.lang.t("Application", "应用"), app_id.to_string()),
            (visit.lang.t("Person", "用户"), open_id.to_string()),
        ],
        action: "",
        fields,
        button: "",
        is_dangerous: false,
        back: format!("person?{}", person(app_id, open_id, None)),
    }
}

fn person(app_id: &AppId, open_id: &OpenId, done: Option<&str>) -> String {
    let done = done.map(|done| ("done", done));
    target::query([("app_id", app_id.as_str()), ("open_id", open_id.as_str())].into_iter().chain(done))
}
