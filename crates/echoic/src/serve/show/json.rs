//! Prints every event as a line of JSON.
//!
//! Printed exchanges + those counted by `gap` events = served exchanges. A slow reader or a full device loses events, and
//! never delays a conversation.

use std::{
    io::{self, ErrorKind, Write},
    mem,
    sync::Arc,
    time::Duration,
};

use echoic_core::{
    event::{
        Batch, Ended, Event, ExchangeId, Mark, Marked, Opened, Outcome, Role, RunEvent, ServerInfo,
        take_ids,
    },
    exchange::{Conversation, ExchangeRef, exchanges},
    view::{EventJson, JSON_VERSION, OpenConversations},
};
use echoic_recorder::{Missed, RecorderStatus, Seen};
use echoic_server::Listening;
use serde::Serialize;
use tokio::time::Instant;

use super::{Certificates, Printer};
use crate::{
    local_time::{Rfc3339, WithTime},
    term::json_line,
};

/// Lines are buffered up to about this many bytes before they are written.
const WRITE_BYTES: usize = 64 << 10;

/// Interval between attempts to write to a full device.
const RETRY: Duration = Duration::from_secs(1);

const TOO_SLOW: &str = "standard output is read too slowly: not all events are printed there; `gap` events have the \
    number of missing exchanges";

/// Prints lines of JSON.
pub(super) struct JsonPrinter<W, S> {
    out: W,
    /// Prints a message on standard error.
    note: S,
    /// Whole lines that are not written yet.
    lines: Vec<u8>,
    /// Open conversations, each with the part that all its lines share: `,"ep":…,"proto":…,"svc":…,"role":…,"peer":…,"t_us":`.
    open: OpenConversations<Vec<u8>>,
    time: Rfc3339,
    /// Exchanges that could not be written and are not counted by a `gap` event yet.
    missed: u64,
    /// Set while the device is full, to the time of the next attempt: until then exchanges are only counted.
    full_until: Option<Instant>,
    /// Whether the last write ended inside a line.
    is_torn: bool,
    has_noted_slow: bool,
    has_noted_full: bool,
}

impl<W: Write, S: Fn(&str)> JsonPrinter<W, S> {
    pub(super) fn new(out: W, note: S) -> Self {
        Self {
            out,
            note,
            lines: Vec::with_capacity(2 * WRITE_BYTES),
            open: OpenConversations::default(),
            time: Rfc3339::default(),
            missed: 0,
            full_until: None,
            is_torn: false,
            has_noted_slow: false,
            has_noted_full: false,
        }
    }

    /// Prints the listeners.
    pub(super) fn listening(
        &mut self,
        listeners: &[Listening],
        certificates: &[Certificates],
    ) -> io::Result<()> {
        for (listening, certificates) in listeners.iter().zip(certificates) {
            let Listening {
                address,
                endpoint_info,
            } = listening;
            self.line(&EventJson::Listening {
                v: JSON_VERSION,
                ep: &endpoint_info.name,
                addr: address.to_string(),
                svc: &endpoint_info.service,
                frame: endpoint_info.messages(),
                ca: certificates.ca.as_ref(),
                cert: certificates.cert.as_ref(),
            })?;
        }
        Ok(())
    }

    /// Prints where the console is.
    pub(super) fn console(&mut self, console: &EventJson<'_>) -> io::Result<()> {
        self.line(console)
    }

    fn batch(&mut self, mut next: ExchangeId, batch: &Batch) -> io::Result<()> {
        for event in &batch.events {
            match event {
                Event::Opened(opened) => self.opened(opened, &batch.server)?,
                Event::Run(run) => self.run(take_ids(&mut next, run), run, batch)?,
                Event::Mark(Mark {
                    at,
                    what: Marked::Dropped { datagrams },
                    ..
                }) => {
                    let dropped = EventJson::Dropped {
                        v: JSON_VERSION,
                        n: *datagrams,
                        t_us: *at,
                    };
                    let line = WithTime::new(dropped, *at, &mut self.time);
                    self.line(&line)?;
                }
                Event::Mark(_) => {}
                Event::Ended(ended) => self.ended(ended)?,
            }
        }
        Ok(())
    }

    fn run(&mut self, id: ExchangeId, run: &RunEvent, batch: &Batch) -> io::Result<()> {
        let known = self.open.get(run.conversation);
        let (None, Some((conversation, middle))) = (self.full_until, known) else {
            self.missed += u64::from(run.count);
            return Ok(());
        };
        for exchange in exchanges(run, id, batch, conversation) {
            push_exchange(&mut self.lines, &exchange, middle, &mut self.time)?;
        }
        self.written(WRITE_BYTES)
    }

    fn opened(&mut self, opened: &Opened, server: &Arc<ServerInfo>) -> io::Result<()> {
        let conversation = self.open.open(opened, server, middle)?;
        let line = WithTime::new(EventJson::open(&conversation), opened.at, &mut self.time);
        self.line(&line)
    }

    fn ended(&mut self, ended: &Ended) -> io::Result<()> {
        let conversation = self.open.end(ended);
        match conversation.as_ref().and_then(EventJson::end) {
            Some(line) => {
                let line = WithTime::new(line, ended.at, &mut self.time);
                self.line(&line)
            }
            None => Ok(()),
        }
    }

    fn missed(&mut self, missed: &Missed) -> io::Result<()> {
        self.missed += missed.exchanges;
        if missed.exchanges > 0 && !mem::replace(&mut self.has_noted_slow, true) {
            (self.note)(TOO_SLOW);
        }
        self.gap()?;
        for ended in &missed.ended {
            self.ended(ended)?;
        }
        let mut opened = missed.opened.iter();
        opened.try_for_each(|opened| self.opened(opened, &missed.server))
    }

    fn status(&mut self, status: &RecorderStatus) -> io::Result<()> {
        let line = match &status.failure {
            Some(failure) => EventJson::Failing {
                v: JSON_VERSION,
                why: &failure.why,
                since_us: failure.since,
                n: failure.exchanges,
            },
            None => EventJson::Recording {
                v: JSON_VERSION,
                lost: status.lost,
                first: status.recovered.map(|(first, _)| first),
                last: status.recovered.map(|(_, last)| last),
            },
        };
        self.line(&line)
    }

    /// Prints a `gap` event if exchanges are missing, unless the device is full.
    fn gap(&mut self) -> io::Result<()> {
        if self.missed == 0 || self.full_until.is_some() {
            return Ok(());
        }
        let n = mem::take(&mut self.missed);
        self.line(&EventJson::Gap { v: JSON_VERSION, n })
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        if self.full_until.is_some() {
            return Ok(());
        }
        json_line(&mut self.lines, line)?;
        self.written(WRITE_BYTES)
    }

    /// Writes the buffered lines if they have at least `least` bytes. If the device is full, drops the lines and counts
    /// their exchanges as missed.
    fn written(&mut self, least: usize) -> io::Result<()> {
        if self.lines.len() < least.max(1) {
            return Ok(());
        }
        let (n, taken) = write_all(&mut self.out, &self.lines);
        if n > 0 {
            self.is_torn = self.lines[n - 1] != b'\n';
        }
        match taken {
            Ok(()) => {}
            Err(why) if is_full(&why) => {
                self.missed += exchanges_after(n, &self.lines);
                self.full_until = Some(Instant::now() + RETRY);
                if !mem::replace(&mut self.has_noted_full, true) {
                    (self.note)(&format!(
                        "cannot write to standard output: {why}: events are not printed until it can be written to"
                    ));
                }
            }
            Err(why) => return Err(why),
        }
        self.lines.clear();
        Ok(())
    }

    /// Tries to write to a device that was full.
    fn try_again(&mut self) -> io::Result<()> {
        self.full_until = None;
        if self.is_torn {
            self.lines.push(b'\n');
        }
        self.gap()?;
        self.written(0)
    }
}

impl<W: Write, S: Fn(&str)> Printer for JsonPrinter<W, S> {
    fn print(&mut self, seen: &Seen) -> io::Result<()> {
        if self.full_until.is_some_and(|at| Instant::now() >= at) {
            self.try_again()?;
        }
        self.gap()?;
        match seen {
            Seen::Batch { first_id, batch } => self.batch(*first_id, batch),
            Seen::Gap(missed) => self.missed(missed),
            Seen::RecorderStatus(status) => self.status(status),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.full_until
    }

    fn on_deadline(&mut self) -> io::Result<()> {
        self.try_again()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.written(0)
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.full_until.is_some() {
            self.try_again()?;
        }
        self.gap()?;
        self.written(0)
    }
}

/// Writes all of `bytes`. Returns how many were written, and the error that stopped the rest.
fn write_all(out: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut n = 0;
    while n < bytes.len() {
        match out.write(&bytes[n..]) {
            Ok(0) => return (n, Err(ErrorKind::WriteZero.into())),
            Ok(more) => n += more,
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return (n, Err(why)),
        }
    }
    (n, Ok(()))
}

/// Whether the error is one of a full device, which may have space again later.
fn is_full(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Counts the exchanges in the lines, and those of `gap` events, that are not complete in the first `n` bytes. A line that
/// lacks only its newline is complete, because the next write starts with a newline.
fn exchanges_after(n: usize, lines: &[u8]) -> u64 {
    let begin = match lines.get(n) {
        Some(b'\n') => n + 1,
        _ => lines[..n]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1),
    };
    let lines = &lines[begin..];
    let exchanges = lines.split_inclusive(|byte| *byte == b'\n').map(|line| {
        if line.starts_with(EXCHANGE) {
            return 1;
        }
        let gap = line.strip_prefix(br#"{"ev":"gap","v":1,"n":"#);
        let digits = gap.and_then(|rest| rest.strip_suffix(b"}\n"));
        let n = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
        n.unwrap_or(0)
    });
    exchanges.sum()
}

/// The beginning of an exchange's line.
const EXCHANGE: &[u8] = br#"{"ev":"exchange","v":1,"id":"#;

/// `,"ep":…,"proto":…,"svc":…,"role":…,"peer":…,"t_us":`
fn middle(conversation: &Conversation) -> io::Result<Vec<u8>> {
    let (endpoint_info, peer) = (&conversation.endpoint_info, conversation.remote.to_string());
    let mut middle = Vec::new();
    for (key, value) in [
        ("ep", &*endpoint_info.name),
        ("proto", endpoint_info.proto.word()),
        ("svc", &endpoint_info.service),
        ("role", conversation.role.word()),
        ("peer", &peer),
    ] {
        write!(middle, ",\"{key}\":")?;
        json_line(&mut middle, &value)?;
        middle.pop();
    }
    if let Some(tls) = &conversation.tls {
        middle.extend(b",\"tls\":");
        json_line(&mut middle, tls)?;
        middle.pop();
    }
    middle.extend(b",\"t_us\":");
    Ok(middle)
}

/// Writes the line of an exchange. Plain ASCII is formatted by hand, in a fifth of serde's time: at full speed the
/// difference is a quarter of a core. A test checks that both give the same line.
fn push_exchange(
    out: &mut Vec<u8>,
    exchange: &ExchangeRef<'_>,
    middle: &[u8],
    time: &mut Rfc3339,
) -> io::Result<()> {
    if !(is_plain(exchange.request) && is_plain(exchange.reply)) {
        let event = EventJson::exchange(*exchange);
        return json_line(out, &WithTime::new(event, exchange.at, time));
    }
    out.extend_from_slice(EXCHANGE);
    push_number(out, exchange.id);
    out.extend_from_slice(b",\"conv\":");
    push_number(out, exchange.conversation.id);
    out.extend_from_slice(b",\"n\":");
    push_number(out, exchange.n);
    out.extend_from_slice(middle);
    push_number(out, exchange.at);
    out.extend_from_slice(b",\"lat_ns\":");
    push_number(out, exchange.latency_ns);
    out.extend_from_slice(match exchange.outcome {
        Outcome::Ok => b",\"outcome\":\"ok\"",
        Outcome::Unanswered => b",\"outcome\":\"unanswered\"",
        Outcome::Unsent => b",\"outcome\":\"unsent\"",
        Outcome::Withheld => b",\"outcome\":\"withheld\"",
        Outcome::Unpaired => b",\"outcome\":\"unpaired\"",
    });
    out.extend_from_slice(b",\"fault\":null,\"req\":");
    let (reads, writes) = (
        (b"reads".as_slice(), exchange.reads),
        (b"writes".as_slice(), exchange.writes()),
    );
    let (of_request, of_reply) = match exchange.conversation.role {
        Role::Server => (reads, writes),
        Role::Client => (writes, reads),
    };
    push_part(out, exchange.request, of_request);
    out.extend_from_slice(b",\"rep\":");
    push_part(out, exchange.reply, of_reply);
    out.extend_from_slice(b",\"tags\":[");
    for (i, tag) in exchange.tags().enumerate() {
        out.extend_from_slice(if i == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(tag.as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"],\"time\":\"");
    time.push(out, exchange.at);
    out.extend_from_slice(b"\"}\n");
    Ok(())
}

/// Whether it is text of which a terminal shows every character, once JSON has escaped what it asks for.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.is_ascii() && memchr::memchr2(0, 0x7f, bytes).is_none()
}

fn push_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// `{"len":6,"text":"hello\n","reads":1}`
fn push_part(out: &mut Vec<u8>, text: &[u8], (counter, count): (&[u8], u32)) {
    out.extend_from_slice(b"{\"len\":");
    push_number(out, text.len());
    out.extend_from_slice(b",\"text\":\"");
    push_escaped(out, text);
    out.extend_from_slice(b"\",\"");
    out.extend_from_slice(counter);
    out.extend_from_slice(b"\":");
    push_number(out, count);
    out.push(b'}');
}

/// ASCII as it stands in a string (RFC 8259, section 7), with the short escapes there are.
fn push_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    let special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    while let Some(at) = text.iter().position(special) {
        out.extend_from_slice(&text[..at]);
        match text[at] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 0xf)]);
            }
        }
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests;
