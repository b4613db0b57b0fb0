//! A wall clock that jumps: row 26 of the hazards, and also of the tutorial mistakes.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers in a test file for the program"
)]

use std::{fs, path::Path, time::Duration};

use rusqlite::Connection;
use rustix::process::Signal;
use trials_crash::program::{Running, SOON, command};
use trials_disk::{load::Load, record::last_words};
use trials_report::{Row, Scale, program};

#[test]
fn d26_clock_jump_changes_no_latency_timeout_or_order() {
    let scale = Scale::asked();
    let library = Path::new("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
    let library = [
        library,
        Path::new("/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"),
    ]
    .into_iter()
    .find(|library| library.exists())
    .expect("libfaketime is missing: install the Debian package faketime");
    let place = tempfile::tempdir().unwrap();
    let clock = place.path().join("clock");
    fs::write(&clock, "+0").unwrap();
    let mut serve = command(program("echoic"), place.path());
    serve
        .args([
            "serve",
            "upper=127.0.0.1:0",
            "--frame",
            "line",
            "--print",
            "--console",
            "off",
        ])
        .args(["--idle-timeout", "1h", "--message-timeout", "1h"])
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    let mut serve = Running::start(serve, false).unwrap();
    let load = Load::start(serve.address().unwrap(), 3, 100, Duration::from_millis(5));
    let jumps = ["+1d", "-1d", "-10", "+10d", "-20", "+0"];
    for jump in jumps.iter().cycle().take(scale.pick(6, 30)) {
        std::thread::sleep(Duration::from_millis(scale.pick(200, 2_000)));
        fs::write(&clock, jump).unwrap();
        // A new conversation reads the wall clock when it begins.
        Load::start(load_address(&serve), 1, 100, Duration::ZERO).end();
    }
    let result = load.end();
    serve.signal(Signal::TERM);
    let ended = serve.end(SOON).unwrap();
    let [served, recorded, lost] = last_words(&ended.stderr).unwrap();
    let record = Connection::open(place.path().join("echoic.db")).unwrap();
    let one = |sql| {
        record
            .query_row(sql, [], |row| row.get::<_, u64>(0))
            .unwrap()
    };
    let slowest = one("SELECT max(latency_ns) FROM run");
    let backwards = one(
        "SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY conversation ORDER BY id) AS before FROM run)
         WHERE n <= before",
    );
    let span = one("SELECT (max(at) - min(at)) / 1000000 FROM run");
    let timed_out = one(
        "SELECT count(*) FROM conversation WHERE reason NOT IN ('peer-closed', 'server-stopped')",
    );
    Row {
        row: 26,
        hazard: "the wall clock jumps".into(),
        load: format!("{} answered while it jumps by days and back", result.answered),
        observed: format!(
            "{} failed, slowest recorded {} ms, {backwards} out of order, {timed_out} ended otherwise than by their \
             peers, {recorded} recorded, {lost} lost of {served}",
            result.failed,
            slowest / 1_000_000
        ),
        limit: "none failed, none slower than 10 s, none out of order, none timed out, none lost".into(),
        control: format!("the clock did jump: exchanges are {span} s apart"),
        pass: result.failed == 0 && slowest < 10_000_000_000 && backwards == 0 && timed_out == 0 && lost == 0
            && span > 86_400 && ended.code == Some(0),
        scale,
    }
    .hold();
}

/// Returns the address from its listening line.
fn load_address(serve: &Running) -> std::net::SocketAddr {
    let stderr = serve.stderr();
    let at = stderr
        .split("tcp://")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    at.parse().unwrap()
}
