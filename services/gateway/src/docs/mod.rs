//! The pages about the API: OpenAPI 3.1, Swagger UI, the problem codes. All of them work offline.

mod problem_page;

use std::sync::Arc;

use axum::{Router, response::Redirect, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Server,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, SwaggerUi};

pub use self::problem_page::markdown as problems_markdown;
use crate::state::AppState;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "larkauth",
        description = "Keeps people's Feishu/Lark user tokens: asks for consent from inside the chat, and hands valid \
                       tokens to services. Errors are `application/problem+json` (RFC 9457) with a stable `code`; \
                       `/docs/problems` explains each.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "sessions", description = "Asking a person for consent, and following what becomes of it"),
        (name = "tokens", description = "Taking a person's token"),
        (name = "audit", description = "Who did what"),
        (name = "lark", description = "What Lark calls"),
        (name = "browser", description = "What a person's browser opens"),
    ),
    // What only a query or a problem set names is not found by itself.
    components(schemas(
        larkauth_contracts::problem::Problem,
        larkauth_contracts::rest::OnMissing,
        larkauth_contracts::schema::AuditAction,
    )),
    modifiers(&ApiKey),
)]
struct About;

struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key, made with `larkauth keys create` or given as `API_KEY`"));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(scheme.build()));
    }
}

/// The document without its routes.
pub(crate) fn about() -> utoipa::openapi::OpenApi {
    About::openapi()
}

/// The document as it is served: the API is one level above it, also under a path prefix of a proxy.
pub(crate) fn served(mut openapi: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    openapi.servers = Some(vec![Server::new("..")]);
    openapi
}

/// `/docs` and what is below, and the way there for a browser that is given the bare address.
pub(crate) fn routes(openapi: utoipa::openapi::OpenApi) -> Router<Arc<AppState>> {
    // The page finds the document beside itself, also under a path prefix of a proxy.
    let config = Config::from("openapi.json");
    Router::from(SwaggerUi::new("/docs").url("/docs/openapi.json", openapi).config(config))
        .merge(problem_page::routes())
        .route("/", get(async || Redirect::temporary("/docs")))
}
