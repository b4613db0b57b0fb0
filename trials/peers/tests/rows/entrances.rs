//! Rows 8, 10, 11 and 41: messages that are too long on every kind of endpoint, wrong lengths, garbage, and HTTP
//! requests from a browser.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
};

use trials_peers::{
    Serve,
    meter::kib,
    naive::{Naive, TRUSTS_LENGTHS},
    namespace::alone,
    peer::{Seen, ask, call, finish, rest},
};
use trials_report::{Row, Scale};

const LIMIT: usize = 50_000;

/// Encodes a body of this length in each framing.
fn framed(framing: &str, len: usize) -> Vec<u8> {
    let mut bytes = match framing {
        "u16be" => u16::try_from(len)
            .unwrap_or(u16::MAX)
            .to_be_bytes()
            .to_vec(),
        "u16le" => u16::try_from(len)
            .unwrap_or(u16::MAX)
            .to_le_bytes()
            .to_vec(),
        "u32be" => (len as u32).to_be_bytes().to_vec(),
        "u32le" => (len as u32).to_le_bytes().to_vec(),
        "varint" => {
            let (mut rest, mut bytes) = (len, Vec::new());
            while rest > 127 {
                bytes.push((rest & 127) as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            bytes
        }
        "netstring" => format!("{len}:").into_bytes(),
        "content-length" => format!("Content-Length: {len}\r\n\r\n").into_bytes(),
        _ => Vec::new(),
    };
    bytes.resize(bytes.len() + len, b'x');
    let end: &[u8] = match framing {
        "line" => b"\n",
        "crlf" => b"\r\n",
        "nul" => b"\0",
        "delim:7c7c" => b"||",
        "netstring" => b",",
        _ => b"",
    };
    bytes.extend(end);
    bytes
}

/// Whether an echo server answers a message completely.
fn is_answered(serve: &Serve, message: &[u8]) -> bool {
    let mut peer = call(serve.at[0]);
    let mut writer = peer.try_clone().unwrap();
    let message = message.to_vec();
    let expected = message.clone();
    let writing = thread::spawn(move || {
        let _ = writer.write_all(&message);
        finish(&writer);
    });
    let (received, seen) = rest(&mut peer);
    writing.join().unwrap();
    assert!(
        seen != Seen::Open && (received.is_empty() || received == expected),
        "neither whole nor nothing"
    );
    received == expected
}

#[test]
fn too_long_message_is_rejected_under_every_framing() {
    alone(
        "entrances::too_long_message_is_rejected_under_every_framing",
        too_long,
    );
}

fn too_long() {
    let scale = Scale::asked();
    let framings = [
        "line",
        "crlf",
        "nul",
        "delim:7c7c",
        "u16be",
        "u16le",
        "u32be",
        "u32le",
        "varint",
        "netstring",
        "content-length",
    ];
    let mut wrong = Vec::new();
    let (mut messages, mut most, mut control) = (0, 0, 0);
    for framing in framings {
        let limit = LIMIT.to_string();
        let serve = Serve::start(&["echo=:0", "--frame", framing, "--max-message", &limit]);
        let wide = Serve::start(&["echo=:0", "--frame", framing]);
        assert!(is_answered(&serve, &framed(framing, 1)));
        let before = serve.process().resident();
        // The largest length that two bytes can announce is not ten times that.
        let longest = if framing.starts_with("u16") {
            65_535
        } else {
            10 * LIMIT
        };
        for (len, fits) in [
            (LIMIT - 1, true),
            (LIMIT, true),
            (LIMIT + 1, false),
            (longest, false),
        ] {
            messages += 1;
            let message = framed(framing, len);
            if is_answered(&serve, &message) != fits {
                wrong.push(format!("{framing} {len}"));
            }
            control += usize::from(is_answered(&wide, &message));
        }
        most = most.max(serve.process().resident_peak().saturating_sub(before));
        let recorded = serve.ended("message-too-long", 2);
        if recorded != 2 {
            wrong.push(format!(
                "{framing}: {recorded} recorded as message-too-long"
            ));
        }
    }
    Row {
        row: 8,
        hazard: "messages that are too long".into(),
        load: format!("one below, at, one above and far above `--max-message {LIMIT}` in {} framings", framings.len()),
        observed: if wrong.is_empty() {
            format!(
                "{messages} messages: those within answered whole, those beyond ended as `message-too-long` with nothing \
                 answered; memory at most {} above",
                kib(most)
            )
        } else {
            format!("not as it should be: {}", wrong.join(", "))
        },
        limit: format!("exactly the first two of each; {}", kib(8 << 20)),
        control: format!("without `--max-message` {control} of {messages} are answered"),
        pass: wrong.is_empty() && most <= 8 << 20 && control == messages,
        scale,
    }
    .hold();
}

#[test]
fn oversized_length_prefix_allocates_no_memory() {
    alone(
        "entrances::oversized_length_prefix_allocates_no_memory",
        lies,
    );
}

fn lies() {
    let scale = Scale::asked();
    let each = scale.pick(20, 100);
    // A framing, and an announced length without its bytes; the largest allowed one is among them.
    let lengths: [(&str, &[u8]); 10] = [
        ("u16be", b"\xff\xff"),
        ("u32be", b"\x00\x10\x00\x00"),
        ("u32be", b"\x00\x10\x00\x01"),
        ("u32be", b"\xff\xff\xff\xff"),
        ("u32le", b"\xff\xff\xff\x7f"),
        ("varint", b"\x80\x80\x40"),
        ("varint", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("netstring", b"1048576:"),
        ("netstring", b"9999999999:"),
        (
            "content-length",
            b"Content-Length: 18446744073709551615\r\n\r\n",
        ),
    ];
    let mut most = 0;
    for framing in [
        "u16be",
        "u32be",
        "u32le",
        "varint",
        "netstring",
        "content-length",
    ] {
        let serve = Serve::start(&["echo=:0", "--frame", framing, "--message-timeout", "1h"]);
        let next = framed(framing, 3);
        ask(&mut call(serve.at[0]), &next, &next).unwrap();
        let before = serve.process().resident();
        let mut peers = Vec::new();
        for (_, length) in lengths.iter().filter(|(of, _)| *of == framing) {
            for _ in 0..each {
                let mut peer = call(serve.at[0]);
                peer.write_all(length).unwrap();
                let _ = peer.write_all(b"four");
                peers.push(peer);
            }
        }
        ask(&mut call(serve.at[0]), &next, &next).unwrap();
        most = most.max(serve.process().resident_peak().saturating_sub(before));
    }
    let naive = Naive::start(TRUSTS_LENGTHS);
    let before = naive.process().resident();
    for _ in 0..4 {
        ask(&mut call(naive.at), b"\xff\xff\xff\xff", b".").unwrap();
    }
    let naive_grown = naive.process().resident().saturating_sub(before);
    Row {
        row: 10,
        hazard: "wrong length prefixes".into(),
        load: format!("{} announced lengths from 64 KiB to 2^64 - 1, {each} clients each, of which four bytes come", lengths.len()),
        observed: format!("memory grew by at most {}; the next message answered each time", kib(most)),
        limit: "4 MiB".into(),
        control: format!("a server that allocates what is announced, 4 clients: {}", kib(naive_grown)),
        pass: most <= 4 << 20 && naive_grown > 64 << 20,
        scale,
    }
    .hold();
}

#[test]
fn garbage_input_does_not_disturb_other_peers() {
    alone(
        "entrances::garbage_input_does_not_disturb_other_peers",
        garbage,
    );
}

fn garbage() {
    let scale = Scale::asked();
    // 100 MiB for each framing in the full run; one that is soon rejected takes less.
    let (conversations, each) = (scale.pick(30, 200), scale.pick(20_000, 512 << 10));
    let framings = [
        "chunk",
        "line",
        "varint",
        "netstring",
        "content-length",
        "u32be",
    ];
    let mut seed = fastrand::Rng::with_seed(7);
    let (mut offered, mut bytes, mut echoed, mut right) = (0, 0, 0, true);
    for framing in framings {
        let serve = Serve::start(&["echo=:0", "upper=:0", "--frame", framing]);
        for i in 0..conversations {
            let mut request = vec![0; each];
            seed.fill(&mut request);
            let mut peer: TcpStream = call(serve.at[i % 2]);
            let piece = [1, 2, 3, 7, 4096][i % 5];
            let mut writer = peer.try_clone().unwrap();
            let sending = request.clone();
            let writing = thread::spawn(move || {
                // Pieces of one byte take long; a few hundred of them are enough.
                let (small, rest) = sending.split_at(sending.len().min(piece * 500));
                let pieces = small.chunks(piece).chain(rest.chunks(4096));
                let mut taken = 0;
                for piece in pieces {
                    if writer.write_all(piece).is_err() {
                        return taken;
                    }
                    taken += piece.len();
                }
                finish(&writer);
                taken
            });
            let mut received = Vec::new();
            let _ = peer.read_to_end(&mut received);
            bytes += writing.join().unwrap();
            offered += each;
            if framing == "chunk" && i % 2 == 0 {
                echoed += received.len();
                right &= received == request;
            }
        }
        let next = framed(framing, 3);
        ask(&mut call(serve.at[0]), &next, &next).unwrap();
        let (stopped, _home) = serve.stop();
        right &= stopped.in_order
            && !stopped.stderr.contains("bug")
            && !stopped.stderr.contains("panic");
    }
    // A single wrong byte would be detected.
    let mut altered = framed("line", 3);
    altered[1] ^= 1;
    let serve = Serve::start(&["echo=:0", "--frame", "line"]);
    let noticed = ask(&mut call(serve.at[0]), &framed("line", 3), &altered).is_err();
    Row {
        row: 11,
        hazard: "garbage".into(),
        load: format!(
            "{} of random bytes in {} conversations and {} framings, in pieces of 1, 2, 3, 7 and 4096 bytes",
            kib(offered as u64),
            conversations * framings.len(),
            framings.len()
        ),
        observed: format!(
            "{} accepted until malformed; no panic; the next message answered each time; {} echoed under `chunk`, the same byte for byte: {right}",
            kib(bytes as u64),
            kib(echoed as u64)
        ),
        limit: "no panic, no hang, every next one right".into(),
        control: "a reply with one bit changed is detected".into(),
        pass: right && noticed,
        scale,
    }
    .hold();
}

#[test]
fn http_request_from_a_browser_is_flagged() {
    alone("entrances::http_request_from_a_browser_is_flagged", browser);
}

fn browser() {
    let scale = Scale::asked();
    let request = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nhello\n";
    let mut flagged = Vec::new();
    for framing in ["chunk", "line", "crlf", "nul"] {
        let serve = Serve::start(&["discard=:0", "--frame", framing]);
        for request in [&request[..], b"hello\n", b"POST is no request\n"] {
            let mut peer = call(serve.at[0]);
            peer.write_all(request).unwrap();
            finish(&peer);
            rest(&mut peer);
        }
        let _ = serve.ended("peer-closed", 3);
        flagged.push((framing, serve.count("is:http"), serve.count("-is:http") > 0));
    }
    let list: Vec<String> = flagged
        .iter()
        .map(|(framing, count, _)| format!("{framing}: {count}"))
        .collect();
    Row {
        row: 41,
        hazard: "HTTP requests from a browser to a raw port".into(),
        load: "a POST with a body, a plain message and one that begins with a method, in four framings".into(),
        observed: format!("found by `is:http`: {}", list.join(", ")),
        limit: "the request, once each".into(),
        control: "the other messages are not found".into(),
        pass: flagged.iter().all(|(_, count, others)| *count == 1 && *others),
        scale,
    }
    .hold();
}
