//! How a server stops: every message answered and recorded, within its timeout, and with a truthful exit code.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "stop/cut.rs"]
mod cut;
mod harness;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use self::harness::{Home, Load, Loaded, Serve, Stopped, Talk, until};

/// Moments at which a server under load is stopped.
const MOMENTS: u64 = 50;

/// Longest duration of a stop that need not wait for any peer.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn stop_at_any_moment_answers_and_records_all_received() {
    let mut random = Random(0x5eed);
    let (mut replies, mut slowest) = (0, Duration::ZERO);
    for moment in 0..MOMENTS {
        // A failure can be reproduced: the moments are the same each time, as far as the network allows.
        let depths: Vec<usize> = (0..4).map(|_| 1 << random.below(7)).collect();
        let durability = ["normal", "strict", "off"][random.below(3)];
        let after = random.below(1500);
        let label =
            format!("moment {moment}: depths {depths:?}, {durability}, after {after} replies");

        let serve = Serve::start(&["echo=:0", "--frame", "line", "--durability", durability]);
        let load = Load::start(serve.at[0], &format!("moment {moment} peer"), &depths);
        load.wait_for(after);
        let home = serve.home.clone();
        let Stopped { served, took, .. } = serve.stop();
        assert!(took < AT_ONCE, "{label}: {took:?}");
        slowest = slowest.max(took);

        let record = Record::of(&home);
        for peer in load.ends() {
            assert_answered(&peer, &record, &label);
            replies += peer.received.len() as u64;
        }
        assert_eq!(record.exchanges, served, "{label}");
        assert_eq!(record.unanswered, 0, "{label}");
        assert_eq!(
            home.sql("SELECT DISTINCT reason, unsent FROM conversation"),
            ["server-stopped|0"],
            "{label}"
        );
    }
    println!("{replies} replies in {MOMENTS} stops, the slowest took {slowest:?}");
    assert!(replies > 10 * MOMENTS, "{replies} replies are no load");
}

/// Asserts that the peer's stream ended in order, after whole replies, in order, and that exactly those are recorded:
/// no message was received and not answered, and no reply is missing from the record.
#[track_caller]
fn assert_answered(peer: &Loaded, record: &Record, label: &str) {
    let Loaded {
        name,
        received,
        left,
        end,
        ..
    } = peer;
    assert!(end.is_ok(), "{label}: {name}: {end:?}");
    assert!(
        left.is_empty(),
        "{label}: {name} received a part of a reply: {left:?}"
    );
    peer.assert_prefix();
    assert_eq!(
        record.replies.get(name).copied().unwrap_or(0),
        received.len(),
        "{label}: {name}"
    );
}

/// The record of a load, read once.
#[derive(Default)]
struct Record {
    exchanges: u64,
    unanswered: u64,
    /// Recorded replies by the name of the peer: the first ones, in order.
    replies: HashMap<String, usize>,
}

impl Record {
    fn of(home: &Home) -> Self {
        let mut record = Self::default();
        for exchange in home.log(&[]) {
            record.exchanges += 1;
            let reply = exchange["rep"]["text"].as_str().unwrap().trim_end();
            if exchange["outcome"] != "ok" {
                record.unanswered += 1;
            }
            let (name, number) = reply.rsplit_once('-').unwrap();
            let next = record.replies.entry(name.to_owned()).or_default();
            assert_eq!(number.parse(), Ok(*next), "{exchange}");
            *next += 1;
        }
        record
    }
}

#[test]
fn endless_sender_is_drained_up_to_a_bound() {
    for durability in ["normal", "strict"] {
        let serve = Serve::start(&["echo=:0", "--frame", "line", "--durability", durability]);
        let flood = Flood::start(serve.at[0]);
        flood.wait_for_bytes(100_000);
        let home = serve.home.clone();
        let Stopped { served, took, .. } = serve.stop();
        assert!(took < AT_ONCE, "{took:?}");
        let flood = flood.ends();
        assert!(
            flood.end.is_ok() && flood.left.is_empty(),
            "{:?}",
            flood.end
        );
        flood.assert_prefix();
        assert_eq!(flood.received.len() as u64, served);
        let recorded = "SELECT sum(count), sum(length(rep)) FROM run WHERE outcome = 'ok'";
        let bytes: usize = flood.received.iter().map(String::len).sum();
        assert_eq!(home.sql(recorded), [format!("{served}|{bytes}")]);
        assert_eq!(
            home.sql("SELECT reason, sent, unsent FROM conversation"),
            [format!("server-stopped|{bytes}|0")]
        );
    }
}

/// A peer that writes without waiting for replies, while it reads.
struct Flood {
    writer: JoinHandle<usize>,
    reader: JoinHandle<Loaded>,
    received: Arc<AtomicUsize>,
}

impl Flood {
    fn start(at: SocketAddr) -> Self {
        let Talk(mut stream) = Talk::to(at);
        let mut reader = stream.try_clone().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let received = Arc::<AtomicUsize>::default();
        let bytes = Arc::clone(&received);
        let writer = thread::spawn(move || {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                let batch = (sent..sent + 100).map(|i| format!("flood-{i}\n"));
                let batch: Vec<String> = batch.collect();
                if stream.write_all(batch.concat().as_bytes()).is_err() {
                    break;
                }
                sent += 100;
            }
            let _ = stream.shutdown(Shutdown::Write);
            sent + 100
        });
        let reader = thread::spawn(move || {
            let (mut received, mut some) = (Vec::new(), [0; 16_384]);
            let end = loop {
                match reader.read(&mut some) {
                    Ok(0) => break Ok(()),
                    Ok(n) => received.extend_from_slice(&some[..n]),
                    Err(error) => break Err(error),
                }
                bytes.store(received.len(), Ordering::Relaxed);
            };
            over.store(true, Ordering::Relaxed);
            let whole = received
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            let left = received.split_off(whole);
            let lines = String::from_utf8(received).unwrap();
            Loaded {
                name: "flood".to_owned(),
                sent: usize::MAX,
                received: lines.split_inclusive('\n').map(str::to_owned).collect(),
                left,
                end,
            }
        });
        Self {
            writer,
            reader,
            received,
        }
    }

    #[track_caller]
    fn wait_for_bytes(&self, bytes: usize) {
        until("it has received enough", || {
            self.received.load(Ordering::Relaxed) >= bytes
        });
    }

    fn ends(self) -> Loaded {
        let sent = self.writer.join().unwrap();
        Loaded {
            sent,
            ..self.reader.join().unwrap()
        }
    }
}

#[test]
fn message_received_before_the_signal_is_answered() {
    // The bytes are in the kernel before the signal is sent, even if not yet read.
    for round in 0..20 {
        let serve = Serve::start(&["upper=:0", "--frame", "line"]);
        let mut talk = Talk::to(serve.at[0]);
        let lines: Vec<String> = (0..500)
            .map(|i| format!("round {round} line {i}\n"))
            .collect();
        let lines = lines.concat();
        talk.send(&lines);
        let received = thread::spawn(move || talk.rest());
        let home = serve.home.clone();
        assert_eq!(serve.stop().served, 500);
        assert!(received.join().unwrap() == lines.to_uppercase().as_bytes());
        assert_eq!(home.count(&["is:ok"]), 500);
    }
}

#[test]
fn idle_conversations_do_not_delay_the_stop() {
    let serve = Serve::start(&["upper=:0", "greet=:0", "--frame", "line"]);
    let mut quiet: Vec<Talk> = (0..100).map(|_| Talk::to(serve.at[0])).collect();
    quiet[0].ask("a line\n", "A LINE\n");
    quiet[1].send("an unfinished l");
    let home = serve.home.clone();
    let stopped = serve.stop();
    assert!(stopped.took < AT_ONCE, "{stopped:?}");
    assert_eq!(stopped.served, 1);
    for mut talk in quiet {
        assert_eq!(talk.rest(), b"", "a clean end");
    }
    let ended =
        home.sql("SELECT reason, count(*), sum(received) FROM conversation GROUP BY reason");
    assert_eq!(
        ended,
        [format!(
            "server-stopped|100|{}",
            "a line\nan unfinished l".len()
        )]
    );
}

/// A peer that has been sent more than its buffers hold, and reads nothing.
fn peer_that_never_reads(serve: &Serve) -> Talk {
    let talk = Talk::to(serve.at[0]);
    talk.fill();
    talk
}

#[test]
fn second_signal_stops_at_once() {
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
        let mut serve = Serve::start(&[
            "echo=:0",
            "--frame",
            "line",
            "--write-timeout",
            "60s",
            "--drain-timeout",
            "60s",
        ]);
        let _peer = peer_that_never_reads(&serve);
        serve.signal(first);
        // From this line on, a signal does not count as the first.
        serve.err.wait_for("again to stop at once");
        let since = Instant::now();
        serve.signal(second);
        assert_eq!(serve.ends_somehow(), Some(130));
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        // The last line is true, and what was recorded until then can be read.
        let recorded = serve.home.count(&[]);
        assert!(recorded > 0);
        let expected = format!(
            "stopped at once: {recorded} exchanges served, {recorded} recorded, 0 not recorded"
        );
        assert_eq!(serve.err.all().last(), Some(&expected));
    }
}

#[test]
fn answered_idle_peer_is_not_counted_as_cut() {
    let mut serve = Serve::start(&["echo=:0", "--frame", "line", "--drain-timeout", "500ms"]);
    let mut quiet = Talk::to(serve.at[0]);
    quiet.ask("a\n", "a\n");
    serve.signal(Signal::TERM);
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.lost), (Some(0), 0));
    let ended = serve.home.sql("SELECT reason, unsent FROM conversation");
    assert_eq!(ended, ["server-stopped|0"]);
}

#[test]
fn peer_that_does_not_read_is_cut_at_the_drain_timeout() {
    let mut serve = Serve::start(&[
        "echo=:0",
        "--frame",
        "line",
        "--write-timeout",
        "60s",
        "--drain-timeout",
        "1s",
    ]);
    let _peer = peer_that_never_reads(&serve);
    let mut good = Talk::to(serve.at[0]);
    good.ask("good\n", "good\n");
    // It closes as soon as the stop begins.
    let good = thread::spawn(move || good.rest());
    serve.signal(Signal::TERM);
    let since = Instant::now();
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.lost), (Some(6), 0));
    assert!(
        since.elapsed() >= Duration::from_millis(900),
        "it was given its time"
    );
    assert!(
        since.elapsed() < Duration::from_secs(1) + AT_ONCE,
        "{:?}",
        since.elapsed()
    );
    assert!(
        serve
            .err
            .all()
            .last()
            .unwrap()
            .contains("; 1 conversation cut"),
        "{:?}",
        serve.err.all()
    );
    assert_eq!(good.join().unwrap(), b"");
    let ended = serve
        .home
        .sql("SELECT reason, unsent > 0 FROM conversation ORDER BY id");
    assert_eq!(ended, ["drain-timeout|1", "server-stopped|0"]);
}

#[test]
fn write_timeout_before_the_drain_timeout_is_not_a_cut() {
    let mut serve = Serve::start(&[
        "echo=:0",
        "--frame",
        "line",
        "--write-timeout",
        "3s",
        "--drain-timeout",
        "25s",
    ]);
    let _peer = peer_that_never_reads(&serve);
    serve.signal(Signal::TERM);
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.lost), (Some(0), 0));
    assert!(stopped.took < Duration::from_secs(20), "{:?}", stopped.took);
    assert_eq!(
        serve
            .home
            .sql("SELECT reason, unsent > 0 FROM conversation"),
        ["write-timeout|1"]
    );
    let last: &Value = &serve.home.log(&["sort:-id", "limit:1"])[0];
    assert_eq!(last["outcome"], "unsent", "{last}");
}

#[test]
fn slow_reader_gets_everything_answered() {
    let mut serve = Serve::start(&["echo=:0", "--frame", "line"]);
    let mut talk = Talk::to(serve.at[0]);
    let mut writer = talk.0.try_clone().unwrap();
    let line = b"a line for a slow peer\n";
    // More than all buffers hold: when the server shuts down its half, more is on its way to it.
    let writing = thread::spawn(move || {
        let lines = line.repeat(10_000);
        while writer.write_all(&lines).is_ok() {}
    });
    let (mut received, mut some) = (Vec::new(), [0; 16_384]);
    let mut stopped = false;
    loop {
        match talk.0.read(&mut some).unwrap() {
            0 => break,
            n => received.extend_from_slice(&some[..n]),
        }
        if !stopped && received.len() > 1_000_000 {
            serve.signal(Signal::TERM);
            stopped = true;
        }
        thread::sleep(Duration::from_micros(200));
    }
    drop(talk);
    writing.join().unwrap();
    let lines = received.len() / line.len();
    assert!(received == line.repeat(lines), "{} bytes", received.len());
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.served), (Some(0), lines as u64));
}

#[test]
fn once_serves_one_conversation() {
    let mut serve = Serve::start(&["upper=:0", "--once"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("hello", "HELLO");
    drop(talk.finish());
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.served), (Some(0), 1));
}

/// Pseudo-random numbers that are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
