//! The text of the status line.

use terminal_size::{Width, terminal_size};
use unicode_width::UnicodeWidthChar;

use super::activity::{Seen, Selection};
use crate::{pretty, status::ServerStatus, term};

/// Width of a terminal that does not tell.
const COLUMNS_DEFAULT: usize = 80;

/// The status of the server in one line, cut to the width of the terminal.
pub(super) fn text(status: &ServerStatus, seen: Seen, selection: &Selection) -> String {
    let mut parts = Vec::new();
    if status.stopping {
        parts.push("stopping".to_owned());
    }
    if selection.is_paused {
        parts.push("printing paused".to_owned());
    }
    if let Some(filter) = &selection.filter {
        parts.push(format!("filter {}", term::sanitize(filter)));
    }
    parts.push(format!("{} open", status.open));
    parts.push(format!("{}/s", seen.exchanges));
    if let (Some(p50), Some(p99)) = (seen.p50_ns, seen.p99_ns) {
        let (p50, p99) = (pretty::latency(p50), pretty::latency(p99));
        parts.push(format!("p50 {p50} p99 {p99}"));
    }
    if status.store == "none" {
        parts.push("recording nothing".to_owned());
    } else {
        parts.push(format!(
            "{} recorded, {} lost",
            status.recorded, status.lost
        ));
    }
    if status.failing.is_some() {
        parts.push("NOT RECORDING".to_owned());
    }
    parts.push("? keys".to_owned());
    cut(&format!("─ {}", parts.join(" · ")))
}

/// The line while a filter is typed: its end is visible.
pub(super) fn entry(text: &str) -> String {
    let columns = columns();
    let mut line = format!("filter: {}", term::sanitize(text));
    while width(&line) > columns {
        line.remove(0);
    }
    line
}

fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Columns of the line: one less than the terminal has, so that the cursor does not wrap.
fn columns() -> usize {
    let columns = terminal_size().map_or(COLUMNS_DEFAULT, |(Width(columns), _)| columns.into());
    columns.saturating_sub(1)
}

fn cut(text: &str) -> String {
    let columns = columns();
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    for c in text.chars() {
        if width(&cut) + c.width().unwrap_or(0) + 1 > columns {
            break;
        }
        cut.push(c);
    }
    cut + "…"
}
