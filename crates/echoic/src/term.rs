//! Standard output for results, standard error for messages.

#![allow(clippy::print_stderr, reason = "this is the one file that prints")]

use std::{
    fmt::{Arguments, Display, Write as _},
    io::{self, IsTerminal, Write},
};

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use anstyle::{AnsiColor, Style};
use echoic_core::escape::{self, is_hidden};
use serde::Serialize;

use crate::{
    exit::{CliError, CommandResult, Exit},
    status_line, stdio,
};

/// Prints a message as a line on standard error. Write errors are ignored.
///
/// The text is sanitized, since it may contain names that others chose.
pub(crate) fn note(text: &str) {
    note_in_colour(&sanitize(text));
}

/// Like [`note`], for a text with colour codes whose other parts are already sanitized.
pub(crate) fn note_in_colour(text: &str) {
    draw(&format!("{text}\n"));
}

/// Prints a text without a newline on standard error, for output that is redrawn. Write errors are ignored.
pub(crate) fn draw(text: &str) {
    status_line::above(text.ends_with('\n'), || {
        let stderr = io::stderr().lock();
        let _ = coloured(&stderr, stdio::errors()).write_all(text.as_bytes());
    });
}

/// Escapes control and hidden characters except newlines. For names and messages, which rarely contain any; bytes of peers
/// go through [`echoic_core::escape`].
pub(crate) fn sanitize(text: impl Display) -> String {
    let text = text.to_string();
    if !text.contains(is_control) {
        return text;
    }
    let mut sanitized = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            let _ = write!(
                sanitized,
                "{}",
                escape::text(c.encode_utf8(&mut [0; 4]).as_bytes())
            );
        } else {
            sanitized.push(c);
        }
    }
    sanitized
}

/// Removes user and password from the URLs in a text: `nats://USER:PASSWORD@HOST` becomes `nats://HOST`. The text may repeat what was
/// typed.
pub(crate) fn without_logins(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\'' | '"' | '`');
    let mut parts = text.split("://");
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        without.push_str("://");
        let end = part.find(is_end).unwrap_or(part.len());
        let login = part[..end].rfind('@').map_or(0, |at| at + 1);
        without.push_str(&part[login..]);
    }
    without
}

/// Returns whether a terminal would act on the character instead of showing it.
fn is_control(c: char) -> bool {
    c != '\n' && (char::is_control(c) || is_hidden(c))
}

/// Returns whether standard output is a terminal.
pub(crate) fn is_on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether standard error is a terminal.
pub(crate) fn is_stderr_on_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns standard output; colour codes are removed unless it is a terminal that supports them.
pub(crate) fn coloured_stdout() -> impl Write + Send {
    coloured(&io::stdout(), stdio::output())
}

/// Returns `out` without colour codes, unless `stream` is a terminal that supports them.
fn coloured(
    stream: &impl RawStream,
    out: impl Write + Send + 'static,
) -> AutoStream<Box<dyn Write + Send>> {
    AutoStream::new(Box::new(out), AutoStream::choice(stream))
}

/// Returns the text dimmed, if standard error shows colours.
pub(crate) fn dimmed(text: &str) -> String {
    match AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => text.to_owned(),
        _ => format!("{DIMMED}{text}{DIMMED:#}"),
    }
}

/// The result of a command on standard output.
pub(crate) struct Payload {
    out: Box<dyn Write + Send>,
    /// Standard output is a terminal and the form is not JSON: format for reading, escape bytes, use colour.
    pub(crate) pretty: bool,
}

/// Why standard output takes no more.
#[derive(Debug)]
pub(crate) enum OutputError {
    /// Its reader has closed the pipe (`| head`). It has what it wanted, so this ends a command and is no failure.
    ReaderGone,
    /// It cannot be written: the result is incomplete.
    Failed(io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failed(error),
        }
    }
}

impl OutputError {
    /// Returns the result of a command whose output ended here; `exit` if its reader has gone.
    pub(crate) fn into_result(self, exit: Exit) -> CommandResult {
        match self {
            Self::ReaderGone => Ok(exit),
            Self::Failed(error) => Err(CliError::system(format!(
                "cannot write standard output: {error}"
            ))),
        }
    }
}

/// Returns the result of a command that has nothing to do but print.
pub(crate) fn done(printed: Result<(), OutputError>) -> CommandResult {
    match printed {
        Ok(()) => Ok(Exit::Done),
        Err(error) => error.into_result(Exit::Done),
    }
}

impl Payload {
    /// Creates a payload, pretty on a terminal unless `json` is set.
    pub(crate) fn new(json: bool) -> Self {
        let pretty = is_on_terminal() && !json;
        let out = io::BufWriter::with_capacity(64 << 10, coloured_stdout());
        Self::on(out, pretty)
    }

    /// Creates a payload that goes to `out`.
    pub(crate) fn on(out: impl Write + Send + 'static, pretty: bool) -> Self {
        Self {
            out: Box::new(out),
            pretty,
        }
    }

    pub(crate) fn line(&mut self, line: Arguments<'_>) -> Result<(), OutputError> {
        Ok(writeln!(self.out, "{line}")?)
    }

    /// Writes a text that has its own line ends.
    pub(crate) fn text(&mut self, text: Arguments<'_>) -> Result<(), OutputError> {
        Ok(self.out.write_fmt(text)?)
    }

    /// Writes a value as a line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), OutputError> {
        Ok(json_line(&mut self.out, value)?)
    }

    /// Writes what is buffered. Without it, an error of the last write is not noticed.
    pub(crate) fn flush(&mut self) -> Result<(), OutputError> {
        Ok(self.out.flush()?)
    }
}

/// Writes `value` as a line of JSON with all control and hidden characters escaped.
pub(crate) fn json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Sanitized);
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// A JSON formatter that also escapes DEL, C1 controls and bidirectional marks. JSON itself requires escapes for C0 controls
/// only, but terminals act on the others too.
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
            let (before, rest) = plain.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut rest = rest.chars();
            for unit in rest.next().unwrap_or_default().encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = rest.as_str();
        }
        writer.write_all(plain.as_bytes())
    }
}

/// The colour of received data.
pub(crate) const RECEIVED: Style = AnsiColor::Cyan.on_default();
/// The colour of sent data.
pub(crate) const SENT: Style = AnsiColor::Green.on_default();
/// The style of secondary text.
pub(crate) const DIMMED: Style = Style::new().dimmed();
/// The colour of errors.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_hidden_characters_without_loss() {
        let text = "plain \"é\" 漢 \x1b \x7f \u{9b}2J \u{202e}live \u{e0041}";
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, Sanitized);
        text.serialize(&mut serializer).unwrap();
        let escaped = String::from_utf8(json).unwrap();
        assert_eq!(
            escaped,
            r#""plain \"é\" 漢 \u001b \u007f \u009b2J \u202elive \udb40\udc41""#
        );
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
