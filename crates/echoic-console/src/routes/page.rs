//! The page and its files.

use axum::{http::HeaderMap, response::Response};

use crate::{assets, extract::Path};

/// The page
#[utoipa::path(get, path = "/", tag = "page", security(()), responses((status = 200, description = "HTML")))]
pub(super) async fn index(headers: HeaderMap) -> Response {
    assets::file("index.html", &headers)
}

/// A file of the page
#[utoipa::path(get, path = "/assets/{*path}", tag = "page", security(()), params(("path" = String, Path, description = "its path")),
    responses((status = 200, description = "the file"), (status = 404, description = "no such file")))]
pub(super) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    assets::file(&path, &headers)
}
