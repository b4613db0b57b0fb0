//! Standard output and standard error: payload on the one, everything echoic says on the other.

#![allow(clippy::print_stderr, reason = "this is the one file that prints")]

use std::{
    fmt::Arguments,
    io::{self, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};
use tracing_subscriber::EnvFilter;

/// Something echoic has to say, on standard error, as a line. If nobody reads it any more, it is not said.
pub(crate) fn say(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Has warnings and errors of the libraries printed on standard error; `ECHOIC_LOG` asks for more, in the words of
/// tracing's filters (`debug`, `echoic_server=trace`).
pub(crate) fn trace() {
    let filter = EnvFilter::builder()
        .with_env_var("ECHOIC_LOG")
        .with_default_directive(tracing::Level::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .without_time()
        .init();
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
        let pretty = io::stdout().is_terminal() && !json;
        Self {
            out: Box::new(io::BufWriter::with_capacity(64 << 10, anstream::stdout())),
            pretty,
        }
    }

    pub(crate) fn line(&mut self, line: Arguments<'_>) -> Result<(), ReaderGone> {
        writeln!(self.out, "{line}").map_err(|_| ReaderGone)
    }

    /// A value as a line of JSON.
    pub(crate) fn json(&mut self, value: &impl serde::Serialize) -> Result<(), ReaderGone> {
        serde_json::to_writer(&mut self.out, value).map_err(|_| ReaderGone)?;
        self.out.write_all(b"\n").map_err(|_| ReaderGone)
    }

    pub(crate) fn flush(&mut self) -> Result<(), ReaderGone> {
        self.out.flush().map_err(|_| ReaderGone)
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
