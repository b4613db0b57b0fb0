//! Positions in a file: line and column, and the line itself for an error.

use std::ops::Range;

use unicode_width::UnicodeWidthStr;

use crate::term::sanitize;

/// Longest part of a line that is printed, in characters.
const LINE_CHARS_MAX: usize = 100;

/// Characters of a longer line that are printed before the one at fault.
const BEFORE_CHARS: usize = 40;

/// Returns line and column of an offset in bytes, both from 1; columns count characters.
pub(super) fn locate(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..source.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[begin..].chars().count() + 1)
}

/// Returns the line in which `at` begins, with its number, and carets below what is at fault.
///
/// A URL with a login ends the line, since the login may be a password.
pub(super) fn excerpt(source: &str, at: &Range<usize>) -> String {
    let start = source.floor_char_boundary(at.start);
    let end = source.floor_char_boundary(at.end).max(start);
    let begin = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line = source[begin..].lines().next().unwrap_or_default();
    let printed = without_login(line);
    let cut = |offset: usize| printed.floor_char_boundary((offset - begin).min(printed.len()));
    let (before, rest) = printed.split_at(cut(start));
    let (fault, after) = rest.split_at(cut(end) - before.len());

    let skipped = match before.chars().count() {
        count if count > LINE_CHARS_MAX - BEFORE_CHARS => count - BEFORE_CHARS,
        _ => 0,
    };
    let room = LINE_CHARS_MAX - (before.chars().count() - skipped);
    let fault: String = fault.chars().take(room).collect();
    let after: String = after.chars().take(room - fault.chars().count()).collect();
    let before: String = before.chars().skip(skipped).collect();

    let dots = |is_cut: bool| if is_cut { "…" } else { "" };
    let length = before.len() + fault.len() + after.len();
    let is_cut = length < printed.len() - skipped_bytes(printed, skipped);
    let before = format!("{}{}", dots(skipped > 0), sanitize(before));
    let (fault, after) = (sanitize(fault), sanitize(after));
    let end = dots(is_cut || printed.len() < line.len());
    let number = locate(source, start).0.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(before.width());
    let carets = "^".repeat(fault.width().max(1));
    format!("{number} | {before}{fault}{after}{end}\n{margin} | {indent}{carets}")
}

fn skipped_bytes(text: &str, chars: usize) -> usize {
    text.char_indices()
        .nth(chars)
        .map_or(text.len(), |(at, _)| at)
}

/// Returns the line up to the first URL with a login.
fn without_login(line: &str) -> &str {
    match line.split_once("://") {
        Some((before, rest)) if rest.contains('@') || rest.contains("password") => {
            &line[..before.len() + "://".len()]
        }
        _ => line,
    }
}
