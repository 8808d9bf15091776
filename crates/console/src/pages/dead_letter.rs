//! `/console/requeue` and `/console/drop`: actions on a dead letter.

use axum::response::Response;
use larkauth_models::EventId;

use super::confirm::Confirm;
use crate::{
    failure::Failure,
    target,
    visit::{Everything, Posted, Visit},
};

pub(crate) async fn ask_requeue(visit: Visit<Everything>) -> Result<Response, Failure> {
    let t = |english, chinese| visit.lang.t(english, chinese);
    let id: EventId = visit.query.needed("id")?;
    Ok(Confirm {
        title: t("Put this dead letter back?", "将此死信放回队列？"),
        text: t(
            "It is handled again, with its attempts counted anew. Correct the cause first.",
            "它将被重新处理，重试次数重新计算。请先排除原因。",
        ),
        action: "requeue",
        button: t("Put back", "放回队列"),
        is_dangerous: false,
        ..about(&visit, &id)
    }
    .respond())
}

pub(crate) async fn requeue(Posted { visit, form }: Posted<Everything>) -> Result<Response, Failure> {
    let id: EventId = form.needed("id")?;
    let is_there = visit.context.requeue_dead_letter(&visit.actor, visit.now, &id).await?;
    settled(is_there, &id, "requeued")
}

pub(crate) async fn ask_drop(visit: Visit<Everything>) -> Result<Response, Failure> {
    let t = |english, chinese| visit.lang.t(english, chinese);
    let id: EventId = visit.query.needed("id")?;
    Ok(Confirm {
        title: t("Drop this dead letter for good?", "永久丢弃此死信？"),
        text: t("It is deleted and never handled.", "它将被删除，不再处理。"),
        action: "drop",
        button: t("Drop", "丢弃"),
        is_dangerous: true,
        ..about(&visit, &id)
    }
    .respond())
}

pub(crate) async fn discard(Posted { visit, form }: Posted<Everything>) -> Result<Response, Failure> {
    let id: EventId = form.needed("id")?;
    let is_there = visit.context.drop_dead_letter(&visit.actor, visit.now, &id).await?;
    settled(is_there, &id, "dropped")
}

fn settled(is_there: bool, id: &EventId, done: &str) -> Result<Response, Failure> {
    match is_there {
        true => Ok(target::see(&format!("dead-letters?{}", target::query([("done", done)])))),
        false => Err(Failure::NotFound(id.to_string())),
    }
}

fn about(visit: &Visit<Everything>, id: &EventId) -> Confirm {
    Confirm {
        shell: visit.shell(),
        title: "",
        text: "",
        about: vec![(visit.lang.t("Dead letter", "死信"), id.to_string())],
        action: "",
        fields: vec![("id", id.to_string())],
        button: "",
        is_dangerous: false,
        back: "dead-letters".to_owned(),
    }
}
