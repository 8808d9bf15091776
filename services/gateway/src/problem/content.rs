/// Returns what a parser says was expected, without what it got, which may be a secret in the wrong place.
pub(crate) fn without_content(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(text, _)| text);
    // Everything before the last occurrence may be the caller's words.
    if let Some(at) = message.rfind("is not a valid ") {
        return message[at + "is ".len()..].to_owned();
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("field {name} is missing");
    }
    // The parser names a field of its own here.
    if let Some(name) = message.strip_prefix("duplicate field ") {
        return format!("field {name} is given twice");
    }
    match message.rfind(", expected ") {
        Some(at) if message.starts_with("unknown field ") => format!("no such field; {}", &message[at + 2..]),
        Some(at) => message[at + 2..].to_owned(),
        None => "not of the documented form".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_content_parser_message_omits_given_value() {
        for (message, expected) in [
            ("invalid type: string \"s3cret, expected\", expected u32 at line 1 column 9", "expected u32"),
            (
                "`s3cret is not a valid x` is not a valid app id: expected `cli_`…",
                "not a valid app id: expected `cli_`…",
            ),
            ("missing field `app_id` at line 1 column 2", "field `app_id` is missing"),
            ("duplicate field `app_id` at line 1 column 2", "field `app_id` is given twice"),
            (
                "unknown field `s3cret`, expected `a` or `b` at line 1 column 2",
                "no such field; expected `a` or `b`",
            ),
            ("unknown variant `s3cret`, expected one of `a`, `b`", "expected one of `a`, `b`"),
            ("s3cret", "not of the documented form"),
        ] {
            assert_eq!(without_content(message), expected);
        }
    }
}
