//! The bodies of the fuzz targets: bytes of anybody, made into what an oracle asks for.
//!
//! They need nothing of libFuzzer's, so that a plain test (`crates/echoic/tests/seeds.rs`) says the inputs in `seeds/` to
//! them as well. Those are of our own making, small, and go where chance is slow to come: what libFuzzer starts from.

use std::{cell::OnceCell, sync::Arc};

use echoic_core::{
    event::{Address, EndpointInfo, Outcome, Protocol, Role},
    exchange::{Conversation, Exchange},
    framing::{Framing, oracle},
};
use echoic_store::oracle::Rows;

/// Says one input to an oracle, which panics if something does not hold.
pub type Body = fn(&[u8]);

/// Each target by its name, which is also that of its file and of its folder of seeds.
pub const TARGETS: [(&str, Body); 10] = [
    ("batch", batch),
    ("breaker", echoic_server::check_breaker),
    ("filter", filter),
    ("framing", framing),
    ("lower", lower),
    ("replies", replies),
    ("rows", rows),
    ("shown", shown),
    ("typed", typed),
    ("upper", upper),
];

/// The body of the target called so.
///
/// # Panics
///
/// If there is none.
pub fn body(name: &str) -> Body {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.expect("invariant: a target").1
}

/// What an input is made of, from its front to its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Up to 15 places in a stream, by two bytes each.
    fn addresses(&mut self) -> Vec<usize> {
        let count = self.byte() % 16;
        let mut address = || usize::from(self.byte()) << 8 | usize::from(self.byte());
        (0..count).map(|_| address()).collect()
    }

    /// Up to a newline, which is taken too.
    fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == b'\n');
        let end = end.unwrap_or(self.0.len());
        let line = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        line
    }
}

/// Bytes that are taken for a batch of events: what they say lies within them, or they are refused.
fn batch(data: &[u8]) {
    echoic_core::event::check(data);
}

/// A line that is a filter, one that is a request, and a reply: any text is a filter that prints as itself, or an error that
/// says where; and its bounds lose nothing.
fn filter(data: &[u8]) {
    let mut input = Input(data);
    let (text, request) = (String::from_utf8_lossy(input.line()), input.line());
    echoic_core::filter::check(&text, &exchange(request, input.0), 0);
}

/// A framing, a limit, cuts, and a stream: however a stream is cut into reads, its messages are the same; and what is framed
/// comes out as it went in.
fn framing(data: &[u8]) {
    let mut input = Input(data);
    let (framing, max, addresses) = (framing_of(input.byte()), input.byte(), input.addresses());
    let data = input.0;
    if framing == Framing::Chunk {
        return;
    }
    oracle::cuts_change_nothing(framing, max.into(), data, &addresses);
    let bodies: Vec<Vec<u8>> = match framing {
        Framing::Fixed(n) => data
            .chunks_exact(n.get() as usize)
            .map(<[u8]>::to_vec)
            .collect(),
        _ => data
            .chunks(usize::from(max % 7) + 1)
            .map(<[u8]>::to_vec)
            .collect(),
    };
    oracle::join_then_split(framing, &bodies, &addresses);
}

/// Cuts and a text: lower case is what std says, of a message as a whole, of a stream character by character.
fn lower(data: &[u8]) {
    let mut input = Input(data);
    let addresses = input.addresses();
    echoic_service::lower::oracle::check(input.0, &addresses);
}

/// A framing, how many were asked for, cuts, and what is heard: it is shown once and whole, and no more of it are replies
/// than were asked for.
fn replies(data: &[u8]) {
    let mut input = Input(data);
    let (framing, sent, addresses) = (
        framing_of(input.byte()),
        input.byte() % 8,
        input.addresses(),
    );
    echoic_client::oracle::check_replies(framing, sent, input.0, &addresses);
}

thread_local! {
    static ROWS: OnceCell<(Rows, tempfile::TempDir)> = const { OnceCell::new() };
}

/// Whatever is in the rows of a file, reading it gives exchanges or an error, and an end.
fn rows(data: &[u8]) {
    ROWS.with(|rows| {
        let (rows, _) = rows.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            (Rows::new(folder.path()), folder)
        });
        rows.check(data);
    });
}

/// Nothing a peer sends reaches a terminal unescaped, and what is shown leads back to the bytes.
fn shown(data: &[u8]) {
    echoic_core::escape::check(data);
}

/// Any text is an endpoint, a framing, a size, a network, ... that prints as itself, or an error of one line.
fn typed(data: &[u8]) {
    echoic_core::oracle::check_typed(&String::from_utf8_lossy(data));
}

/// A stream in upper case is what `str::to_uppercase` says, however it is cut.
fn upper(data: &[u8]) {
    echoic_service::casing::oracle::check_upper_stream(data);
}

/// An exchange to ask a filter about; only its bytes differ.
fn exchange(request: &[u8], reply: &[u8]) -> Exchange {
    let conversation = Conversation {
        id: 3,
        opened: 1,
        remote: Address::Net(([127, 0, 0, 1], 51_422).into()),
        local: Address::Net(([127, 0, 0, 1], 5000).into()),
        role: Role::Server,
        server: Arc::default(),
        endpoint_info: Arc::new(EndpointInfo {
            name: "tcp:5000".to_owned(),
            proto: Protocol::Tcp,
            service: "upper".to_owned(),
            framing: Framing::Line.into(),
        }),
        half_closed: None,
        ended: None,
    };
    Exchange {
        id: 7,
        conversation: Arc::new(conversation),
        n: 2,
        at: 2,
        latency_ns: 82_114,
        outcome: Outcome::Ok,
        reads: 1,
        request: request.to_vec(),
        reply: reply.to_vec(),
    }
}

/// A framing of each kind, by a number.
fn framing_of(number: u8) -> Framing {
    let all = [
        "chunk",
        "line",
        "crlf",
        "nul",
        "delim:0a0a",
        "fixed:3",
        "u8",
        "u16be",
        "u16le",
        "u32be",
        "u32le",
        "varint",
        "netstring",
        "content-length",
    ];
    let name = all[usize::from(number) % all.len()];
    name.parse().expect("invariant: a framing")
}
