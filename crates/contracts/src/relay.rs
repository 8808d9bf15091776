//! Events and callbacks of an application that are not larkauth's, as the events exchange passes them on.
//!
//! The body is Lark's own JSON, unchanged, and no envelope: a consumer reads it as it would read a push of Lark.

/// Media type of the body.
pub const CONTENT_TYPE: &str = "application/json";
/// Routing key of a click on a card that is not larkauth's.
pub const CARD_ACTION_KEY: &str = "lark.card.action";
/// Message header with the id of the application, which a body of an older format does not name.
pub const APP_ID_HEADER: &str = "x-lark-app-id";

/// Start of the routing key of an event; see [`event_key`].
pub const EVENT_KEY: &str = "lark.event.";
/// Longest event type in a routing key, in bytes; AMQP allows 255 for the whole key.
const MAX_TYPE: usize = 200;

/// Returns the routing key of an event: `lark.event.<event type>`. A character that is no part of a word becomes `_`.
#[must_use]
pub fn event_key(event_type: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let words = event_type.chars().take(MAX_TYPE).map(|c| if is_word(c) { c } else { '_' });
    EVENT_KEY.chars().chain(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_key_of_any_type_is_a_bounded_key() {
        assert_eq!(event_key("im.message.receive_v1"), "lark.event.im.message.receive_v1");
        assert_eq!(event_key("a b#*ä"), "lark.event.a_b___");
        assert!(event_key(&"ä".repeat(1000)).len() <= 255);
    }
}
