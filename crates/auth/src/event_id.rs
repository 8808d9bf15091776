use larkauth_models::EventId;

/// Longest event id, in bytes; the bound of [`EventId`].
const MAX_LENGTH: usize = 128;

/// Returns an event id made of a kind and its subject. Characters that no id may have become `-`.
pub(crate) fn event_id(kind: &str, subject: &str) -> EventId {
    let text: String = format!("{kind}-{subject}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "_-.@:".contains(c) { c } else { '-' })
        .take(MAX_LENGTH)
        .collect();
    #[expect(clippy::expect_used, reason = "the text was just made of allowed characters, and is not empty")]
    EventId::new(text).expect("an event id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_id_of_any_text_is_valid() {
        assert_eq!(event_id("code", "a b/c").as_str(), "code-a-b-c");
        assert_eq!(event_id("code", &"x".repeat(500)).as_str().len(), MAX_LENGTH);
    }
}
