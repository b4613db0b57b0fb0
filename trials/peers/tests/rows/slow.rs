//! Row 1: clients that send a byte a second and never finish a message.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use trials_peers::{
    Serve,
    meter::{ByTurns, kib, time},
    namespace::alone,
    peer::{GoodPeers, Seen, calls, look, push},
};
use trials_report::{Row, Scale};

const PARTIAL: Duration = Duration::from_secs(5);

/// Time from the first byte of each to its close; none while it is still open.
struct Slow(Vec<(TcpStream, Instant, Option<Duration>)>);

impl Slow {
    fn call(at: std::net::SocketAddr, count: usize) -> Self {
        let began = |mut stream: TcpStream| {
            // The server cannot have received it before.
            let began = Instant::now();
            push(&mut stream, b"x");
            (stream, began, None)
        };
        Self(calls(at, count).into_iter().map(began).collect())
    }

    /// Sends another byte of each, and checks which have been closed.
    fn go_on(&mut self) {
        for (stream, began, ended) in &mut self.0 {
            if ended.is_none() && look(stream) != Seen::Open {
                *ended = Some(began.elapsed());
            }
        }
    }

    fn send_byte(&mut self) {
        for (stream, _, ended) in &mut self.0 {
            if ended.is_none() {
                push(stream, b"x");
            }
        }
    }
}

#[test]
fn slow_senders_are_closed_at_their_timeout() {
    alone("slow::slow_senders_are_closed_at_their_timeout", trial);
}

/// The result of one turn.
struct Turn {
    ended: Vec<Duration>,
    grown: u64,
    baseline: Vec<Duration>,
    times: Vec<Duration>,
}

/// Runs this many slow ones and, beside them, good peers, until the slow ones have been closed or should have been long
/// ago. `control` are slow ones without a timeout: they go on as well.
fn turn(serve: &Serve, count: usize, good: usize, control: &mut Slow) -> Turn {
    let baseline = GoodPeers::during(serve.at[0], good, Duration::from_secs(2)).unwrap();
    let before = serve.process().resident();
    let mut slow = Slow::call(serve.at[0], count);
    let peers = GoodPeers::start(serve.at[0], good, Duration::from_millis(5));
    let grown = serve.process().resident().saturating_sub(before);
    let began = Instant::now();
    let mut last_sent = began;
    while began.elapsed() < PARTIAL + Duration::from_secs(7)
        && slow.0.iter().any(|(.., ended)| ended.is_none())
    {
        // Checking that many takes CPU from the good peers: not before some may be closed.
        if began.elapsed() + Duration::from_secs(1) > PARTIAL {
            slow.go_on();
        }
        if last_sent.elapsed() > Duration::from_secs(1) {
            last_sent = Instant::now();
            slow.send_byte();
            control.send_byte();
        }
        thread::sleep(Duration::from_millis(20));
    }
    Turn {
        ended: slow.0.iter().filter_map(|(.., ended)| *ended).collect(),
        grown,
        baseline,
        times: peers.stop().expect("good peers are answered rightly"),
    }
}

fn trial() {
    let scale = Scale::asked();
    let (count, good, turns) = scale.pick((1_000, 10, 1), (2_000, 50, 3));
    let guarded = Serve::start(&["upper=:0", "--frame", "line", "--message-timeout", "5s"]);
    let unguarded = Serve::start(&["upper=:0", "--frame", "line", "--message-timeout", "1h"]);
    let mut control = Slow::call(unguarded.at[0], count / 10);
    let (mut ended, mut grown, mut fair) = (Vec::new(), 0, ByTurns::default());
    for _ in 0..turns {
        let turn = turn(&guarded, count, good, &mut control);
        ended.extend(turn.ended);
        grown = grown.max(turn.grown);
        fair.add(turn.baseline, turn.times);
    }
    control.go_on();

    let (first, last) = (ended.iter().min().unwrap(), ended.iter().max().unwrap());
    let still_there = control
        .0
        .iter()
        .filter(|(.., ended)| ended.is_none())
        .count();
    let recorded = guarded.ended("message-timeout", turns * count);
    let grace = Duration::from_secs(scale.pick(5, 2));
    let in_time = *first >= PARTIAL && *last <= PARTIAL + grace;
    let pass = ended.len() == turns * count
        && in_time
        && recorded == turns * count
        && grown <= 32 << 20
        && fair.holds(scale)
        && still_there == count / 10;
    Row {
        row: 1,
        hazard: "clients that send a byte a second and never finish a message".into(),
        load: format!("{turns} × {count} of them with `--message-timeout 5s`, and {good} good peers"),
        observed: format!(
            "{} ended after {} to {}, {recorded} recorded as `message-timeout`; memory grew by {}; p99 of the good peers {}, {} without",
            ended.len(),
            time(*first),
            time(*last),
            kib(grown),
            time(fair.with()),
            time(fair.without())
        ),
        limit: format!(
            "all ended after 5 to {} s and recorded; 32 MiB; every answer to the good peers right, and p99 {} (twice that \
             without, or 5 ms in the full run)",
            (PARTIAL + grace).as_secs(),
            time(fair.allowed(scale))
        ),
        control: format!("with `--message-timeout 1h` {still_there} of {} are still open", count / 10),
        pass,
        scale,
    }
    .hold();
}
