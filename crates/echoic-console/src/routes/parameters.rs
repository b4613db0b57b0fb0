//! Refuses parameters that a route does not have, also where it has none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use utoipa::openapi::{RefOr, path::ParameterIn};

use super::document;
use crate::problem::Problem;

/// The parameters of each path, as the document has them.
fn known() -> &'static BTreeMap<String, BTreeSet<String>> {
    static KNOWN: OnceLock<BTreeMap<String, BTreeSet<String>>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let paths = document().paths.paths.into_iter();
        let all = paths.map(|(path, item)| {
            let operations = [item.get, item.post, item.patch].into_iter().flatten();
            let parameters = operations.filter_map(|one| one.parameters).flatten();
            let names = parameters.filter_map(|parameter| match parameter {
                RefOr::T(one) if matches!(one.parameter_in, ParameterIn::Query) => Some(one.name),
                _ => None,
            });
            (path, names.collect())
        });
        all.collect()
    })
}

/// Refuses a parameter that no method of the path has.
pub(super) async fn check(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let is_api = request.uri().path().starts_with("/api/");
    let names = path.as_ref().and_then(|path| known().get(path.as_str()));
    if let Some(names) = names.filter(|_| is_api) {
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
        let mut given = parameters.map(|one| one.split('=').next().unwrap_or_default());
        if let Some(unknown) = given.find(|name| !names.contains(*name)) {
            let known: Vec<_> = names.iter().map(String::as_str).collect();
            let expected = match known[..] {
                [] => "this route has no parameters".to_owned(),
                _ => format!("expected one of {}", known.join(", ")),
            };
            let detail = format!("unknown parameter {unknown:?}: {expected}");
            return Problem::invalid(detail).into_response();
        }
    }
    next.run(request).await
}
