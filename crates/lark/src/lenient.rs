//! The one reader of Lark's answers.
//!
//! An answer that holds what a call asked for is never discarded because of another field. Every field is therefore read
//! by itself: a field of an unexpected type, or out of range, counts as absent. The forms that Lark, its proxies and its
//! older versions use are all accepted: numbers as text or with a fraction, a list in place of a text, the content flat or
//! inside `data`, names that occur twice, a byte order mark.

use std::fmt;

use larkauth_models::SecretString;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Value, value::RawValue};

/// The fields of a JSON object, unread. Their number is bounded by the size of a body. Has no `Debug` output, as any field may be a secret.
#[derive(Default)]
pub(crate) struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// Reads the body of an answer: a JSON object under any content type. Fields inside `data` are read as if
    /// they were outside; a usable field outside takes precedence. Returns `None` for anything else.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(body);
        // JSON has no raw control characters. In a text they would make the whole object unreadable.
        let text = text.replace(|c: char| c.is_ascii_control(), " ");
        let root = Self::of(text.trim_start_matches('\u{feff}'))?;
        let mut all = root.object("data").unwrap_or_default();
        all.0.extend(root.0);
        Some(all)
    }

    /// Reads a JSON object, and ignores what follows it.
    fn of(json: &str) -> Option<Self> {
        let mut fields = Self::default();
        let mut deserializer = serde_json::Deserializer::from_str(json);
        deserializer.deserialize_map(Collect(&mut fields)).ok()?;
        Some(fields)
    }

    /// Returns the values of a field, the last first.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().rev().filter(move |(key, _)| key == name).map(|(_, raw)| raw.get())
    }

    /// Returns a text without the space around it. A number counts as its text, an empty text as absent.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.all(name).find_map(text)
    }

    /// Returns a token or code. None of Lark's has a space in it, so all space is dropped.
    pub(crate) fn secret(&self, name: &str) -> Option<SecretString> {
        self.text(name).map(|text| SecretString::from(text.split_whitespace().collect::<String>()))
    }

    /// Returns a whole number, also from a text and from a number with a fraction. A number out of range becomes the
    /// nearest in range.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.all(name).filter_map(text).find_map(|text| number(&text))
    }

    /// Returns a number of seconds, also with a unit (`7200s`).
    pub(crate) fn seconds(&self, name: &str) -> Option<i64> {
        let without_unit = |text: String| {
            let end = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (digits, unit) = text.split_at(end);
            let is_seconds = matches!(
                unit.to_ascii_lowercase().as_str(),
                "" | "s" | "sec" | "secs" | "second" | "seconds"
            );
            is_seconds.then(|| digits.trim().to_owned())
        };
        self.all(name).filter_map(text).filter_map(without_unit).find_map(|text| number(&text))
    }

    /// Returns true for `true`, its text, or a number other than zero.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.all(name).next().is_some_and(|raw| {
            raw == "true"
                || text(raw).is_some_and(|text| {
                    text.eq_ignore_ascii_case("true") || number(&text).is_some_and(|n| n != 0)
                })
        })
    }

    /// Returns the words of a text or of a list of texts. Spaces and commas separate words.
    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let words = |raw: &str| -> Option<Vec<String>> {
            let texts = match list(raw) {
                Some(items) => items.iter().filter_map(|item| text(item.get())).collect(),
                None => vec![text(raw)?],
            };
            let words = texts.iter().flat_map(|text| text.split(|c: char| c.is_whitespace() || c == ','));
            Some(words.filter(|word| !word.is_empty()).map(str::to_owned).collect())
        };
        self.all(name).find_map(words).unwrap_or_default()
    }

    /// Returns an object, also from its JSON text.
    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        self.all(name).find_map(object)
    }

    /// Returns the objects of a list. Other items are left out.
    pub(crate) fn objects(&self, name: &str) -> Option<Vec<Self>> {
        let objects = |raw: &str| Some(list(raw)?.iter().filter_map(|item| object(item.get())).collect());
        self.all(name).find_map(objects)
    }

    /// Returns `Some` when Lark says that the call succeeded. Meant for answers without other content.
    pub(crate) fn confirmation(&self) -> Option<()> {
        (self.number("code") == Some(0)).then_some(())
    }

    /// Returns whether Lark names an error, by a numeric code or by an OAuth error code.
    pub(crate) fn names_error(&self) -> bool {
        self.number("code").is_some_and(|code| code != 0) || self.text("error").is_some()
    }

    /// Returns a field of any form.
    pub(crate) fn value(&self, name: &str) -> Value {
        self.all(name).find_map(|raw| serde_json::from_str(raw).ok()).unwrap_or_default()
    }
}

fn text(raw: &str) -> Option<String> {
    let text = match raw.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(raw).ok()?,
        b'-' | b'0'..=b'9' => raw.to_owned(),
        _ => return None,
    };
    Some(text.trim().trim_matches('\u{feff}').to_owned()).filter(|text| !text.is_empty())
}

#[expect(clippy::cast_possible_truncation, reason = "a number out of range becomes the nearest in range")]
fn number(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| text.parse::<f64>().ok().filter(|n| !n.is_nan()).map(|n| n as i64))
}

fn list(raw: &str) -> Option<Vec<Box<RawValue>>> {
    raw.starts_with('[').then(|| serde_json::from_str(raw).ok()).flatten()
}

fn object(raw: &str) -> Option<Fields> {
    if raw.starts_with('"') { Fields::of(&text(raw)?) } else { Fields::of(raw) }
}

/// Collects the fields of an object without reading their values.
struct Collect<'a>(&'a mut Fields);

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.0.0.push((name, map.next_value()?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use larkauth_models::ExposeSecret;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn parse_anything_but_an_object_returns_none() {
        for body in
            ["", " ", "null", "[]", "[{}]", "7", "\"{}\"", "{", "{\"a\":", "{\"a\":1", "<html>{}", "\u{feff}"]
        {
            assert!(Fields::parse(body.as_bytes()).is_none(), "{body}");
        }
        assert!(Fields::parse(b"{}").is_some());
    }

    #[test]
    fn number_every_spelling_returns_nearest_whole_number() {
        for (value, number) in [
            (json!(7), Some(7)),
            (json!("-7"), Some(-7)),
            (json!(7.9), Some(7)),
            (json!(" 7.0 "), Some(7)),
            (json!("1e3"), Some(1000)),
            (json!(u64::MAX), Some(i64::MAX)),
            (json!(-1e300), Some(i64::MIN)),
            (json!("NaN"), None),
            (json!("7s"), None),
            (json!(""), None),
            (json!(true), None),
            (json!([7]), None),
        ] {
            assert_eq!(fields(&json!({ "n": value })).number("n"), number, "{value}");
        }
        let huge = Fields::parse(b"{\"n\":1e999}").unwrap();
        assert_eq!(huge.number("n"), Some(i64::MAX));
    }

    #[test]
    fn flag_every_spelling_returns_truth() {
        for (value, flag) in [
            (json!(true), true),
            (json!("True"), true),
            (json!(1), true),
            (json!("1"), true),
            (json!(false), false),
            (json!("false"), false),
            (json!(0), false),
            (json!(null), false),
            (json!({}), false),
        ] {
            assert_eq!(fields(&json!({ "f": value })).flag("f"), flag, "{value}");
        }
        assert!(!fields(&json!({})).flag("f"));
    }

    #[test]
    fn repeated_field_last_usable_value_counts() {
        let fields = Fields::parse(br#"{"a":"1","a":"2","a":null,"data":{"a":"3","b":"4"}}"#).unwrap();
        assert_eq!((fields.text("a").unwrap(), fields.text("b").unwrap()), ("2".to_owned(), "4".to_owned()));
    }

    /// A JSON value of any form.
    fn junk() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn secret_beside_any_other_field_is_found(
            token in "[A-Za-z0-9._-]{1,60}", others in proptest::collection::btree_map("[a-z_]{1,12}", junk(), 0..8), nested: bool,
        ) {
            let mut body: serde_json::Map<_, _> = others.into_iter().collect();
            body.insert("access_token".into(), token.clone().into());
            let mut body = Value::Object(body);
            if nested {
                body = json!({ "code": 0, "data": body });
            }
            let found = fields(&body).secret("access_token").unwrap();
            prop_assert_eq!(found.expose_secret(), token);
        }

        #[test]
        fn every_reader_of_any_value_does_not_panic(value in junk(), bytes: Vec<u8>) {
            let read = |fields: Fields| {
                let _ = (fields.text("x"), fields.secret("x"), fields.number("x"), fields.seconds("x"), fields.flag("x"));
                let _ = (fields.words("x"), fields.object("x"), fields.objects("x"), fields.value("x"));
            };
            read(fields(&json!({ "x": value })));
            if let Some(fields) = Fields::parse(&bytes) {
                read(fields);
            }
        }
    }
}
