//! Every framing against foreign encoders, and messages that violate a framing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{fmt::Display, net::SocketAddr};

use self::harness::{Serve, Talk, python};

/// Every framing except `chunk`, which the tutorial and all other tests use.
const FRAMINGS: [&str; 15] = [
    "line",
    "crlf",
    "nul",
    "delim:2d",
    "delim:2d2d3e",
    "fixed:1",
    "fixed:12",
    "u8",
    "u16be",
    "u16le",
    "u32be",
    "u32le",
    "varint",
    "netstring",
    "content-length",
];

/// Encoders and decoders of the framings in Python: struct, asyncio, and by hand.
const PEER: &str = include_str!("framings/peer.py");

/// Runs the peer against `service` under each framing, in every way; the record holds what was served.
#[track_caller]
fn run_peer(service: &str, frames: &[String]) {
    let endpoints: Vec<String> = frames
        .iter()
        .map(|frame| format!("{service}=:0?frame={frame}"))
        .collect();
    let serve = Serve::start(&endpoints.iter().map(String::as_str).collect::<Vec<_>>());
    let ports: Vec<u16> = serve.at.iter().map(SocketAddr::port).collect();
    let mut args: Vec<&dyn Display> = vec![&service];
    for (port, frame) in ports.iter().zip(frames) {
        args.extend([port as &dyn Display, frame]);
    }
    let ran = python(PEER, &args, "");
    assert_eq!(ran.code, Some(0), "{service}: {}", ran.err);
    let served: u64 = ran.good().trim().parse().unwrap();
    let home = serve.home.clone();
    assert_eq!(serve.stop().served, served);
    assert_eq!(
        home.sql("SELECT DISTINCT reason FROM conversation"),
        ["peer-closed"]
    );
    assert_eq!(home.count(&["is:ok"]), served);
}

#[test]
fn each_framing_matches_independent_encoders_for_any_cut() {
    let frames = FRAMINGS.map(str::to_owned);
    run_peer("echo", &frames);
}

#[test]
fn reply_may_be_longer_than_its_message() {
    // fixed:N has no variable length: there the service must preserve the length.
    let frames = FRAMINGS.iter().filter(|frame| !frame.starts_with("fixed"));
    run_peer(
        "upper",
        &frames.map(ToString::to_string).collect::<Vec<_>>(),
    );
}

#[test]
fn inbound_and_outbound_framing_may_differ() {
    let frames = [
        "u32be/line",
        "line/u32be",
        "line/crlf",
        "nul/netstring",
        "content-length/varint",
        "varint/content-length",
        "netstring/nul",
        "fixed:12/u16le",
        "u8/delim:2d2d3e",
    ]
    .map(str::to_owned);
    run_peer("echo", &frames);
    run_peer("upper", &frames);
}

/// A case: the bytes sent, whether our half is shut down, the expected replies, and the close reason.
struct Offence {
    frame: &'static str,
    input: &'static [u8],
    output: &'static [u8],
    half_close: bool,
    reason: &'static str,
}

const fn offence(
    frame: &'static str,
    input: &'static [u8],
    output: &'static [u8],
    reason: &'static str,
) -> Offence {
    Offence {
        frame,
        input,
        output,
        half_close: false,
        reason,
    }
}

const fn cut(frame: &'static str, input: &'static [u8], output: &'static [u8]) -> Offence {
    Offence {
        frame,
        input,
        output,
        half_close: true,
        reason: "incomplete",
    }
}

const TOO_LONG: &str = "message-too-long";

/// With `--max-message 40`.
const OFFENCES: [Offence; 28] = [
    offence(
        "line",
        b"ok\n012345678901234567890123456789012345678901\nok\n",
        b"OK\n",
        TOO_LONG,
    ),
    offence(
        "line",
        b"ok\n01234567890123456789012345678901234567890",
        b"OK\n",
        TOO_LONG,
    ),
    offence(
        "crlf",
        b"ok\r\n012345678901234567890123456789012345678901\r\n",
        b"OK\r\n",
        TOO_LONG,
    ),
    offence(
        "nul",
        b"ok\x0001234567890123456789012345678901234567890\0",
        b"OK\0",
        TOO_LONG,
    ),
    offence(
        "delim:2d2d",
        b"ok--0123456789012345678901234567890123456789012",
        b"OK--",
        TOO_LONG,
    ),
    offence(
        "fixed:41",
        b"nothing can be as short as that",
        b"",
        TOO_LONG,
    ),
    offence("u8", b"\x02ok\x29", b"\x02OK", TOO_LONG),
    offence("u16be", b"\x00\x02ok\x01\x00", b"\x00\x02OK", TOO_LONG),
    offence("u16le", b"\x02\x00ok\x00\x01", b"\x02\x00OK", TOO_LONG),
    offence(
        "u32be",
        b"\0\0\0\x02ok\xff\xff\xff\xff",
        b"\0\0\0\x02OK",
        TOO_LONG,
    ),
    offence(
        "u32le",
        b"\x02\0\0\0ok\xff\xff\xff\xff",
        b"\x02\0\0\0OK",
        TOO_LONG,
    ),
    offence("varint", b"\x02ok\xff\xff\xff\xff\x0f", b"\x02OK", TOO_LONG),
    offence(
        "varint",
        b"\x02ok\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
        b"\x02OK",
        "malformed",
    ),
    offence("netstring", b"2:ok,41:", b"2:OK,", TOO_LONG),
    offence("netstring", b"2:ok,2:okay", b"2:OK,", "malformed"),
    offence("netstring", b"2:ok,02:ok,", b"2:OK,", "malformed"),
    offence("netstring", b"2:ok,-1:", b"2:OK,", "malformed"),
    offence("netstring", b"2:ok,99999999999", b"2:OK,", "malformed"),
    offence("netstring", b"GET / HTTP/1.1\r\n\r\n", b"", "malformed"),
    offence(
        "content-length",
        b"Content-Length: 2\r\n\r\nokContent-Length: 41\r\n\r\n",
        b"Content-Length: 2\r\n\r\nOK",
        TOO_LONG,
    ),
    offence(
        "content-length",
        b"Content-Type: text\r\n\r\n",
        b"",
        "malformed",
    ),
    offence(
        "content-length",
        b"Content-Length: two\r\n\r\n",
        b"",
        "malformed",
    ),
    offence(
        "content-length",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"",
        "malformed",
    ),
    cut("fixed:4", b"okayok", b"OKAY"),
    cut("u16be", b"\x00\x02ok\x00\x03ok", b"\x00\x02OK"),
    cut("varint", b"\x02ok\x80", b"\x02OK"),
    cut("netstring", b"2:ok,2:ok", b"2:OK,"),
    cut("content-length", b"Content-Length: 2\r\n", b""),
];

#[test]
fn framing_violation_closes_cleanly_and_is_recorded() {
    let endpoints: Vec<String> = OFFENCES
        .iter()
        .map(|offence| format!("upper=:0?frame={}", offence.frame))
        .collect();
    let mut args: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    args.extend(["--max-message", "40"]);
    let serve = Serve::start(&args);
    for (offence, at) in OFFENCES.iter().zip(&serve.at) {
        let mut talk = Talk::to(*at);
        talk.send(offence.input);
        let received = if offence.half_close {
            talk.finish()
        } else {
            talk.rest()
        };
        assert_eq!(
            received.escape_ascii().to_string(),
            offence.output.escape_ascii().to_string(),
            "{} {}",
            offence.frame,
            offence.input.escape_ascii()
        );
    }
    let (home, at) = (serve.home.clone(), serve.at.clone());
    let answered = OFFENCES
        .iter()
        .filter(|offence| !offence.output.is_empty())
        .count();
    assert_eq!(serve.stop().served, answered as u64);
    for (offence, at) in OFFENCES.iter().zip(&at) {
        let found = home.sql(&format!(
            "SELECT reason, sent, unsent FROM conversation WHERE local LIKE '%:{}'",
            at.port()
        ));
        let expected = format!("{}|{}|0", offence.reason, offence.output.len());
        assert_eq!(
            found,
            [expected],
            "{} {}",
            offence.frame,
            offence.input.escape_ascii()
        );
    }
}

#[test]
fn reply_too_long_for_its_framing_is_not_started() {
    let serve = Serve::start(&["upper=:0", "--frame", "u8"]);
    let frame = |body: &str| [&[body.len() as u8], body.as_bytes()].concat();
    // ŉ, two bytes, becomes ʼN, three: 200 bytes would become 300.
    let grows = "ŉ".repeat(100);
    for pipelined in [true, false] {
        let mut talk = Talk::to(serve.at[0]);
        let first = [frame("one"), frame("straße")].concat();
        let replies = [frame("ONE"), frame("STRASSE")].concat();
        if pipelined {
            talk.send([first, frame(&grows), frame("never")].concat());
            talk.expect_reply(replies);
        } else {
            talk.ask(first, replies);
            talk.send([frame(&grows), frame("never")].concat());
        }
        assert_eq!(talk.rest(), b"", "pipelined: {pipelined}");
    }
    let home = serve.home.clone();
    serve.stop();
    let ends = home.sql("SELECT DISTINCT reason, sent, unsent FROM conversation");
    assert_eq!(ends, ["reply-too-long|12|0"]);
    for text in ["req:one", "req:straße"] {
        assert_eq!(home.count(&[text, "is:ok"]), 2, "{text}");
    }
    assert_eq!(home.count(&["rep:never"]), 0);
    assert_eq!(home.count(&["rep:NEVER"]), 0);
}
