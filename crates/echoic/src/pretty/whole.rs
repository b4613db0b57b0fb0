//! Formats an exchange in full.

use std::fmt::Write;

use echoic_core::{escape, event::Role, exchange::Exchange, units::for_people};

use super::{latency, left_over, service, tags};
use crate::{
    local_time,
    term::{DIMMED, RECEIVED, SENT, sanitize},
};

/// How the bytes of a request and of a reply are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// As escaped lines.
    Text,
    /// As rows of hexadecimal digits and characters.
    Hex,
}

/// The note of an exchange, and the tags and the note of its conversation, a line each. A program that is not ours may have
/// written them.
fn notes(exchange: &Exchange) -> String {
    let of_conversation = &exchange.conversation.labels;
    let tags = of_conversation.tags.join(" ");
    let lines = [
        ("note", exchange.labels.note.as_ref()),
        ("tags of the conversation", Some(&tags)),
        ("note on the conversation", of_conversation.note.as_ref()),
    ];
    let mut text = String::new();
    for (name, line) in lines {
        if let Some(line) = line.filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "  {name}: {}", escape::text(line.as_bytes()));
        }
    }
    text
}

/// Formats an exchange in full.
pub(crate) fn whole(exchange: &Exchange, body: Body) -> String {
    let conversation = &exchange.conversation;
    let mut text = String::new();
    let Exchange {
        id,
        n,
        at,
        latency_ns,
        reads,
        request,
        reply,
        ..
    } = exchange;
    let (latency, outcome) = (latency(*latency_ns), exchange.outcome.word());
    let _ = writeln!(
        text,
        "exchange {id}   {}   {latency}   {outcome}{}",
        local_time::full(*at),
        tags(exchange)
    );
    let (client, server) = match conversation.role {
        Role::Server => (&conversation.remote, &conversation.local),
        Role::Client => (&conversation.local, &conversation.remote),
    };
    let _ = writeln!(
        text,
        "  {DIMMED}number {n} of conversation {}, {} → {} ({}, {}, {}){DIMMED:#}",
        conversation.id,
        sanitize(client),
        sanitize(server),
        sanitize(&conversation.endpoint_info.name),
        sanitize(service(conversation)),
        conversation.endpoint_info.messages(),
    );
    let ended = match &conversation.ended {
        Some((at, ending)) => format!("{ending} at {}", local_time::full(*at)),
        None => "open".to_owned(),
    };
    let _ = writeln!(
        text,
        "  {DIMMED}opened {}; {ended}{DIMMED:#}",
        local_time::full(conversation.opened)
    );
    if let Some(tls) = &conversation.tls {
        let _ = writeln!(text, "  {DIMMED}{}{DIMMED:#}", sanitize(super::tls(tls)));
    }
    text += &notes(exchange);
    let in_reads = if *reads > 1 {
        format!(" in {reads} reads")
    } else {
        String::new()
    };
    let _ = writeln!(
        text,
        "  {RECEIVED}▸ {}{in_reads}{RECEIVED:#}",
        for_people(request.len() as u64)
    );
    body.write(&mut text, request);
    let _ = writeln!(text, "  {SENT}◂ {}{SENT:#}", for_people(reply.len() as u64));
    body.write(&mut text, reply);
    text += &left_over(conversation, body);
    text
}

impl Body {
    /// Appends the bytes to `text`, in lines of their own.
    pub(super) fn write(self, text: &mut String, bytes: &[u8]) {
        match self {
            Self::Text => lines(text, bytes),
            Self::Hex => hex_dump(text, bytes),
        }
    }
}

/// Writes bytes as escaped lines, broken at newlines and after 1024 bytes.
fn lines(text: &mut String, bytes: &[u8]) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        for piece in line.chunks(1024) {
            let _ = writeln!(text, "    {}", escape::text(piece));
        }
    }
}

/// Writes bytes in rows of 16, as `hexdump -C` does: the offset, the bytes, and the characters of those that are printable
/// ASCII. A row takes 76 columns; 80 if the bytes are more than 64 KiB.
fn hex_dump(text: &mut String, bytes: &[u8]) {
    const ROW: usize = 16;
    let digits = if bytes.len() > 1 << 16 { 8 } else { 4 };
    for (n, row) in bytes.chunks(ROW).enumerate() {
        let mut hex = String::new();
        let mut characters = String::new();
        for (i, &byte) in row.iter().enumerate() {
            let space = if i == ROW / 2 { " " } else { "" };
            let _ = write!(hex, "{space}{byte:02x} ");
            let is_printable = matches!(byte, b' '..=b'~');
            characters.push(if is_printable { char::from(byte) } else { '.' });
        }
        let _ = writeln!(text, "  {:0digits$x}  {hex:<49} |{characters}|", n * ROW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped(bytes: &[u8]) -> String {
        let mut text = String::new();
        hex_dump(&mut text, bytes);
        text
    }

    #[test]
    fn hex_dump_has_offsets_bytes_and_characters() {
        let bytes: Vec<u8> = (0x15..0x15 + 18).collect();
        assert_eq!(
            dumped(&bytes),
            "  0000  15 16 17 18 19 1a 1b 1c  1d 1e 1f 20 21 22 23 24  |........... !\"#$|\n  \
             0010  25 26                                             |%&|\n"
        );
        assert_eq!(dumped(b""), "");
        assert_eq!(
            dumped(b"\x7f\x80\xc3\xa9~")
                .trim_end()
                .split_once('|')
                .unwrap()
                .1,
            "....~|"
        );
    }

    #[test]
    fn hex_dump_fits_80_columns() {
        for (bytes, width) in [(65_536, 76), (65_537, 80)] {
            let text = dumped(&vec![b'x'; bytes]);
            assert_eq!(text.lines().map(str::len).max(), Some(width));
        }
    }
}
