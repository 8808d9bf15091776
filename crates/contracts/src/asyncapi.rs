//! `contracts/asyncapi.yaml` (AsyncAPI 3.0), from the message catalogue and the topology.

use serde_json::{Map, Value, json};

use crate::{
    message::{CONTENT_TYPE, catalogue},
    topology::{EVENTS_EXCHANGE, Queue},
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
                    "bindings": {"amqp": {"is": "routingKey", "exchange": {
                        "name": format!("larkauth.{EVENTS_EXCHANGE}"), "type": "topic", "durable": true, "autoDelete": false}}},
                }),
            );
            operations.insert(
                format!("publish_{channel}"),
                json!({"action": "send", "channel": {"$ref": format!("#/channels/{channel}")}}),
            );
        }
    }
    let queues: Map<String, Value> = Queue::ALL
        .iter()
        .map(|queue| (format!("larkauth.{queue}"), json!({"bindingKeys": queue.binding_keys()})))
        .collect();
    serde_norway::to_string(&json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "larkauth messages",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "CloudEvents 1.0 (structured JSON) on a RabbitMQ topic exchange. Other services may bind \
                            queues of their own, for instance to `session.*`.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
        "x-queues": queues,
    }))
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
    }
}
