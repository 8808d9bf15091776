//! `/console/enable` and `/console/disable`: whether an application is served.

use axum::response::Response;
use larkauth_models::AppId;

use super::confirm::Confirm;
use crate::{
    failure::Failure,
    target,
    visit::{AppsAdmin, Posted, Visit},
};

pub(crate) async fn ask_enable(visit: Visit<AppsAdmin>) -> Result<Response, Failure> {
    let t = |english, chinese| visit.lang.t(english, chinese);
    Ok(Confirm {
        title: t("Enable this application?", "启用此应用？"),
        text: t("It is served again: invitations, refreshes, tokens.", "将恢复服务：邀请、刷新与令牌读取。"),
        action: "enable",
        button: t("Enable", "启用"),
        is_dangerous: false,
        ..about(&visit)?
    }
    .respond())
}

pub(crate) async fn enable(posted: Posted<AppsAdmin>) -> Result<Response, Failure> {
    set(posted, true).await
}

pub(crate) async fn ask_disable(visit: Visit<AppsAdmin>) -> Result<Response, Failure> {
    let t = |english, chinese| visit.lang.t(english, chinese);
    Ok(Confirm {
        title: t("Disable this application?", "停用此应用？"),
        text: t(
            "No person is invited and no token is served or refreshed. What is stored stays; tokens that are not refreshed \
             for seven days end.",
            "将不再邀请用户，也不再提供或刷新令牌。已存数据保留；七天未刷新的令牌将失效。",
        ),
        action: "disable",
        button: t("Disable", "停用"),
        is_dangerous: true,
        ..about(&visit)?
    }
    .respond())
}

pub(crate) async fn disable(posted: Posted<AppsAdmin>) -> Result<Response, Failure> {
    set(posted, false).await
}

async fn set(Posted { visit, form }: Posted<AppsAdmin>, enabled: bool) -> Result<Response, Failure> {
    let app_id: AppId = form.needed("app_id")?;
    visit.context.set_application_enabled(&visit.actor, visit.now, &app_id, enabled).await?;
    let done = if enabled { "enabled" } else { "disabled" };
    Ok(target::see(&format!("apps?{}", target::query([("done", done)]))))
}

fn about(visit: &Visit<AppsAdmin>) -> Result<Confirm, Failure> {
    let app_id: AppId = visit.query.needed("app_id")?;
    Ok(Confirm {
        shell: visit.shell(),
        title: "",
        text: "",
        about: vec![(visit.lang.t("Application", "应用"), app_id.to_string())],
        action: "",
        fields: vec![("app_id", app_id.to_string())],
        button: "",
        is_dangerous: false,
        back: "apps".to_owned(),
    })
}
