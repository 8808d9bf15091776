use axum::http::StatusCode;
use larkauth_contracts::problem::ProblemCode;
use serde_json::Value;

use super::world::World;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/openapi.yaml");

#[test]
fn the_committed_contract_is_the_code() {
    let document = crate::openapi().to_yaml().unwrap();
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(document == committed, "contracts/openapi.yaml is out of date: run scripts/generate");
}

#[test]
fn every_operation_is_described_and_guarded() {
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
    assert_eq!(ids.len(), 7);
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn the_pages_are_served() {
    let world = World::new().await;
    let document: Value = world.get("/docs/openapi.json").await.json();
    assert_eq!(document["info"]["title"], "larkauth");
    let page = world.get("/docs/").await;
    assert!(page.status == StatusCode::OK && page.text.contains("swagger"), "{}", page.text);
    let script = world.get("/docs/swagger-ui-bundle.js").await;
    assert!(script.status == StatusCode::OK && script.text.len() > 100_000);
    let problems = world.get("/docs/problems").await;
    for code in ProblemCode::ALL {
        assert!(problems.text.contains(&format!("id=\"{}\"", code.as_str())), "{}", code.as_str());
    }
}
