//! Errors of the API: problem details (RFC 9457).

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use echoic_core::{
    control::ControlError,
    filter::FilterError,
    store::{StoreError, StoreErrorKind},
};
use serde::Serialize;
use utoipa::ToSchema;

/// An error, as `application/problem+json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status tells the kind.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The name of the status.
    #[schema(example = "Bad Request")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 400)]
    status: u16,
    /// What happened, why, and what to do.
    detail: String,
    /// Seconds to wait, for the header Retry-After.
    #[serde(skip)]
    retry_after: Option<u64>,
    /// What a request must show: `token`, or `password` (which the page then asks for).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    needs: Option<Secret>,
    /// Position of a mistake in a filter, in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    column: Option<usize>,
    /// What may have been meant instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    suggestion: Option<String>,
}

/// What a request may have to show.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Secret {
    Token,
    Password,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            retry_after: None,
            needs: None,
            column: None,
            suggestion: None,
        }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// With what a request must show.
    pub(crate) fn needing(self, secret: Secret) -> Self {
        Self {
            needs: Some(secret),
            ..self
        }
    }

    /// Of too many wrong passwords, with the time until the next one is looked at.
    pub(crate) fn too_many_wrong_passwords(left: Duration) -> Self {
        let seconds = left.as_secs() + 1;
        let detail = format!("too many wrong passwords: try again in {seconds} s");
        Self {
            retry_after: Some(seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// Of too many wrong tokens, with the time until the next one is looked at.
    pub(crate) fn too_many_wrong_tokens(left: Duration) -> Self {
        let seconds = left.as_secs() + 1;
        let detail =
            format!("too many wrong tokens: try again in {seconds} s, or with the right one");
        Self {
            retry_after: Some(seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// Of an error that no request should cause.
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn internal(error: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after;
        let mut response = (status, Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<FilterError> for Problem {
    fn from(error: FilterError) -> Self {
        Self {
            column: Some(error.column()),
            suggestion: error.suggestion(),
            ..Self::invalid(error.message())
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let status = match error.kind {
            StoreErrorKind::InvalidLabel { .. } => StatusCode::BAD_REQUEST,
            StoreErrorKind::ReadOnly { .. } | StoreErrorKind::Held { .. } => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let status = match error {
            ControlError::NotFound(_) => StatusCode::NOT_FOUND,
            ControlError::Invalid(_) => StatusCode::BAD_REQUEST,
            ControlError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            ControlError::Failed(_) => StatusCode::BAD_GATEWAY,
            ControlError::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, error.to_string())
    }
}
