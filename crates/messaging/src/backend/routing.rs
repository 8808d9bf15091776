//! Queues of a routing key, by the contract's topic patterns.

use larkauth_contracts::topology::{DEAD_LETTER_BINDING_KEYS, Queue};

use crate::BusError;

/// Returns the work queues that are bound to this key.
pub fn queues(routing_key: &str) -> impl Iterator<Item = Queue> {
    Queue::ALL.iter().copied().filter(move |queue| any(queue.binding_keys(), routing_key))
}

/// Returns whether messages of this key are published to the dead letters directly.
#[must_use]
pub fn is_dead_on_arrival(routing_key: &str) -> bool {
    any(DEAD_LETTER_BINDING_KEYS, routing_key)
}

/// Returns the queue of this name.
#[must_use]
pub fn queue_named(name: &str) -> Option<Queue> {
    Queue::ALL.iter().copied().find(|queue| queue.name() == name)
}

/// Returns the refusal of a dead letter that has no queue to return to: it came from none, and no queue is bound to its
/// routing key.
#[must_use]
pub fn unroutable_dead_letter(routing_key: String) -> BusError {
    let message = "it died in no queue, and no queue is bound to this routing key".to_owned();
    BusError::Refused { routing_key, message }
}

fn any(patterns: &[&str], routing_key: &str) -> bool {
    let key: Vec<_> = routing_key.split('.').collect();
    patterns.iter().any(|pattern| matches(&pattern.split('.').collect::<Vec<_>>(), &key))
}

/// Matches as AMQP's topic exchanges do: `*` is one word, `#` any number of words.
fn matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => (0..=key.len()).any(|words| matches(rest, &key[words..])),
        ([word, rest @ ..], [first, others @ ..]) => (*word == "*" || word == first) && matches(rest, others),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_topic_patterns_matches_as_amqp_does() {
        let table = [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("#", "", true),
            ("#.c", "a.b.c", true),
            ("#.c", "a.b", false),
            ("*.#.c", "c", false),
        ];
        for (pattern, key, expected) in table {
            assert_eq!(any(&[pattern], key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn queues_of_the_contracts_keys_are_the_bound_ones() {
        let of = |key| queues(key).collect::<Vec<_>>();
        assert_eq!(of("session.completed"), [Queue::CardFaces]);
        assert_eq!(of("oauth.code.received"), [Queue::OauthRedirects]);
        assert_eq!(of("callback.unrecognized"), []);
        assert!(is_dead_on_arrival("callback.unrecognized") && !is_dead_on_arrival("session.completed"));
        for queue in Queue::ALL {
            assert_eq!(queue_named(queue.name()), Some(*queue));
        }
        assert_eq!(queue_named("dead-letters"), None);
    }
}
