//! Response objects of the OpenAPI document, one set of problem codes per kind of endpoint.

use std::collections::BTreeMap;

use larkauth_contracts::problem::{Problem, ProblemCode};
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder},
};

/// Response objects for codes, one per status.
fn responses(codes: &[ProblemCode]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status()).or_default().push(format!("`{}`: {}", code.as_str(), code.title()));
    }
    let schema = RefOr::<utoipa::openapi::Schema>::Ref(Ref::from_schema_name(Problem::name()));
    by_status
        .into_iter()
        .map(|(status, lines)| {
            let content = ContentBuilder::new().schema(Some(schema.clone())).build();
            let response = ResponseBuilder::new()
                .description(lines.join("; "))
                .content("application/problem+json", content);
            (status.to_string(), RefOr::T(response.build()))
        })
        .collect()
}

macro_rules! problem_set {
    ($(#[$meta:meta])* $name:ident: $($code:ident),+) => {
        $(#[$meta])*
        pub(crate) struct $name;
        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[
                    $(ProblemCode::$code,)+
                    ProblemCode::InvalidRequest, ProblemCode::Unauthorized, ProblemCode::Forbidden,
                    ProblemCode::Internal, ProblemCode::Unavailable, ProblemCode::Timeout,
                ])
            }
        }
    };
}
problem_set!(
    /// Problems of reading sessions.
    ReadProblems: SessionNotFound, RateLimited
);
problem_set!(
    /// Problems of creating a session.
    CreateProblems: AppNotFound, AppDisabled, RequestTimeout, PayloadTooLarge, UnsupportedMediaType, IdempotencyKeyReused, RateLimited, AppFrozen
);
problem_set!(
    /// Problems of reading audit records.
    AuditProblems: RateLimited
);
problem_set!(
    /// Problems of reading a token.
    TokenProblems: RateLimited, AppNotFound, AuthenticationRequired, InsufficientScope, RefreshInProgress, UpstreamUnavailable, AppDisabled, AppFrozen
);
