//! Row 1: callers that send a byte a second and never finish a message.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use trials_peers::{
    Serve,
    meter::{kib, p99, time},
    namespace::alone,
    peer::{GoodPeers, Seen, calls, look, push},
};
use trials_report::{Row, Scale};

const PARTIAL: Duration = Duration::from_secs(5);

/// How long each was let be from its first byte on; none if it still is.
struct Slow(Vec<(TcpStream, Instant, Option<Duration>)>);

impl Slow {
    fn call(at: std::net::SocketAddr, count: usize) -> Self {
        let began = |mut stream: TcpStream| {
            // The server cannot have heard it before.
            let began = Instant::now();
            push(&mut stream, b"x");
            (stream, began, None)
        };
        Self(calls(at, count).into_iter().map(began).collect())
    }

    /// Another byte of each, and a look at who has been ended.
    fn go_on(&mut self) {
        for (stream, began, ended) in &mut self.0 {
            if ended.is_none() && look(stream) != Seen::Open {
                *ended = Some(began.elapsed());
            }
        }
    }

    fn say(&mut self) {
        for (stream, _, ended) in &mut self.0 {
            if ended.is_none() {
                push(stream, b"x");
            }
        }
    }
}

#[test]
fn slow_callers_are_ended_at_their_deadline() {
    alone("slow::slow_callers_are_ended_at_their_deadline", trial);
}

fn trial() {
    let scale = Scale::asked();
    let (count, good) = scale.pick((1_000, 10), (2_000, 50));
    let guarded = Serve::start(&["upper=:0", "--frame", "line", "--partial", "5s"]);
    let unguarded = Serve::start(&["upper=:0", "--frame", "line", "--partial", "1h"]);
    let mut baseline = GoodPeers::during(guarded.at[0], good, Duration::from_secs(2)).unwrap();
    let before = guarded.process().resident();

    let mut slow = Slow::call(guarded.at[0], count);
    let mut control = Slow::call(unguarded.at[0], count / 10);
    let peers = GoodPeers::start(guarded.at[0], good, Duration::from_millis(5));
    let grown = guarded.process().resident().saturating_sub(before);
    let began = Instant::now();
    let mut said = began;
    while began.elapsed() < PARTIAL + Duration::from_secs(7)
        && slow.0.iter().any(|(.., ended)| ended.is_none())
    {
        slow.go_on();
        if said.elapsed() > Duration::from_secs(1) {
            said = Instant::now();
            slow.say();
            control.say();
        }
        thread::sleep(Duration::from_millis(20));
    }
    let mut times = peers.stop().expect("good peers are answered rightly");
    control.go_on();

    let ended: Vec<Duration> = slow.0.iter().filter_map(|(.., ended)| *ended).collect();
    let (first, last) = (ended.iter().min().unwrap(), ended.iter().max().unwrap());
    let still_there = control
        .0
        .iter()
        .filter(|(.., ended)| ended.is_none())
        .count();
    let recorded = guarded.ended("partial", count);
    let (quiet, busy) = (p99(&mut baseline), p99(&mut times));
    let grace = Duration::from_secs(scale.pick(5, 2));
    let in_time = *first >= PARTIAL && *last <= PARTIAL + grace;
    let pass = ended.len() == count
        && in_time
        && recorded == count
        && grown <= 32 << 20
        && still_there == count / 10;
    Row {
        row: 1,
        hazard: "callers that send a byte a second and never finish a message".into(),
        load: format!("{count} of them with `--partial 5s`, and {good} good ones"),
        observed: format!(
            "{} ended after {} to {}, {recorded} recorded as `partial`; memory grew by {}; p99 of the good {}, {} without",
            ended.len(),
            time(*first),
            time(*last),
            kib(grown),
            time(busy),
            time(quiet)
        ),
        limit: format!(
            "all ended after 5 to {} s and recorded; 32 MiB; every answer to the good ones right",
            (PARTIAL + grace).as_secs()
        ),
        control: format!("with `--partial 1h` {still_there} of {} are there still", count / 10),
        pass,
        scale,
    }
    .hold();
}
