//! The routes: one table, which is also the OpenAPI document.

mod actions;
mod call;
mod charts;
mod conversations;
mod docs;
mod events;
mod exchanges;
mod export;
mod health;
mod info;
mod labels;
pub(crate) mod metrics;
mod notices;
mod page;
mod parameters;
mod processes;
mod raw;
mod session;
mod stats;
mod wait;

use std::sync::Arc;

use axum::{Router, http::StatusCode, middleware::from_fn};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, SecurityRequirement,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use self::{stats::HistogramFormat, wait::Waiters};
use crate::{problem::Problem, state::App};

/// The head of the OpenAPI document. The paths come from the table.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "echoic",
        description = "The record of an echoic server, and the server itself."
    ),
    modifiers(&Security)
)]
struct Document;

/// Every operation needs the token or the password, but for those that say otherwise.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let schemes = [
            ("token", HttpAuthScheme::Bearer),
            ("password", HttpAuthScheme::Basic),
        ];
        let either = schemes.map(|(name, scheme)| {
            components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
            SecurityRequirement::new(name, Vec::<String>::new())
        });
        document.security = Some(either.into());
    }
}

/// Every route, with its documentation.
fn table() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(page::index))
        .routes(routes!(page::asset))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(session::log_in))
        .routes(routes!(docs::plain))
        .routes(routes!(docs::llms))
        .routes(routes!(docs::openapi))
        .routes(routes!(info::info))
        .routes(routes!(exchanges::list, labels::exchanges))
        .routes(routes!(exchanges::latest))
        .routes(routes!(exchanges::count))
        .routes(routes!(wait::wait))
        .routes(routes!(exchanges::one, labels::exchange))
        .routes(routes!(raw::request))
        .routes(routes!(raw::reply))
        .routes(routes!(export::export))
        .routes(routes!(conversations::list))
        .routes(routes!(conversations::one, labels::conversation))
        .routes(routes!(conversations::messages))
        .routes(routes!(raw::conversation))
        .routes(routes!(conversations::calls))
        .routes(routes!(actions::send))
        .routes(routes!(actions::close))
        .routes(routes!(labels::tags))
        .routes(routes!(actions::endpoints))
        .routes(routes!(actions::set_endpoint))
        .routes(routes!(processes::processes))
        .routes(routes!(actions::explain))
        .routes(routes!(call::call))
        .routes(routes!(events::events))
        .routes(routes!(stats::stats))
        .routes(routes!(stats::histogram))
        .routes(routes!(charts::chart))
        .routes(routes!(metrics::metrics))
}

/// Returns the routes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let (router, _) = table().split_for_parts();
    router
        .fallback(async || {
            Problem::not_found("there is nothing at this path: GET /api/v1 lists what there is")
        })
        .method_not_allowed_fallback(async || {
            let detail = "this path has other methods: GET /api/v1 lists them";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(from_fn(parameters::check))
        .with_state(Arc::clone(app))
}

/// Returns the OpenAPI document.
pub(crate) fn document() -> openapi::OpenApi {
    table().into_openapi()
}

/// Whether a route waits on purpose, within a limit of its own.
pub(crate) fn is_bounded_by_itself(path: &str) -> bool {
    ["/api/v1/exchanges/wait", "/api/v1/send"].contains(&path)
}
