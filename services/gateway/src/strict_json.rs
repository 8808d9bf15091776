//! JSON as documented: a derived struct would also be read from an array, and an enum of strings from an object with one
//! field. [`Strict`] refuses both at every depth of a body, so no type of a body can forget to.

use std::fmt;

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::StrDeserializer,
    },
};

/// A deserializer, or a part of one, whose structs are objects and whose enums are strings.
pub(crate) struct Strict<T>(pub(crate) T);

macro_rules! pass {
    ($($method:ident($($argument:ident: $kind:ty),*)),+ $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($argument,)* Strict(visitor))
        })+
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    pass! {
        deserialize_any(), deserialize_bool(), deserialize_i8(), deserialize_i16(), deserialize_i32(), deserialize_i64(),
        deserialize_u8(), deserialize_u16(), deserialize_u32(), deserialize_u64(), deserialize_f32(), deserialize_f64(),
        deserialize_char(), deserialize_str(), deserialize_string(), deserialize_bytes(), deserialize_byte_buf(),
        deserialize_option(), deserialize_unit(), deserialize_unit_struct(name: &'static str),
        deserialize_newtype_struct(name: &'static str), deserialize_seq(), deserialize_tuple(length: usize),
        deserialize_tuple_struct(name: &'static str, length: usize), deserialize_map(), deserialize_identifier(),
        deserialize_ignored_any(),
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Object(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Spelled { name, variants, visitor })
    }
}

/// Reads an object only.
struct Object<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Strict(map))
    }
}

/// Reads the name of a variant only.
struct Spelled<V> {
    name: &'static str,
    variants: &'static [&'static str],
    visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Spelled<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, variant) in self.variants.iter().enumerate() {
            write!(f, "{}`{variant}`", if at == 0 { "one of " } else { ", " })?;
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        if !self.variants.contains(&text) {
            return Err(E::invalid_value(Unexpected::Other("another string"), &self));
        }
        let deserializer: StrDeserializer<'_, E> = text.into_deserializer();
        deserializer.deserialize_enum(self.name, self.variants, self.visitor)
    }
}

macro_rules! visit {
    ($($method:ident($kind:ty)),+ $(,)?) => {
        $(fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> { self.0.$method(value) })+
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    visit! {
        visit_bool(bool), visit_i8(i8), visit_i16(i16), visit_i32(i32), visit_i64(i64), visit_i128(i128), visit_u8(u8),
        visit_u16(u16), visit_u32(u32), visit_u64(u64), visit_u128(u128), visit_f32(f32), visit_f64(f64), visit_char(char),
        visit_str(&str), visit_borrowed_str(&'de str), visit_string(String), visit_bytes(&[u8]),
        visit_borrowed_bytes(&'de [u8]), visit_byte_buf(Vec<u8>),
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Strict(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Strict(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("an enum is read as a string"))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(inner))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use larkauth_contracts::rest::{CreateSession, RefreshToken};
    use serde::de::DeserializeOwned;
    use serde_json::{Map, Value, json};

    use crate::{extract::parse, router::openapi};

    /// A value of each type of JSON.
    fn values() -> [Value; 7] {
        [json!(null), json!(true), json!(5), json!(1.5), json!("x"), json!([]), json!({})]
    }

    /// A reader of a body: the explanation of its refusal.
    type Reader = fn(&Value) -> Option<String>;

    fn read<T: DeserializeOwned>(body: &Value) -> Option<String> {
        parse::<T>(body.to_string().as_bytes()).err().map(|error| format!("{error:?}"))
    }

    /// Every body of the API, with a value that is accepted.
    fn bodies() -> [(&'static str, Value, Reader); 2] {
        let app_id = "cli_0123456789abcdef";
        [
            ("CreateSession", json!({ "app_id": app_id, "open_id": "ou_1" }), read::<CreateSession>),
            ("RefreshToken", json!({}), read::<RefreshToken>),
        ]
    }

    /// Returns whether a schema permits the type of a value. An object is permitted where its properties are documented.
    fn permits(schemas: &Value, schema: &Value, value: &Value) -> bool {
        if let Some(name) = schema["$ref"].as_str() {
            return permits(schemas, &schemas[name.rsplit('/').next().unwrap()], value);
        }
        for several in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[several].as_array() {
                return choices.iter().any(|choice| permits(schemas, choice, value));
            }
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        match &schema["type"] {
            Value::String(one) => one == kind,
            Value::Array(several) => several.iter().any(|one| one == kind),
            _ => false,
        }
    }

    fn with(body: &Value, path: &[&str], value: &Value) -> Value {
        let mut body = body.clone();
        let mut place = &mut body;
        for step in path {
            place = place.as_object_mut().unwrap().entry(*step).or_insert_with(|| Value::Object(Map::new()));
        }
        *place = value.clone();
        body
    }

    /// Tries a value of each type in each field below a schema. Returns the number of refused ones.
    fn try_fields(schemas: &Value, schema: &str, path: &[&str], body: &Value, read: Reader) -> usize {
        let mut refused = 0;
        for (field, documented) in schemas[schema]["properties"].as_object().unwrap() {
            let path: Vec<_> = path.iter().copied().chain([field.as_str()]).collect();
            for value in values() {
                if permits(schemas, documented, &value) {
                    continue;
                }
                let error = read(&with(body, &path, &value));
                let error = error.unwrap_or_else(|| panic!("{schema}.{field} takes {value}"));
                assert!(
                    error.contains(&format!("{}: expected ", path.join("."))),
                    "{schema}.{field}, {value}: {error}"
                );
                refused += 1;
            }
            let documented = documented.to_string();
            for inner in schemas.as_object().unwrap().keys() {
                if documented.contains(&format!("\"#/components/schemas/{inner}\""))
                    && schemas[inner]["properties"].is_object()
                {
                    refused += try_fields(schemas, inner, &path, body, read);
                }
            }
        }
        refused
    }

    #[test]
    fn bodies_with_a_value_of_another_type_are_refused_by_field() {
        let api = serde_json::to_value(openapi()).unwrap();
        let schemas = &api["components"]["schemas"];
        for (name, body, read) in bodies() {
            assert_eq!(read(&body), None, "{name}");
            assert!(try_fields(schemas, name, &[], &body, read) > 4, "{name}");
        }
    }

    #[test]
    fn every_json_body_of_the_api_is_tried() {
        let api = serde_json::to_value(openapi()).unwrap();
        let tried = bodies().map(|(name, ..)| name);
        let operations =
            api["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let mut found = 0;
        for operation in operations {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            // Lark's callbacks are not read into types of the API.
            let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) else {
                continue;
            };
            assert!(tried.contains(&name), "{name} is not tried");
            found += 1;
        }
        assert_eq!(found, tried.len());
    }

    #[test]
    fn structs_from_arrays_and_enums_from_objects_are_refused() {
        let app_id = "cli_0123456789abcdef";
        let create = |field: &str, value: Value| {
            read::<CreateSession>(&with(&json!({ "app_id": app_id }), &[field], &value))
        };
        for (field, value, expected) in [
            ("card", json!([true, null, null, null]), "card: expected an object"),
            ("card", json!([]), "card: expected an object"),
            (
                "auth_method",
                json!({ "websocket_card": null }),
                "auth_method: expected one of `websocket_card`, `oauth`",
            ),
            ("auth_method", json!(0), "auth_method: expected one of `websocket_card`"),
            ("auth_method", json!("s3cret"), "auth_method: expected one of `websocket_card`"),
        ] {
            let error = create(field, value.clone()).unwrap_or_else(|| panic!("{field} takes {value}"));
            assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
        }
        assert_eq!(create("auth_method", json!("oauth")), None);
        assert_eq!(create("card", json!({ "include_description": false })), None);
    }
}
