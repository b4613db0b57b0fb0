//! The bodies of the fuzz targets: each decodes arbitrary bytes into the arguments of an oracle and calls it.
//!
//! They do not depend on libFuzzer, so that a plain test (`crates/echoic/tests/seeds.rs`) runs them too, with the inputs in
//! `seeds/`. These are small, hand-written inputs for cases that random bytes reach slowly; libFuzzer starts from them.

use std::{cell::OnceCell, fs, sync::Arc};

use echoic_core::{
    event::{Address, EndpointInfo, Outcome, Protocol, Role},
    exchange::{Conversation, Exchange},
    framing::{Framing, oracle},
    store::Labels,
};
use echoic_store::oracle::Rows;
use echoic_wire::{TlsServer, TlsServerOptions, TlsVersion, check_first_flight};
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// Runs an oracle on one input. It panics if an invariant does not hold.
pub type Body = fn(&[u8]);

/// The targets by name. A file in `fuzz_targets/` and a folder in `seeds/` have the same name.
pub const TARGETS: [(&str, Body); 11] = [
    ("batch", batch),
    ("breaker", echoic_server::check_breaker),
    ("filter", filter),
    ("first_flight", first_flight),
    ("framing", framing),
    ("lower", lower),
    ("replies", replies),
    ("rows", rows),
    ("escape", escape),
    ("typed", typed),
    ("upper", upper),
];

/// Returns the body of a target.
///
/// # Panics
///
/// If there is no target of this name.
pub fn body(name: &str) -> Body {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.expect("invariant: a target").1
}

/// The rest of an input, decoded from its start.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Takes one byte; 0 at the end of the input.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Takes up to 15 offsets in a stream, of two bytes each.
    fn offsets(&mut self) -> Vec<usize> {
        let count = self.byte() % 16;
        let mut offset = || usize::from(self.byte()) << 8 | usize::from(self.byte());
        (0..count).map(|_| offset()).collect()
    }

    /// Takes a line and its newline, and returns the line without it.
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

/// Any text is a filter that prints and parses back, or an error with a position; its bounds lose no match. The input is a
/// line with the filter, a line with a request, and a reply.
fn filter(data: &[u8]) {
    let mut input = Input(data);
    let (text, request) = (String::from_utf8_lossy(input.line()), input.line());
    echoic_core::filter::check(&text, &exchange(request, input.0), 0);
}

/// The messages of a stream do not depend on how it is cut into reads, and splitting reverses framing. The input is a
/// framing, a limit, the cuts and the stream.
fn framing(data: &[u8]) {
    let mut input = Input(data);
    let (framing, max, offsets) = (framing_of(input.byte()), input.byte(), input.offsets());
    let data = input.0;
    if framing == Framing::Chunk {
        return;
    }
    oracle::check_cuts(framing, max.into(), data, &offsets);
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
    oracle::check_join_then_split(framing, &bodies, &offsets);
}

/// The service `lower` agrees with `str::to_lowercase` for a message, and character by character for a stream. The input
/// is the cuts and the text.
fn lower(data: &[u8]) {
    let mut input = Input(data);
    let offsets = input.offsets();
    echoic_service::lower::oracle::check(input.0, &offsets);
}

/// The client prints every byte received exactly once, and counts at most one reply per request. The input is a framing,
/// the number of requests, the cuts and the bytes received.
fn replies(data: &[u8]) {
    let mut input = Input(data);
    let (framing, sent, offsets) = (framing_of(input.byte()), input.byte() % 8, input.offsets());
    echoic_client::oracle::check_replies(framing, sent, input.0, &offsets);
}

thread_local! {
    static ROWS: OnceCell<(Rows, tempfile::TempDir)> = const { OnceCell::new() };
}

/// Reading the rows of a store file, whatever they contain, returns exchanges or an error, and terminates.
fn rows(data: &[u8]) {
    ROWS.with(|rows| {
        let (rows, _) = rows.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            (Rows::new(folder.path()), folder)
        });
        rows.check(data);
    });
}

/// Escaping removes all control characters, and unescaping returns the bytes.
fn escape(data: &[u8]) {
    echoic_core::escape::check(data);
}

/// Any text is an endpoint, a framing, a size, a network, ... that prints and parses back, or an error of one line.
fn typed(data: &[u8]) {
    echoic_core::oracle::check_typed(&String::from_utf8_lossy(data));
}

/// The service `upper` agrees with `str::to_uppercase`, however the stream is cut.
fn upper(data: &[u8]) {
    echoic_service::casing::oracle::check_upper_stream(data);
}

/// Returns an exchange to match filters against; only its bytes differ.
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
        tls: None,
        half_closed: None,
        ended: None,
        labels: Labels::default(),
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
        labels: Labels::default(),
    }
}

/// Returns a framing by number, one of each kind.
fn framing_of(number: u8) -> Framing {
    let framings = [
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
    let framing = framings[usize::from(number) % framings.len()];
    framing.parse().expect("invariant: a framing")
}

/// The first bytes of a TLS client; the last byte selects the lowest version.
fn first_flight(data: &[u8]) {
    thread_local! {
        static SERVERS: [TlsServer; 2] = [TlsVersion::V1_2, TlsVersion::V1_3].map(tls_server);
    }
    let lowest = usize::from(data.last().copied().unwrap_or(0) & 1);
    SERVERS.with(|servers| check_first_flight(&servers[lowest], data));
}

/// Returns a server with a certificate of its own, in a file that is removed once it is read.
fn tls_server(min_version: TlsVersion) -> TlsServer {
    let made = generate_simple_self_signed(["localhost".to_owned()]);
    let CertifiedKey { cert, signing_key } = made.expect("invariant: it can be made");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("server.pem");
    let pem = format!("{}{}", signing_key.serialize_pem(), cert.pem());
    fs::write(&file, pem).expect("a file");
    let server = TlsServer::new(TlsServerOptions {
        certificate: file.clone(),
        key: file,
        client_ca: None,
        alpn: vec!["echo/1".to_owned()],
        min_version,
    });
    server.expect("invariant: it can be used")
}
