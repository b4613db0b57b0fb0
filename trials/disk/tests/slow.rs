//! A slow disk, and a reader that blocks checkpoints: rows 24 and 25.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers in a test file for the program"
)]

use std::{fs, io::Read, process::Stdio, time::Duration};

use rusqlite::Connection;
use rustix::process::Signal;
use trials_crash::program::{Running, SOON, command};
use trials_disk::{
    load::Load,
    record::{last_words, read},
};
use trials_report::{Row, Scale, program};

const SERVE: [&str; 7] = [
    "serve",
    "upper=127.0.0.1:0",
    "--frame",
    "line",
    "--print",
    "--console",
    "off",
];

/// Serves on a disk with a delay injected by strace (`delay`); returns the time within which 99 of 100 replies came.
fn p99(delay: &str, exchanges: u64) -> (Duration, [u64; 3], trials_disk::record::Record) {
    let place = tempfile::tempdir().unwrap();
    let inject = format!("inject=fsync,fdatasync:{delay}");
    let options = [
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        &inject,
    ];
    let args: Vec<&str> = SERVE.into_iter().chain(["--when-full", "drop"]).collect();
    let mut serve = Running::traced(&options, &program("echoic"), &args, place.path()).unwrap();
    let load = Load::start(
        serve.address().unwrap(),
        2,
        60_000,
        Duration::from_millis(1),
    );
    while load.replies() < exchanges {
        std::thread::sleep(Duration::from_millis(5));
    }
    let result = load.end();
    assert_eq!(result.failed, 0);
    serve.signal(Signal::TERM);
    let ended = serve.end(SOON).unwrap();
    let figures = last_words(&ended.stderr).unwrap();
    assert_eq!(figures[0], result.answered, "{}", ended.stderr);
    (
        result.p99(),
        figures,
        read(&place.path().join("echoic.db")).unwrap(),
    )
}

#[test]
fn slow_disk_delays_no_reply_and_drops_are_counted() {
    let scale = Scale::asked();
    let exchanges = scale.pick(600, 6_000);
    let (quick, ..) = p99("delay_exit=0", exchanges);
    let (slow, [served, recorded, lost], record) = p99("delay_exit=1500000", exchanges);
    // Allows for the machine's noise: a reply that waited for such a disk would take a second and a half.
    let limit = (quick * 3).max(Duration::from_millis(300));
    Row {
        row: 25,
        hazard: "a disk on which a sync takes 1.5 s".into(),
        load: format!("{exchanges} exchanges of 60 KB, --when-full drop"),
        observed: format!(
            "99 of 100 replies within {slow:.1?}; served {served} = recorded {recorded} + lost {lost}; the record has {} and \
             gaps of {}",
            record.exchanges, record.missing
        ),
        limit: format!("{limit:.1?}, lost counted exactly"),
        control: format!("without delay within {quick:.1?}, nothing lost"),
        pass: slow <= limit && served == recorded + lost && (record.exchanges, record.missing) == (recorded, lost),
        scale,
    }
    .hold();
}

#[test]
fn stalled_reader_does_not_pin_the_wal() {
    let scale = Scale::asked();
    let exchanges = scale.pick(650, 6_000);
    let log_after = |foreign: bool| {
        let place = tempfile::tempdir().unwrap();
        let mut serve = command(program("echoic"), place.path());
        serve.args(SERVE);
        let mut serve = Running::start(serve, false).unwrap();
        let at = serve.address().unwrap();
        let load = Load::start(at, 1, 60_000, Duration::ZERO);
        while load.replies() < 100 {
            std::thread::sleep(Duration::from_millis(2));
        }
        load.end();
        std::thread::sleep(Duration::from_millis(300));
        let db = place.path().join("echoic.db");
        let mut log = command(program("echoic"), place.path());
        let mut reader = log
            .args(["log", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let held = Connection::open(&db).unwrap();
        if foreign {
            held.execute_batch("BEGIN; SELECT count(*) FROM run;")
                .unwrap();
        }
        let load = Load::start(at, 1, 60_000, Duration::ZERO);
        while load.replies() < exchanges {
            std::thread::sleep(Duration::from_millis(2));
        }
        load.end();
        std::thread::sleep(Duration::from_millis(500));
        let bytes = fs::metadata(db.with_extension("db-wal")).unwrap().len();
        let _ = held.execute_batch("ROLLBACK");
        drop(held);
        let mut listed = String::new();
        reader
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut listed)
            .unwrap();
        assert!(reader.wait().unwrap().success());
        serve.signal(Signal::TERM);
        assert_eq!(serve.end(SOON).unwrap().code, Some(0));
        (bytes >> 20, listed.lines().count())
    };
    let ((ours, listed), (foreign, _)) = (log_after(false), log_after(true));
    Row {
        row: 24,
        hazard: "a reader that blocks".into(),
        load: format!(
            "`echoic log --json` into a full pipe while {exchanges} exchanges of 60 KB are recorded"
        ),
        observed: format!("the WAL has {ours} MiB; the reader then got {listed} exchanges"),
        limit: "64 MiB".into(),
        control: format!("a reader that holds a transaction: {foreign} MiB"),
        pass: ours <= 64 && listed >= 100 && foreign > 64,
        scale,
    }
    .hold();
}
