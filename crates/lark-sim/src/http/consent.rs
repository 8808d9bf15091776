//! The consent page.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::call::{Call, chosen};
use crate::{
    faults::Endpoint,
    pages,
    rules::consent::{Consent, authorize},
};

/// Answers `GET`: the page that asks for consent.
pub(crate) async fn page(call: Call) -> Response {
    let app_id = call.param("client_id").or_else(|| call.param("app_id"));
    call.run(Endpoint::Authorize, app_id, |state, _, _| match Consent::read(state, &call.query) {
        Ok(consent) => pages::consent(state, &consent, &call.query, call.chinese()),
        Err(error) => pages::refused(&error, call.chinese()),
    })
    .await
}

/// Answers `POST`: the decision of the person.
pub(crate) async fn decide(call: Call) -> Response {
    let fields = call.fields();
    let now = call.sim.now();
    let mut state = call.sim.state();
    let outcome = Consent::read(&state, &call.query)
        .and_then(|consent| authorize(&mut state, now, &consent, chosen(&fields)));
    drop(state);
    call.sim.changed();
    match outcome {
        Ok(url) => (StatusCode::FOUND, [(header::LOCATION, url.to_string())]).into_response(),
        Err(error) => pages::refused(&error, call.chinese()),
    }
}
