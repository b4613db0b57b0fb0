//! The files of the page, embedded in the program.
//!
//! Scripts and styles are served without comments, and all text is compressed if the browser takes gzip: the page
//! is small also through a tunnel.

use std::{
    collections::HashMap,
    io::Write,
    sync::{LazyLock, Mutex, PoisonError},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use rust_embed::RustEmbed;

use crate::problem::Problem;

/// The folder `web`. A debug build reads it from the disk at each request.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/web"]
struct Web;

/// Kinds of files by their ending. Others are not served.
const KINDS: [(&str, &str); 7] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("woff2", "font/woff2"),
    ("webmanifest", "application/manifest+json"),
];

/// A file as it is served.
#[derive(Clone)]
struct Served {
    plain: Bytes,
    gzip: Bytes,
    tag: HeaderValue,
}

/// Files that were asked for: at most those of `web`. Empty in a debug build, whose files may change.
static SERVED: LazyLock<Mutex<HashMap<String, Served>>> = LazyLock::new(Mutex::default);

/// Answers with a file. The browser asks again each time and gets 304 while its copy is current.
pub(crate) fn file(path: &str, headers: &HeaderMap) -> Response {
    let kind = KINDS.iter().find(|(known, _)| *known == ending(path));
    let (Some((_, kind)), Some(served)) = (kind, served(path)) else {
        return Problem::not_found("there is no such file").into_response();
    };
    let takes_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|accepted| accepted.to_str().ok())
        .is_some_and(|accepted| accepted.split(',').any(|one| one.trim() == "gzip"));
    let is_known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known == served.tag);
    let mut response = match (is_known, takes_gzip) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, true) => Body::from(served.gzip).into_response(),
        (false, false) => Body::from(served.plain).into_response(),
    };
    let own = response.headers_mut();
    if takes_gzip && !is_known {
        own.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    own.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    own.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    own.insert(header::ETAG, served.tag);
    response
}

fn ending(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, ending)| ending)
}

fn served(path: &str) -> Option<Served> {
    let known = || SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(served) = known().get(path) {
        return Some(served.clone());
    }
    let found = Web::get(path)?;
    let plain = match (ending(path), std::str::from_utf8(&found.data)) {
        ("js", Ok(script)) => without_comments(script).into_bytes(),
        ("css", Ok(styles)) => without_css_comments(styles).into_bytes(),
        _ => found.data.into_owned(),
    };
    // Writing to memory cannot fail.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let _ = encoder.write_all(&plain);
    let gzip = encoder.finish().unwrap_or_default();
    let hash = found.metadata.sha256_hash();
    let hash = u128::from_be_bytes(hash[..16].try_into().unwrap_or_default());
    let served = Served {
        plain: plain.into(),
        gzip: gzip.into(),
        tag: HeaderValue::from_str(&format!("\"{hash:032x}\"")).ok()?,
    };
    if !cfg!(debug_assertions) {
        known().insert(path.to_owned(), served.clone());
    }
    Some(served)
}

/// Empties the lines of comments, so that the numbers of the other lines stay, and removes the types of casts. Only blocks whose
/// lines are all comment count (`/**`, then lines that begin with `*`), and lines that begin with `//`.
/// Indentation goes too: no text of the scripts spans lines.
fn without_comments(script: &str) -> String {
    let mut out = String::with_capacity(script.len());
    let mut is_inside = false;
    for line in script.lines() {
        let trimmed = line.trim();
        let begins = !is_inside && trimmed.starts_with("/**");
        let is_comment = if begins {
            // A cast in the middle of an expression is followed by code.
            !trimmed.contains("*/") || trimmed.ends_with("*/")
        } else {
            is_inside && trimmed.starts_with('*')
        };
        if is_comment {
            is_inside = !trimmed.ends_with("*/");
        } else {
            is_inside = false;
            if !trimmed.starts_with("//") {
                push_without_types(&mut out, trimmed);
            }
        }
        out.push('\n');
    }
    out
}

/// Adds a line without comments like `/** @type {E} */`, which tell the type of what follows.
fn push_without_types(out: &mut String, line: &str) {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("/** @type ")
        && let Some((_, after)) = after.split_once("*/")
    {
        out.push_str(before);
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    out.push_str(rest);
}

/// Removes the comments of a style sheet; its lines keep their numbers. No string of ours has the signs of a comment.
fn without_css_comments(styles: &str) -> String {
    let mut out = String::with_capacity(styles.len());
    let mut rest = styles;
    while let Some((before, comment)) = rest.split_once("/*") {
        let (comment, after) = comment.split_once("*/").unwrap_or((comment, ""));
        out.push_str(before);
        out.extend(comment.matches('\n'));
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_is_served_without_comments_and_types() {
        let script = "/** A. */\n/**\n * B.\n * @param {string} c\n */\nexport const d = /** @type {E} */ (f);\n  /** G. */\n  // I.\n  h(); // J.\n";
        let served = without_comments(script);
        assert_eq!(served, "\n\n\n\n\nexport const d = (f);\n\n\nh(); // J.\n");
    }

    #[test]
    fn style_sheet_is_served_without_comments() {
        let styles = "/* A. */\na { b: c } /* D\n   E. */ f { g: h }\ni { j: k } /* open";
        let served = without_css_comments(styles);
        assert_eq!(served, "\na { b: c } \n f { g: h }\ni { j: k } ");
    }

    /// A page over a slow line: all files together, each compressed.
    #[test]
    fn page_has_at_most_120_kib() {
        let bytes: usize = Web::iter()
            .filter_map(|path| served(&path))
            .map(|file| file.gzip.len())
            .sum();
        assert!(bytes > 0 && bytes <= 120 << 10, "{bytes} bytes");
    }
}
