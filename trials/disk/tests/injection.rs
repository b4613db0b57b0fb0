//! Messages and filters are never interpreted as SQL: row 27.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers in a test file for the program"
)]

use std::{
    ffi::OsStr,
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use rusqlite::Connection;
use rustix::process::Signal;
use trials_crash::program::{Running, SOON, command};
use trials_report::{Row, Scale, program};

/// Two of these make a payload, with a number between them, so that each is unique.
const PIECES: [&str; 26] = [
    "'",
    "\"",
    "''",
    "\"*",
    "'; DROP TABLE run; --",
    "' OR '1'='1",
    "\0",
    "NEAR(a b, 3)",
    "a AND b",
    "%_%",
    "\\",
    "\\'",
    ")",
    "({[",
    "-",
    "--",
    "/*",
    "*/",
    "?1",
    "$1",
    ":x",
    "@x",
    "\r\n",
    "/(/",
    "hex:zz",
    "\u{202e}é\u{0}",
];

/// The longest argument that `hex:` accepts.
const HEX_MAX: usize = 256;

/// The limit on one argument on Linux (`MAX_ARG_STRLEN`, execve(2)), and somewhat more than a filter accepts.
const ARGUMENT_MAX: usize = 100_000;

fn payloads(count: usize) -> Vec<Vec<u8>> {
    let piece = |i: usize| PIECES[i % PIECES.len()];
    let two = |i: usize| format!("{}{i}{}", piece(i), piece(i / PIECES.len() + i)).into_bytes();
    let mut all: Vec<Vec<u8>> = (0..count - 2).map(two).collect();
    all.push((0..=255).collect());
    all.push("'\"*".repeat(333_333).into_bytes());
    all
}

/// Sends it as a message of `u32be`, and receives the reply.
fn ask(stream: &mut TcpStream, body: &[u8]) {
    let message = [&(body.len() as u32).to_be_bytes(), body].concat();
    stream.write_all(&message).unwrap();
    let mut received = vec![0; message.len()];
    stream.read_exact(&mut received).unwrap();
    assert!(received == message);
}

fn record(folder: &Path, payloads: &[Vec<u8>]) {
    let mut serve = command(program("echoic"), folder);
    serve.args([
        "serve",
        "echo=127.0.0.1:0",
        "--frame",
        "u32be",
        "--print",
        "--console",
        "off",
    ]);
    let mut serve = Running::start(serve, false).unwrap();
    let at: SocketAddr = serve.address().unwrap();
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    for payload in payloads {
        ask(&mut stream, payload);
    }
    drop(stream);
    serve.signal(Signal::TERM);
    assert_eq!(serve.end(SOON).unwrap().code, Some(0));
}

/// Returns how many exchanges of the record match, or the error line if the filter is rejected.
fn count(folder: &Path, filter: &OsStr) -> Result<u64, String> {
    let mut log = command(program("echoic"), folder);
    let asked = log.args(["log", "--count"]).arg(filter).output().unwrap();
    let err = String::from_utf8_lossy(&asked.stderr).into_owned();
    match asked.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&asked.stdout)
            .trim()
            .parse()
            .unwrap_or(u64::MAX)),
        Some(2) if !err.is_empty() => Err(err),
        code => panic!("{}: code {code:?}, {err}", filter.display()),
    }
}

#[test]
fn peer_bytes_and_filters_are_never_sql() {
    let scale = Scale::asked();
    let payloads = payloads(scale.pick(60, 1_000));
    let place = tempfile::tempdir().unwrap();
    record(place.path(), &payloads);
    let db = Connection::open(place.path().join("echoic.db")).unwrap();
    let mut rows = db.prepare("SELECT req, rep FROM run ORDER BY id").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: Vec<(Vec<u8>, Vec<u8>)> = rows.unwrap().map(Result::unwrap).collect();
    let is_exact = |(row, payload): &(&(Vec<u8>, Vec<u8>), &Vec<u8>)| {
        row.0 == row.1 && row.0[4..] == payload[..]
    };
    let exact = rows.iter().zip(&payloads).filter(is_exact).count();

    let (mut found, mut refused, mut asked) = (0, 0, 0);
    for payload in &payloads {
        if payload.len() <= HEX_MAX {
            let mut hex = "hex:".to_owned();
            for byte in payload {
                let _ = write!(hex, "{byte:02x}");
            }
            let found_here = count(place.path(), OsStr::new(&hex)).unwrap();
            found += u64::from(found_here > 0);
            asked += 1;
        }
        // An argument cannot contain NUL.
        let text: Vec<u8> = payload.iter().map(|byte| (*byte).max(1)).collect();
        let text = OsStr::from_bytes(&text[..text.len().min(ARGUMENT_MAX)]);
        refused += usize::from(count(place.path(), text).is_err());
    }
    let check: String = db
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .unwrap();

    // The control: a query built from text.
    let naive = payloads.iter().filter(|payload| {
        let text = String::from_utf8_lossy(payload);
        let question = format!("SELECT count(*) FROM run WHERE req = '{text}'");
        db.prepare(&question).is_err()
    });
    let naive = naive.count();
    Row {
        row: 27,
        hazard: "SQL injection: quotes, comments, NUL and SQL keywords, as messages and as filters".into(),
        load: format!("{} payloads, one of 1 MB", payloads.len()),
        observed: format!(
            "{exact} recorded byte for byte; {found} of {asked} found by their bytes; as filters {} were understood and \
             {refused} refused as such, code 2; the record is {check}",
            payloads.len() - refused
        ),
        limit: "all, all; an answer or code 2; sound".into(),
        control: format!("concatenated into a query, {naive} of {} break it", payloads.len()),
        pass: exact == payloads.len() && rows.len() == exact && found == asked && check == "ok" && naive > 0,
        scale,
    }
    .hold();
}
