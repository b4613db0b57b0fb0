//! The columns of a list of exchanges: they fit the terminal and keep their places.

use std::{env, io, ops::Range};

use echoic_core::{
    escape::fit,
    event::{ConversationId, Micros},
    units::for_people,
};
use jiff::civil::Date;
use terminal_size::{Width, terminal_size, terminal_size_of};
use unicode_width::UnicodeWidthStr;

use crate::{local_time, term::DIMMED};

/// Columns of a list that does not go to a terminal, unless `COLUMNS` says otherwise.
const COLUMNS_DEFAULT: usize = 100;

/// Columns of a request or a reply below which a list leaves out conversation and latency.
const SIDE_MIN: usize = 12;

/// Columns from which text that is cut ends with the size of the rest.
const SIZED_MIN: usize = 42;

/// Columns of the longest such size: `…(+1023.9 KiB)`.
const SIZE_COLUMNS: usize = 14;

const TIME: usize = "12:04:07.113".len();
const DATE_AND_TIME: usize = "2026-11-28 12:04:07.113".len();
pub(super) const LATENCY: usize = "999.9 ms".len();

/// The widths of the columns. They only grow, so that they change at most a few times in a list.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    /// Of the whole line.
    width: usize,
    /// The day whose times have no date.
    today: Date,
    has_dates: bool,
    id_digits: usize,
}

impl Columns {
    /// Creates columns that fit the terminal on standard output. Times have no date if they are of `today`.
    pub(crate) fn new(today: Date) -> Self {
        Self::of_width(width_of_output(), today)
    }

    fn of_width(width: usize, today: Date) -> Self {
        Self {
            width,
            today,
            has_dates: false,
            id_digits: 5,
        }
    }

    /// Fits the terminal again, whose size may have changed.
    pub(crate) fn resize(&mut self) {
        self.width = width_of_output();
    }

    /// Sets the day whose times have no date.
    pub(crate) fn set_today(&mut self, today: Date) {
        self.today = today;
    }

    /// Widens the columns for a line of that time and conversation.
    pub(crate) fn make_room(&mut self, at: Micros, conversation: ConversationId) {
        self.has_dates |= !local_time::is_on(at, self.today);
        let digits = conversation.checked_ilog10().unwrap_or(0) as usize + 1;
        self.id_digits = self.id_digits.max(digits);
    }

    /// Formats the time and the conversation, the first columns of a line, and the space after them.
    pub(super) fn head(&self, at: Micros, conversation: ConversationId) -> String {
        let (time, width) = (local_time::short(at, self.today), self.time());
        if self.is_narrow() {
            return format!("{time:>width$}  ");
        }
        let digits = self.id_digits;
        format!("{time:>width$}  {DIMMED}#{conversation:<digits$}{DIMMED:#}  ")
    }

    /// Columns of the request, and of the reply.
    pub(super) fn side(&self) -> usize {
        let wide = self.wide_side();
        if wide < SIDE_MIN {
            // The spaces after the time and between the sides.
            (self.width.saturating_sub(self.time() + 3) / 2).max(SIDE_MIN / 2)
        } else {
            wide
        }
    }

    /// Whether there is no room for the conversation and the latency.
    pub(super) fn is_narrow(&self) -> bool {
        self.wide_side() < SIDE_MIN
    }

    fn wide_side(&self) -> usize {
        // The spaces after time and conversation, the number sign, and the spaces after the sides.
        let others = self.time() + self.id_digits + LATENCY + 7;
        self.width.saturating_sub(others) / 2
    }

    fn time(&self) -> usize {
        if self.has_dates { DATE_AND_TIME } else { TIME }
    }
}

/// Columns of the terminal on standard output; else `COLUMNS`; else those of a terminal on another standard stream, on which
/// a pager may show the list.
fn width_of_output() -> usize {
    let of_output = terminal_size_of(io::stdout());
    let variable = || env::var("COLUMNS").ok()?.parse().ok();
    let other = || terminal_size().map(|(Width(columns), _)| columns.into());
    let of_output = of_output.map(|(Width(columns), _)| columns.into());
    of_output
        .or_else(variable)
        .or_else(other)
        .unwrap_or(COLUMNS_DEFAULT)
}

/// Pads `text` to that many columns.
pub(super) fn padded(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(text.width());
    format!("{text}{:missing$}", "")
}

/// Escapes bytes to at most that many columns: the beginning, or the surroundings of `hit` if the beginning is without it.
pub(super) fn excerpt(bytes: &[u8], hit: Option<Range<usize>>, columns: usize) -> String {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let (text, taken) = fit(line, columns);
    if taken == line.len() {
        return text;
    }
    let (text, taken) = beginning(line, columns);
    match hit.filter(|hit| hit.end > taken && hit.start < line.len()) {
        Some(hit) => surroundings(line, &hit, columns),
        None => text,
    }
}

/// `hel…(+1.9 KiB)`, or in few columns `hello wor…`. Returns it with the number of bytes before the mark.
fn beginning(line: &[u8], columns: usize) -> (String, usize) {
    if columns < SIZED_MIN {
        let (text, taken) = fit(line, columns.saturating_sub(1));
        return (text + "…", taken);
    }
    let (text, taken) = fit(line, columns - SIZE_COLUMNS);
    let rest = for_people((line.len() - taken) as u64);
    (format!("{text}…(+{rest})"), taken)
}

/// `…before the hit after it…`
fn surroundings(line: &[u8], hit: &Range<usize>, columns: usize) -> String {
    let columns = columns.saturating_sub(2);
    // Escapes are longer than what they escape, so a third of the columns may be too much for the bytes before.
    for before in [columns / 3, columns / 8, 0] {
        let start = character_from(line, hit.start.saturating_sub(before)).min(hit.start);
        let (text, taken) = fit(&line[start..], columns);
        let end = start + taken;
        if end >= hit.end || before == 0 {
            let (left, right) = (mark(start > 0), mark(end < line.len()));
            return format!("{left}{text}{right}");
        }
    }
    String::new()
}

fn mark(is_cut: bool) -> &'static str {
    if is_cut { "…" } else { "" }
}

/// Returns the first position from `at` on at which a character of UTF-8 begins; at most 3 bytes continue one.
fn character_from(line: &[u8], at: usize) -> usize {
    let continues = |byte: &&u8| matches!(byte, 0x80..=0xbf);
    let rest = line.get(at..).unwrap_or_default();
    at + rest.iter().take(3).take_while(continues).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_is_the_beginning_with_a_mark() {
        assert_eq!(excerpt(b"hello\n", None, 5), "hello");
        assert_eq!(excerpt(b"hello, world\n", None, 5), "hell…");
        assert_eq!(
            excerpt(b"a\0b", None, 4),
            "a…",
            "an escape is not cut in two"
        );
        assert_eq!(excerpt("漢字漢字".as_bytes(), None, 6), "漢字…");
        let long = [b'x'; 2000];
        let text = excerpt(&long, None, 50);
        assert_eq!(text, format!("{}…(+1.9 KiB)", "x".repeat(36)));
    }

    #[test]
    fn hit_beyond_the_beginning_is_shown_with_its_surroundings() {
        let line = format!("{}NEEDLE{}\n", "hay ".repeat(300), " hay".repeat(300));
        for columns in [12, 23, 31, 60] {
            let text = excerpt(line.as_bytes(), Some(1200..1206), columns);
            assert!(text.contains("NEEDLE"), "{text}");
            assert!(
                text.starts_with('…') && text.ends_with('…') && text.width() <= columns,
                "{text}"
            );
        }
        assert!(excerpt(line.as_bytes(), Some(0..3), 23).starts_with("hay"));
        assert!(excerpt(b"0123456789abcdef", Some(12..16), 8).ends_with("cdef"));
        // It begins before the cut and ends after it.
        assert!(excerpt(b"0123456789abcdef", Some(6..9), 8).contains("678"));
    }

    #[test]
    fn hit_among_escapes_is_shown() {
        let line = [&[0xff; 100][..], "ééNEEDLE".as_bytes(), &[0; 100]].concat();
        for columns in [12, 23, 60] {
            let text = excerpt(&line, Some(104..110), columns);
            assert!(text.contains("NEEDLE") && text.width() <= columns, "{text}");
        }
    }

    #[test]
    fn columns_fit_the_width() {
        let today = Date::constant(2026, 11, 29);
        for width in [40, 60, 80, 100, 120, 200] {
            let mut columns = Columns::of_width(width, today);
            let lines = |columns: &Columns| {
                let id = if columns.is_narrow() {
                    0
                } else {
                    columns.id_digits + LATENCY + 4
                };
                columns.time() + 2 + 2 * columns.side() + 1 + id
            };
            assert!(
                (width - 1..=width).contains(&lines(&columns)),
                "{columns:?}"
            );
            columns.make_room(0, 1_000_000);
            assert!(
                (width - 1..=width).contains(&lines(&columns)),
                "{columns:?}"
            );
            assert!(columns.side() >= SIDE_MIN / 2);
        }
    }
}
