//! The screen of the prompt: all output to the terminal goes through it.
//!
//! While the user types a line, rustyline prints above it, one text at a time, and blocks until the previous text is
//! printed. The session loop must not block there, since it handles the user's input too. So texts are queued here, a
//! thread passes them to rustyline, and the session reads no more from the peer while texts wait.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use echoic_client::{ReceivedMessage, ReplyKind};
use echoic_core::{escape, framing::Framing, units::for_people};
use rustyline::ExternalPrinter;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use super::print_gate::PrintGate;
use crate::stdio;

/// The terminal. Clones share it.
#[derive(Clone)]
pub(super) struct Screen {
    waiting: Arc<Mutex<Waiting>>,
    more: Arc<Notify>,
    colour: bool,
}

/// Text to be printed above the prompt.
#[derive(Default)]
struct Waiting {
    text: String,
    /// Lines dropped because too much text was waiting.
    skipped: u64,
    /// `None` while no prompt owns the terminal; text is then printed at once.
    prompt: Option<PromptPrinter>,
}

/// The queue of the thread that prints above the prompt.
struct PromptPrinter {
    texts: mpsc::Sender<String>,
    done: oneshot::Receiver<()>,
}

/// Most text that may wait, in bytes; further lines are dropped and counted. Replies stop being read long before that.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Time for waiting text to be printed at the end.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// Moves the cursor up and down again: a text that shows nothing.
const EMPTY_TEXT: &str = "\x1b[A\n";

/// Characters shown of a reply.
const CHARS_MAX: usize = 4096;

/// Bytes shown of a reply in hex.
const HEX_BYTES_MAX: usize = 1024;

/// Column of the latency, if the reply is short enough.
const LATENCY_COLUMN: usize = 60;

impl Screen {
    /// Returns the terminal without a prompt.
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            waiting: Arc::default(),
            more: Arc::default(),
            colour: wanted && io::stdout().is_terminal(),
        }
    }

    /// From now on a prompt owns the terminal; `printer` prints above it while `gate` is open.
    pub(super) fn attach_prompt(
        &self,
        mut printer: impl ExternalPrinter + Send + 'static,
        gate: PrintGate,
    ) {
        let (texts, mut given) = mpsc::channel::<String>(1);
        let (finished, done) = oneshot::channel();
        thread::spawn(move || {
            while let Some(text) = given.blocking_recv() {
                print_above(&mut printer, &gate, &text);
            }
            let _ = finished.send(());
        });
        self.waiting().prompt = Some(PromptPrinter { texts, done });
    }

    /// Prints all waiting text, for at most two seconds; from then on no prompt owns the terminal.
    pub(super) async fn detach_prompt(&self) {
        let settled = timeout(SETTLE_WITHIN, async {
            while self.is_behind() {
                self.pump().await;
            }
            let prompt = self.waiting().prompt.take();
            if let Some(PromptPrinter { texts, done }) = prompt {
                drop(texts);
                let _ = done.await;
            }
        });
        if settled.await.is_err() {
            self.waiting().prompt = None;
        }
    }

    /// Prints lines, above the prompt if there is one.
    pub(super) fn print(&self, lines: &str) {
        let mut waiting = self.waiting();
        if waiting.prompt.is_none() {
            return print_directly(&format!("{lines}\n"));
        }
        if waiting.text.len() > WAITING_BYTES_MAX {
            waiting.skipped += 1;
            return;
        }
        waiting.text.push_str(lines);
        waiting.text.push('\n');
        self.more.notify_one();
    }

    /// Returns whether text waits to be printed.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting().text.is_empty()
    }

    /// Passes waiting text to the prompt once there is text and the prompt is ready for it. Cancel safe.
    pub(super) async fn pump(&self) {
        loop {
            let queue = {
                let waiting = self.waiting();
                let prompt = waiting.prompt.as_ref();
                prompt
                    .filter(|_| !waiting.text.is_empty())
                    .map(|prompt| prompt.texts.clone())
            };
            let Some(queue) = queue else {
                self.more.notified().await;
                continue;
            };
            let Ok(room) = queue.reserve().await else {
                return;
            };
            let mut waiting = self.waiting();
            let mut text = std::mem::take(&mut waiting.text);
            if waiting.skipped > 0 {
                let _ = writeln!(text, "… {} lines not shown", waiting.skipped);
                waiting.skipped = 0;
            }
            room.send(text);
            return;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Formats a reply as one or more lines. The bytes are escaped, so that they cannot control the terminal.
    pub(super) fn reply(&self, reply: ReceivedMessage<'_>, framing: Framing, hex: bool) -> String {
        let kind = reply.kind;
        let (mark, style) = match kind {
            ReplyKind::Unsolicited => ("◂!", Style::new().fg_color(Some(AnsiColor::Yellow.into()))),
            _ => ("◂", Style::new().fg_color(Some(AnsiColor::Cyan.into()))),
        };
        let mut text = self.paint(style, mark);
        let mut width = mark.chars().count() + 1;
        text.push(' ');
        let shown = if hex {
            hex_rows(reply.bytes)
        } else {
            one_line(reply, framing)
        };
        width += shown.lines().last().unwrap_or_default().chars().count();
        text.push_str(&shown);
        if let ReplyKind::Reply(latency) = kind {
            let room = LATENCY_COLUMN.saturating_sub(width).max(2);
            let latency = self.paint(Style::new().dimmed(), &format!("{:>10}", duration(latency)));
            let _ = write!(text, "{:room$}{latency}", "");
        }
        text
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.colour {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// Prints a text above the prompt, and returns when it is printed.
fn print_above(printer: &mut impl ExternalPrinter, gate: &PrintGate, text: &str) {
    gate.wait_open();
    if printer.print(text.to_owned()).is_err() {
        // The prompt has ended.
        return print_directly(text);
    }
    // rustyline may hold the text back until the next line, or lose it at an interrupt. It holds back one text only, so
    // once it has accepted another while it reads a line, the first one is printed.
    loop {
        let period = gate.wait_open();
        let accepted = printer.print(EMPTY_TEXT.to_owned());
        if accepted.is_err() || period.is_none_or(|period| gate.is_still_open(period)) {
            return;
        }
    }
}

/// Prints to a terminal without a prompt. Errors are ignored: if the terminal is gone, SIGHUP ends the process.
fn print_directly(text: &str) {
    let _ = stdio::output().write_all(text.as_bytes());
}

/// Formats a reply on one line. Header and terminator are left out; a missing terminator is marked.
fn one_line(reply: ReceivedMessage<'_>, framing: Framing) -> String {
    let mark = match framing {
        _ if reply.complete => "",
        Framing::Line => " (no newline)",
        _ => " (not ended)",
    };
    format!("{}{mark}", escape::text_up_to(reply.body, CHARS_MAX))
}

/// Formats a hex dump: sixteen bytes a row, with printable ASCII beside them.
fn hex_rows(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(HEX_BYTES_MAX)];
    let mut text = String::new();
    for (i, row) in shown.chunks(16).enumerate() {
        if i > 0 {
            text.push_str("\n  ");
        }
        for column in 0..16 {
            let _ = match row.get(column) {
                Some(byte) => write!(text, "{byte:02x} "),
                None => write!(text, "   "),
            };
        }
        text.push(' ');
        let printable = |b: &u8| {
            if matches!(b, b' '..=b'~') {
                char::from(*b)
            } else {
                '.'
            }
        };
        text.extend(row.iter().map(printable));
    }
    if shown.len() < bytes.len() {
        let _ = write!(
            text,
            "\n  …(+{})",
            for_people((bytes.len() - shown.len()) as u64)
        );
    }
    text
}

/// Formats a duration: `0.21 ms`, `8.1 s`, `2 m 05 s`.
pub(super) fn duration(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    match seconds {
        s if s < 0.01 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        _ => format!("{} m {:02} s", span.as_secs() / 60, span.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Screen {
        Screen {
            waiting: Arc::default(),
            more: Arc::default(),
            colour: false,
        }
    }

    /// A reply whose bytes are all body.
    fn reply(kind: ReplyKind, body: &[u8], complete: bool) -> ReceivedMessage<'_> {
        ReceivedMessage {
            kind,
            bytes: body,
            body,
            complete,
        }
    }

    #[test]
    fn reply_is_shown_with_its_latency() {
        let kind = ReplyKind::Reply(Duration::from_micros(214));
        let reply = ReceivedMessage {
            kind,
            bytes: b"HELLO\n",
            body: b"HELLO",
            complete: true,
        };
        let line = plain().reply(reply, Framing::Line, false);
        assert!(line.starts_with("◂ HELLO   "), "{line}");
        assert!(line.ends_with("   0.21 ms"), "{line}");
        assert_eq!(line.chars().count(), LATENCY_COLUMN + 10);
    }

    #[test]
    fn unsolicited_and_unfinished_replies_are_marked() {
        let prompt = reply(ReplyKind::Unsolicited, b"login: ", false);
        assert_eq!(
            plain().reply(prompt, Framing::Line, false),
            "◂! login:  (no newline)"
        );
        assert_eq!(
            plain().reply(prompt, Framing::Netstring, false),
            "◂! login:  (not ended)"
        );
        let read = reply(ReplyKind::Continuation, b"a\nb", true);
        assert_eq!(plain().reply(read, Framing::Chunk, false), r"◂ a\nb");
    }

    #[test]
    fn escapes_never_reach_the_terminal() {
        let evil = "\x1b[2J\u{9b}31m\r\u{202e}\x07".as_bytes();
        for hex in [false, true] {
            for framing in [Framing::Line, Framing::Chunk] {
                let line = plain().reply(reply(ReplyKind::Continuation, evil, false), framing, hex);
                assert!(!line.chars().any(char::is_control), "{line:?}");
                assert!(!line.contains('\u{202e}'));
            }
        }
    }

    #[test]
    fn hex_is_shown_in_rows_of_sixteen() {
        let text = hex_rows(b"STRASSE\n");
        assert_eq!(
            text,
            format!("53 54 52 41 53 53 45 0a {} STRASSE.", "   ".repeat(8))
        );
        let rows = hex_rows(&[0; 2000]);
        assert_eq!(rows.lines().count(), 64 + 1);
        assert!(rows.ends_with("…(+976 B)"), "{rows}");
    }

    #[test]
    fn durations_print_with_readable_units() {
        for (micros, text) in [
            (214, "0.21 ms"),
            (12_340, "12.3 ms"),
            (8_100_000, "8.1 s"),
            (125_000_000, "2 m 05 s"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
    }
}
