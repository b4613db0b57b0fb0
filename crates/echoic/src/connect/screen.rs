//! The terminal while a person talks: the only place that writes to it then.
//!
//! While a line is being typed, rustyline prints above it, and takes one text at a time: whoever prints waits
//! until the one before has been shown. The conversation must not wait there, since the typist's keys come in
//! through it; so texts gather here, a thread of their own hands them to rustyline, and the conversation takes no
//! more from the peer while some wait.

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

use super::gate::Gate;

/// The terminal. Clones write to the same one.
#[derive(Clone)]
pub(super) struct Screen {
    waiting: Arc<Mutex<Waiting>>,
    more: Arc<Notify>,
    colour: bool,
}

/// What is to be printed above the prompt.
#[derive(Default)]
struct Waiting {
    text: String,
    /// Lines that found too much before them.
    skipped: u64,
    /// None while no prompt owns the terminal: then everything is printed at once.
    prompt: Option<Prompted>,
}

struct Prompted {
    texts: mpsc::Sender<String>,
    done: oneshot::Receiver<()>,
}

/// Text that may wait; past it lines are skipped, and counted. Replies wait where they come from before that.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Time for what waits to be printed at the end.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// Up a line and down again: shows nothing, also below what was just printed.
const NOTHING: &str = "\x1b[A\n";

/// Characters of a reply that are shown.
const CHARS_MAX: usize = 4096;

/// Bytes of a reply that are shown as hex.
const HEX_BYTES_MAX: usize = 1024;

/// Where the latency stands, if the reply leaves room for it.
const LATENCY_COLUMN: usize = 60;

impl Screen {
    /// The terminal before a prompt owns it.
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            waiting: Arc::default(),
            more: Arc::default(),
            colour: wanted && io::stdout().is_terminal(),
        }
    }

    /// From here on a prompt owns the terminal, and `printer` writes above it while `gate` is open.
    pub(super) fn give_to(&self, mut printer: impl ExternalPrinter + Send + 'static, gate: Gate) {
        let (texts, mut given) = mpsc::channel::<String>(1);
        let (tell, done) = oneshot::channel();
        thread::spawn(move || {
            while let Some(text) = given.blocking_recv() {
                print_above(&mut printer, &gate, &text);
            }
            let _ = tell.send(());
        });
        self.waiting().prompt = Some(Prompted { texts, done });
    }

    /// Has everything printed that waits; from here on no prompt owns the terminal.
    pub(super) async fn settle(&self) {
        let settled = timeout(SETTLE_WITHIN, async {
            while self.is_behind() {
                self.pump().await;
            }
            let prompt = self.waiting().prompt.take();
            if let Some(Prompted { texts, done }) = prompt {
                drop(texts);
                let _ = done.await;
            }
        });
        if settled.await.is_err() {
            self.waiting().prompt = None;
        }
    }

    /// Shows these lines.
    pub(super) fn print(&self, lines: &str) {
        let mut waiting = self.waiting();
        if waiting.prompt.is_none() {
            return direct(&format!("{lines}\n"));
        }
        if waiting.text.len() > WAITING_BYTES_MAX {
            waiting.skipped += 1;
            return;
        }
        waiting.text.push_str(lines);
        waiting.text.push('\n');
        self.more.notify_one();
    }

    /// Whether something waits to be printed.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting().text.is_empty()
    }

    /// Hands what waits to the prompt, as soon as there is something and the prompt takes it. Cancel safe.
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

    /// A received message, as one or more lines. Peer bytes are only ever shown escaped: a terminal would obey
    /// them.
    pub(super) fn reply(
        &self,
        message: ReceivedMessage<'_>,
        framing: Framing,
        hex: bool,
    ) -> String {
        let kind = message.kind;
        let (mark, style) = match kind {
            ReplyKind::Unsolicited => ("◂!", Style::new().fg_color(Some(AnsiColor::Yellow.into()))),
            _ => ("◂", Style::new().fg_color(Some(AnsiColor::Cyan.into()))),
        };
        let mut text = self.paint(style, mark);
        let mut width = mark.chars().count() + 1;
        text.push(' ');
        let said = if hex {
            hex_rows(message.bytes)
        } else {
            one_line(message, framing)
        };
        width += said.lines().last().unwrap_or_default().chars().count();
        text.push_str(&said);
        if let ReplyKind::Reply(latency) = kind {
            let room = LATENCY_COLUMN.saturating_sub(width).max(2);
            let latency = self.paint(Style::new().dimmed(), &format!("{:>10}", figure(latency)));
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

/// Has a text shown above the prompt, and returns when it is.
fn print_above(printer: &mut impl ExternalPrinter, gate: &Gate, text: &str) {
    gate.wait();
    if printer.print(text.to_owned()).is_err() {
        // Without a prompt any more, it is a terminal like any other.
        return direct(text);
    }
    // It may not have been shown: rustyline may keep it for its next line, or forget it if interrupted. But it keeps
    // one only, so when it has taken another while it was reading a line, the first one has been shown.
    loop {
        let opening = gate.wait();
        let taken = printer.print(NOTHING.to_owned());
        if taken.is_err() || opening.is_none_or(|opening| gate.still(opening)) {
            return;
        }
    }
}

/// To a terminal that is an ordinary one now. One that has gone takes us with it soon enough.
fn direct(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Under a declared framing header and terminator go without saying, and only that one is missing is marked.
fn one_line(message: ReceivedMessage<'_>, framing: Framing) -> String {
    let mark = match framing {
        _ if message.complete => "",
        Framing::Line => " (no newline)",
        _ => " (not ended)",
    };
    format!("{}{mark}", escape::text_up_to(message.body, CHARS_MAX))
}

/// Sixteen bytes a row, with what is printable ASCII beside them.
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

/// A span of time for people: `0.21 ms`, `8.1 s`, `2 m 05 s`.
pub(super) fn figure(span: Duration) -> String {
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

    /// A message whose bytes are all body.
    fn message(kind: ReplyKind, body: &[u8], complete: bool) -> ReceivedMessage<'_> {
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
        let message = ReceivedMessage {
            kind,
            bytes: b"HELLO\n",
            body: b"HELLO",
            complete: true,
        };
        let line = plain().reply(message, Framing::Line, false);
        assert!(line.starts_with("◂ HELLO   "), "{line}");
        assert!(line.ends_with("   0.21 ms"), "{line}");
        assert_eq!(line.chars().count(), LATENCY_COLUMN + 10);
    }

    #[test]
    fn unsolicited_and_unfinished_replies_are_marked() {
        let prompt = message(ReplyKind::Unsolicited, b"login: ", false);
        assert_eq!(
            plain().reply(prompt, Framing::Line, false),
            "◂! login:  (no newline)"
        );
        assert_eq!(
            plain().reply(prompt, Framing::Netstring, false),
            "◂! login:  (not ended)"
        );
        let read = message(ReplyKind::Continuation, b"a\nb", true);
        assert_eq!(plain().reply(read, Framing::Chunk, false), r"◂ a\nb");
    }

    #[test]
    fn escapes_never_reach_the_terminal() {
        let evil = "\x1b[2J\u{9b}31m\r\u{202e}\x07".as_bytes();
        for hex in [false, true] {
            for framing in [Framing::Line, Framing::Chunk] {
                let line =
                    plain().reply(message(ReplyKind::Continuation, evil, false), framing, hex);
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
            assert_eq!(figure(Duration::from_micros(micros)), text);
        }
    }
}
