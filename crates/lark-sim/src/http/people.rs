//! User info and contacts.

use axum::{
    Json,
    extract::Path,
    response::{IntoResponse, Response},
};
use larkauth_models::Timestamp;
use serde_json::{Value, json};

use super::{
    answer::{bearer_app, flatten, success, tenant_app, user_of},
    call::Call,
};
use crate::{
    faults::Endpoint,
    state::{State, codes::Refusal},
    users::{Found, UserStatus},
    violations::ViolationKind,
};

/// Answers with the owner of a user token.
pub(crate) async fn user_info(call: Call) -> Response {
    let app_id = bearer_app(&call.sim, call.bearer());
    call.run(Endpoint::UserInfo, app_id.as_deref(), |state, now, _| {
        let (app_id, union_id) = match user_of(state, now, call.bearer()) {
            Ok(owner) => owner,
            Err(refusal) if refusal.code == 99_991_668 => {
                return refused(20_005, "The user access token passed is invalid");
            }
            Err(refusal) => return refusal.into_response(),
        };
        if let Err(refusal) = state.limit("user info", &app_id, now) {
            return refusal.into_response();
        }
        let Some(user) = state.users.get(&union_id) else { return refused(20_008, "User not exist") };
        match user.status {
            UserStatus::Resigned | UserStatus::Exited => refused(20_021, "User resigned"),
            UserStatus::Frozen => refused(20_022, "User frozen"),
            UserStatus::NotRegistered => refused(20_023, "User not registered"),
            UserStatus::Active | UserStatus::OutOfRange | UserStatus::BotStopped => {
                success(&user.info(&state.users.open_id(&app_id, user)))
            }
        }
    })
    .await
}

/// Answers with the application's bot.
pub(crate) async fn bot(call: Call) -> Response {
    let app_id = bearer_app(&call.sim, call.bearer());
    call.run(Endpoint::BotInfo, app_id.as_deref(), |state, now, _| {
        flatten(tenant_app(state, now, call.bearer()).map(|app_id| {
            let name = state.apps.get(&app_id).map(|app| app.app_name.clone());
            let bot = json!({"activate_status": 2, "app_name": name, "avatar_url": "", "open_id": "ou_bot"});
            Json(json!({"code": 0, "msg": "ok", "bot": bot})).into_response()
        }))
    })
    .await
}

fn refused(code: i64, msg: &str) -> Response {
    Json(json!({"code": code, "msg": msg})).into_response()
}

/// Answers with one contact.
pub(crate) async fn one(Path(id): Path<String>, call: Call) -> Response {
    let app_id = bearer_app(&call.sim, call.bearer());
    call.run(Endpoint::Contact, app_id.as_deref(), |state, now, _| {
        flatten(caller(state, now, call.bearer()).and_then(|app_id| {
            let id_type = call.param("user_id_type").unwrap_or("open_id");
            let item = contact(state, &app_id, id_type, &id)?;
            item.map(|item| success(&json!({"user": item}))).ok_or(Refusal::new(
                400,
                41_050,
                "no user authority error",
            ))
        }))
    })
    .await
}

/// Answers with up to 50 contacts. Unknown ones are omitted.
pub(crate) async fn batch(call: Call) -> Response {
    const MAX_IDS: usize = 50;
    let app_id = bearer_app(&call.sim, call.bearer());
    call.run(Endpoint::ContactBatch, app_id.as_deref(), |state, now, _| {
        flatten(caller(state, now, call.bearer()).and_then(|app_id| {
            let id_type = call.param("user_id_type").unwrap_or("open_id");
            let ids: Vec<_> =
                call.query.iter().filter(|(key, _)| key == "user_ids").map(|(_, id)| id.as_str()).collect();
            if ids.is_empty() || ids.len() > MAX_IDS {
                let detail = format!("{} ids in one batch of contacts", ids.len());
                state.violations.add(now, ViolationKind::BatchSize, &app_id, detail);
                return Err(Refusal::new(400, 99_992_402, "field validation failed: 1 to 50 user_ids"));
            }
            let mut items = Vec::new();
            for id in ids {
                items.extend(contact(state, &app_id, id_type, id)?);
            }
            Ok(success(&json!({"items": items})))
        }))
    })
    .await
}

/// Answers with the ids of up to 50 mail addresses and 50 mobile numbers. People outside the application's range have
/// none.
pub(crate) async fn ids(call: Call) -> Response {
    const MAX_IDS: usize = 50;
    let app_id = bearer_app(&call.sim, call.bearer());
    call.run(Endpoint::ContactIds, app_id.as_deref(), |state, now, _| {
        flatten(tenant_app(state, now, call.bearer()).and_then(|app_id| {
            state.limit("contacts", &app_id, now)?;
            let body = call.json();
            let id_type = call.param("user_id_type").unwrap_or("open_id");
            let mut list = Vec::new();
            for (kind, field) in [("email", "emails"), ("mobile", "mobiles")] {
                let asked: Vec<_> =
                    body[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                if asked.len() > MAX_IDS {
                    return Err(Refusal::new(400, 99_992_402, "field validation failed: at most 50"));
                }
                for text in asked {
                    let mut entry = json!({ kind: text });
                    let found = state.users.all().find(|user| {
                        let has = if kind == "email" { &user.email } else { &user.mobile };
                        has.as_deref() == Some(text) && user.status != UserStatus::OutOfRange
                    });
                    if let Some(user) = found {
                        entry["user_id"] = user.contact(&state.users.open_id(&app_id, user))[id_type].clone();
                    }
                    list.push(entry);
                }
            }
            if list.is_empty() {
                return Err(Refusal::new(400, 99_992_402, "field validation failed: emails or mobiles"));
            }
            Ok(success(&json!({"user_list": list})))
        }))
    })
    .await
}

/// Returns the calling application, by tenant or user token.
fn caller(state: &mut State, now: Timestamp, bearer: &str) -> Result<String, Refusal> {
    let app_id = match tenant_app(state, now, bearer) {
        Err(refusal) if bearer.starts_with("u-") => user_of(state, now, bearer)
            .map(|(app_id, _)| app_id)
            .map_err(|user| if user.code == 99_991_677 { user } else { refusal }),
        outcome => outcome,
    }?;
    state.limit("contacts", &app_id, now)?;
    Ok(app_id)
}

/// Returns the contact record of a person, or `None` outside the application's range.
fn contact(state: &State, app_id: &str, id_type: &str, id: &str) -> Result<Option<Value>, Refusal> {
    match state.users.find(app_id, id_type, id) {
        Found::User(user) if user.status == UserStatus::OutOfRange => Ok(None),
        Found::User(user) => Ok(Some(user.contact(&state.users.open_id(app_id, user)))),
        Found::Unknown => Ok(None),
        Found::OtherApp => Err(Refusal::new(400, 99_992_361, "open_id cross app")),
        Found::BadType => Err(Refusal::new(400, 99_992_402, "field validation failed")),
    }
}
