//! Headers that every answer has.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Allows the page what it needs and nothing else: own files, no inline script or style, no other host, no frame. Strings become
/// script URLs only through the policy named echoic of the page.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; worker-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types echoic";

/// Has browsers use TLS alone with this host for a day (RFC 6797). Not longer, since it also holds for other ports of the host, which
/// may have no TLS.
const STRICT_TRANSPORT_SECURITY: HeaderValue = HeaderValue::from_static("max-age=86400");

/// Adds the headers that every answer has. An answer of the API is not cached unless its route says otherwise.
pub(crate) fn add(headers: &mut HeaderMap, is_remote_tls: bool) {
    if is_remote_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT_SECURITY);
    }
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}
