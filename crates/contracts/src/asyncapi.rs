//! `contracts/asyncapi.yaml` (AsyncAPI 3.0), from the message catalogue and the topology.

use serde_json::{Map, Value, json};

use crate::{
    message::{CONTENT_TYPE, catalogue},
    relay,
    topology::{EVENTS_EXCHANGE, GENERATION, Queue},
};

/// Returns the contract as YAML text.
///
/// # Errors
/// Never fails for the catalogue of this crate; the serializer's error is returned as is.
pub fn document() -> Result<String, serde_norway::Error> {
    let mut channels = Map::new();
    let mut messages = Map::new();
    let mut operations = Map::new();
    for entry in catalogue() {
        let name = entry.r#type.trim_start_matches("larkauth.").trim_end_matches(".v1").replace('.', "_");
        let message_ref = json!({"$ref": format!("#/components/messages/{name}")});
        messages.insert(
            name.clone(),
            json!({"name": entry.r#type, "contentType": CONTENT_TYPE, "payload": Value::from(entry.schema)}),
        );
        for key in entry.routing_keys {
            let channel = key.replace('.', "_");
            channels.insert(
                channel.clone(),
                json!({
                    "address": key,
                    "messages": {name.clone(): message_ref},
                    "bindings": on_events_exchange(),
                }),
            );
            operations.insert(
                format!("publish_{channel}"),
                json!({"action": "send", "channel": {"$ref": format!("#/channels/{channel}")}}),
            );
        }
    }
    describe_relay(&mut channels, &mut messages, &mut operations);
    let queues: Map<String, Value> = Queue::ALL
        .iter()
        .map(|queue| (format!("larkauth.{queue}.{GENERATION}"), json!({"bindingKeys": queue.binding_keys()})))
        .collect();
    serde_norway::to_string(&json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "larkauth messages",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "CloudEvents 1.0 (structured JSON) on a RabbitMQ topic exchange. Other services may bind \
                            queues of their own, for instance to `session.*`: every end of a session arrives at least once, a repeated \
                            one with the same `id`. So does the latest of `user.suspended` and `user.restored` of a person. Events of the application that are not larkauth's \
                            pass through the same exchange, in Lark's own format, as `lark.event.<event type>` and \
                            `lark.card.action`.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
        "x-queues": queues,
    }))
}

fn on_events_exchange() -> Value {
    json!({"amqp": {"is": "routingKey", "exchange": {
        "name": format!("larkauth.{EVENTS_EXCHANGE}"), "type": "topic", "durable": true, "autoDelete": false}}})
}

/// Adds the events that are not larkauth's. They have no envelope, so the catalogue does not list them.
fn describe_relay(
    channels: &mut Map<String, Value>,
    messages: &mut Map<String, Value>,
    operations: &mut Map<String, Value>,
) {
    let message = |name: &str, summary: &str| {
        json!({
            "name": name,
            "summary": summary,
            "contentType": relay::CONTENT_TYPE,
            "headers": {"type": "object", "properties": {relay::APP_ID_HEADER: {"type": "string",
                "description": "The application that Lark pushed the event to."}}},
            "payload": {"type": "object", "description": "Lark's own JSON, unchanged.", "externalDocs": {
                "url": "https://open.feishu.cn/document/server-docs/event-subscription-guide/event-list"}},
        })
    };
    let channel = |address: &str, name: &str| {
        json!({
            "address": address,
            "messages": {name: {"$ref": format!("#/components/messages/{name}")}},
            "bindings": on_events_exchange(),
        })
    };
    let send = |name: &str| json!({"action": "send", "channel": {"$ref": format!("#/channels/{name}")}});

    messages.insert(
        "lark_event".to_owned(),
        message("lark.event", "An event of the application that is not larkauth's."),
    );
    let mut events = channel(&format!("{}{{event_type}}", relay::EVENT_KEY), "lark_event");
    events["parameters"] = json!({"event_type": {
        "description": "Lark's event type. It has several words, so a queue binds to `lark.event.#` or to whole types.",
        "examples": ["im.message.receive_v1"]}});
    channels.insert("lark_event".to_owned(), events);
    operations.insert("publish_lark_event".to_owned(), send("lark_event"));

    messages.insert(
        "lark_card_action".to_owned(),
        message("lark.card.action", "A click on a card of the application that is not larkauth's."),
    );
    channels.insert("lark_card_action".to_owned(), channel(relay::CARD_ACTION_KEY, "lark_card_action"));
    let mut click = send("lark_card_action");
    click["description"] = json!(
        "A consumer may answer within 2 s: it publishes the answer for Lark, as JSON (`{\"toast\": …, \"card\": …}`), \
         through the default exchange to the queue of the message's `reply_to`, with its `correlation_id`. Without an \
         answer Lark gets an empty one."
    );
    click["reply"] = json!({"address": {
        "location": "$message.header#/reply_to", "description": "The AMQP property `reply_to`."}});
    operations.insert("publish_lark_card_action".to_owned(), click);
}

#[cfg(test)]
mod tests {
    #[test]
    fn document_names_every_message_and_queue() {
        let text = super::document().unwrap();
        for entry in crate::message::catalogue() {
            assert!(text.contains(entry.r#type), "{}", entry.r#type);
        }
        assert!(text.contains("larkauth.card-faces"));
        assert!(text.contains("lark.event.{event_type}") && text.contains("lark.card.action"));
    }
}
