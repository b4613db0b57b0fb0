//! Standard output and standard error: payload on the one, everything echoic says on the other.

#![allow(clippy::print_stderr, reason = "this is the one file that prints")]

use std::{
    fmt::{Arguments, Display, Write as _},
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
};

use anstyle::{AnsiColor, Style};
use echoic_core::escape::{self, is_hidden};
use serde::Serialize;

/// Something echoic has to say, on standard error, as a line. If nobody reads it any more, it is not said.
///
/// It may speak of names that somebody else chose, so a terminal finds nothing in it to obey.
pub(crate) fn say(text: &str) {
    say_in_colour(&sanitize(text));
}

/// The same for a text in our colours, whose other parts are tame.
pub(crate) fn say_in_colour(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// The same without a line's end, for what moves about on a terminal.
pub(crate) fn draw(text: &str) {
    let mut out = anstream::stderr().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// What a terminal would obey in it becomes an escape; lines stay lines. For names and messages, which hold such only if
/// somebody means harm; bytes of peers are shown by [`echoic_core::escape`].
pub(crate) fn sanitize(text: impl Display) -> String {
    let text = text.to_string();
    if !text.contains(is_obeyed) {
        return text;
    }
    let mut sanitize = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) {
            let _ = write!(
                sanitize,
                "{}",
                escape::text(c.encode_utf8(&mut [0; 4]).as_bytes())
            );
        } else {
            sanitize.push(c);
        }
    }
    sanitize
}

/// Whether a terminal does something else with it than to show it, or to end a line.
fn is_obeyed(c: char) -> bool {
    c != '\n' && (c.is_control() || is_hidden(c))
}

/// Whether standard output is a terminal.
pub(crate) fn is_on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Standard output with our colours, or without them where nobody would see any.
pub(crate) fn coloured_stdout() -> impl Write {
    anstream::stdout()
}

/// Standard output without a buffer and without anything that looks into what is written.
pub(crate) fn raw_stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Payload on standard output. A reader that has gone (`| head`) is a quiet end, not an error.
pub(crate) struct Payload {
    out: Box<dyn Write + Send>,
    /// Whether a person looks on: then bytes of peers are shown escaped, and in colour if that is wanted.
    pub(crate) pretty: bool,
}

/// The reader of the payload has gone.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl Payload {
    /// Pretty on a terminal, unless `json` is asked for.
    pub(crate) fn new(json: bool) -> Self {
        let pretty = is_on_terminal() && !json;
        Self {
            out: Box::new(io::BufWriter::with_capacity(64 << 10, anstream::stdout())),
            pretty,
        }
    }

    pub(crate) fn line(&mut self, line: Arguments<'_>) -> Result<(), ReaderGone> {
        writeln!(self.out, "{line}").map_err(|_| ReaderGone)
    }

    /// A value as a line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), ReaderGone> {
        json_line(&mut self.out, value).map_err(|_| ReaderGone)
    }

    pub(crate) fn flush(&mut self) -> Result<(), ReaderGone> {
        self.out.flush().map_err(|_| ReaderGone)
    }
}

/// Writes `value` as a line of JSON that a terminal only shows.
pub(crate) fn json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Sanitized);
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// JSON in which nothing is hidden. JSON itself only asks for C0 controls to be escaped, but a terminal obeys C1
/// controls too, and turns text around at bidirectional marks.
struct Sanitized;

impl serde_json::ser::Formatter for Sanitized {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let hidden = |c: char| c == '\x7f' || is_hidden(c);
        let mut plain = fragment;
        while let Some(at) = plain.find(hidden) {
            let (seen, rest) = plain.split_at(at);
            writer.write_all(seen.as_bytes())?;
            let mut rest = rest.chars();
            for unit in rest.next().unwrap_or_default().encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = rest.as_str();
        }
        writer.write_all(plain.as_bytes())
    }
}

/// The few colours there are: what the peer said, what we said, what is beside the point, what went wrong.
pub(crate) const HEARD: Style = AnsiColor::Cyan.on_default();
/// See [`HEARD`].
pub(crate) const SAID: Style = AnsiColor::Green.on_default();
/// See [`HEARD`].
pub(crate) const ASIDE: Style = Style::new().dimmed();
/// See [`HEARD`].
pub(crate) const WRONG: Style = AnsiColor::Red.on_default();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_hidden_characters_without_loss() {
        let text = "plain \"é\" 漢 \x1b \x7f \u{9b}2J \u{202e}live \u{e0041}";
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, Sanitized);
        text.serialize(&mut serializer).unwrap();
        let shown = String::from_utf8(json).unwrap();
        assert_eq!(
            shown,
            r#""plain \"é\" 漢 \u001b \u007f \u009b2J \u202elive \udb40\udc41""#
        );
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }
}
