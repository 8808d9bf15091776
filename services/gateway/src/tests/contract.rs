use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use larkauth_contracts::{problem::ProblemCode, rest::OnMissing};
use larkauth_models::{AuditAction, AuthMethod, FailureReason, SessionState};
use serde_json::{Value, json};

use super::world::{APP, PERSON, World};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/openapi.yaml");

#[test]
fn committed_openapi_equals_generated() {
    let document = crate::openapi().to_yaml().unwrap();
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(document == committed, "contracts/openapi.yaml is out of date: run scripts/generate");
}

#[test]
fn openapi_every_operation_has_description_and_security() {
    let document: Value = serde_json::to_value(crate::openapi()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = std::collections::BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].to_string()), "{path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
            assert_eq!(operation["security"].is_array(), path.starts_with("/v1/"), "{path}");
        }
    }
    assert_eq!(ids.len(), 10);
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[test]
fn openapi_enums_equal_serialized_values() {
    let document: Value = serde_json::to_value(crate::openapi()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let documented: BTreeMap<_, _> =
        schemas.iter().filter_map(|(name, schema)| Some((name.as_str(), schema.get("enum")?))).collect();
    let sent = [
        ("AuditAction", json!(AuditAction::ALL)),
        ("AuthMethod", json!(AuthMethod::ALL)),
        ("FailureReason", json!(FailureReason::ALL)),
        ("OnMissing", json!([OnMissing::None, OnMissing::Card])),
        ("ProblemCode", json!(ProblemCode::ALL)),
        ("SessionState", json!(SessionState::ALL)),
    ];
    assert_eq!(documented, sent.iter().map(|(name, values)| (*name, values)).collect());
}

#[tokio::test]
async fn openapi_bounds_equal_enforced_bounds() {
    let world = World::new().await;
    let document: Value = serde_json::to_value(crate::openapi()).unwrap();
    let mut bounded = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{app_id}", APP).replace("{open_id}", PERSON);
        let path = path.replace("{session_id}", &uuid::Uuid::nil().to_string());
        for parameter in methods["get"]["parameters"].as_array().into_iter().flatten() {
            let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            if schema["type"] != "integer" {
                continue;
            }
            let bound = |key: &str| schema[key].as_i64().unwrap_or_else(|| panic!("{name} has no {key}"));
            let (least, most) = (bound("minimum"), bound("maximum"));
            for (value, refused) in [(least - 1, true), (least, false), (most, false), (most + 1, true)] {
                let answer = world.get(&format!("{path}?{name}={value}")).await;
                assert_eq!(
                    answer.status == StatusCode::BAD_REQUEST,
                    refused,
                    "{name}={value}: {}",
                    answer.text
                );
            }
            bounded.push(name.to_owned());
        }
    }
    assert_eq!(bounded, ["min_validity", "limit", "limit", "wait"]);
}

#[tokio::test]
async fn openapi_example_is_accepted() {
    let world = World::new().await;
    let document: Value = serde_json::to_value(crate::openapi()).unwrap();
    let mut sent = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let body = &methods["post"]["requestBody"]["content"]["application/json"]["schema"];
        if let Some(reference) = body["$ref"].as_str() {
            let example = &document.pointer(&reference[1..]).unwrap()["example"];
            let answer =
                world.post(&path.replace("{app_id}", APP).replace("{open_id}", PERSON), example).await;
            let expected = match path.as_str() {
                "/v1/auth/sessions" => StatusCode::CREATED,
                // Understood; this person has no token.
                _ => StatusCode::NOT_FOUND,
            };
            assert_eq!(answer.status, expected, "{example}: {}", answer.text);
            sent.push(path.as_str());
        }
    }
    assert_eq!(sent, ["/v1/apps/{app_id}/users/{open_id}/token/refresh", "/v1/auth/sessions"]);
}

#[tokio::test]
async fn root_redirects_to_docs() {
    let world = World::new().await;
    let open = async |path: &str| world.send(Request::get(path).body(Body::empty()).unwrap()).await;
    let root = open("/").await;
    assert_eq!((root.status, root.header("location")), (StatusCode::TEMPORARY_REDIRECT, "docs"));
    let docs = open("/docs").await;
    assert!(docs.status.is_redirection(), "{}", docs.status);
    assert_eq!(docs.header("location"), "docs/");
    assert_eq!(open("/docs/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn docs_pages_are_served() {
    let world = World::new().await;
    let document: Value = world.get("/docs/openapi.json").await.json();
    assert_eq!(document["info"]["title"], "larkauth");
    // Document and API are found from the page, also under a path prefix of a proxy.
    assert_eq!(document["servers"], json!([{ "url": ".." }]));
    let start = world.get("/docs/swagger-initializer.js").await;
    assert!(start.text.contains("\"openapi.json\"") && !start.text.contains("\"/docs"), "{}", start.text);
    let page = world.get("/docs/").await;
    assert!(page.status == StatusCode::OK && page.text.contains("swagger"), "{}", page.text);
    let script = world.get("/docs/swagger-ui-bundle.js").await;
    assert!(script.status == StatusCode::OK && script.text.len() > 100_000);
    let problems = world.get("/docs/problems").await;
    for code in ProblemCode::ALL {
        assert!(problems.text.contains(&format!("id=\"{}\"", code.as_str())), "{}", code.as_str());
    }
}
