//! A scenario for a traced server, and the resulting steps on the disk.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::{
    message,
    program::{Running, SOON},
    trace::{self, CALLS, STRING_BYTES_MAX, Step},
};

/// A scenario.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `strict`, `normal` or `off`.
    pub durability: &'static str,
    /// How each start of the server ends, in order.
    pub acts: Vec<Act>,
    /// The system calls that strace makes fail or slow, in its syntax: `fsync:error=EIO:when=9`.
    pub failing: Option<String>,
}

/// One start of a server, and its load.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// Peers at the same time.
    pub peers: usize,
    /// Messages that each of them sends before it waits for their replies.
    pub depth: usize,
    /// Number of times each does so.
    pub rounds: usize,
    /// Approximate length of a message in bytes.
    pub bytes: usize,
    /// Pause between two times.
    pub pause: Duration,
    /// TERM, or KILL.
    pub end: Signal,
}

impl Act {
    /// Replies that may be sent and not committed, when the store is slower than the peers: a conversation may have 1
    /// MiB of messages and replies unrecorded, and one run more.
    pub fn behind_max(&self) -> usize {
        self.peers * ((1 << 20) / (2 * self.bytes) + self.depth)
    }
}

/// The result of a scenario.
#[derive(Debug)]
pub struct History {
    /// All steps.
    pub steps: Vec<Step>,
    /// The start of each life of the program.
    pub lives: Vec<Life>,
    /// Longest scheduling delay of a thread that only slept; it adds to every delay.
    pub stall: Duration,
}

/// One life of the program: from a start to its exit.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Its first step.
    pub begins: usize,
    /// When it was ready, by the wall clock, in microseconds.
    pub ready_at: u64,
    /// When it was killed, or had exited by itself.
    pub ended_at: u64,
}

/// Runs the scenario with `program`, in `folder`.
pub fn run(program: &Path, folder: &Path, plan: &Plan) -> Result<History> {
    let folder = folder.canonicalize()?;
    let clock = Ticker::start();
    let (mut steps, mut lives) = (Vec::<Step>::new(), Vec::new());
    for (number, act) in plan.acts.iter().enumerate() {
        let log = folder.join("trace").join(number.to_string());
        fs::create_dir_all(log.parent().context("a folder")?)?;
        let trace = log.to_str().context("a folder named in UTF-8")?;
        let mut options = options(trace);
        if let Some(failing) = &plan.failing {
            options.extend(["-e".into(), format!("inject={failing}")]);
        }
        let mut serve = Running::traced(
            &options.iter().map(String::as_str).collect::<Vec<_>>(),
            program,
            &serve_args(plan.durability),
            &folder,
        )?;
        let at = serve.address()?;
        let ready_at = now()?;
        converse(at, number, *act)?;
        let killed_at = now()?;
        serve.signal(act.end);
        let ended = serve.end(SOON)?;
        lives.push(Life {
            begins: steps.len(),
            ready_at,
            ended_at: match act.end {
                Signal::KILL => killed_at,
                _ => now()?,
            },
        });
        ensure!(
            act.end == Signal::KILL || ended.code == Some(0) || plan.failing.is_some(),
            "serve ended with {:?}: {}",
            ended.code,
            ended.stderr
        );
        let text = fs::read_to_string(&log)?;
        steps.extend(trace::read(&text, &folder, steps.len())?);
    }
    Ok(History {
        steps,
        lives,
        stall: clock.stop(),
    })
}

/// Returns the wall clock in microseconds.
fn now() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_micros())?)
}

/// Options of strace for a trace.
pub fn options(trace: &str) -> Vec<String> {
    let string = STRING_BYTES_MAX.to_string();
    let calls = format!("trace={CALLS}");
    let words = [
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-ttt",
        "-y",
        "-xx",
        "-s",
        &string,
        "-e",
        &calls,
        "-o",
        trace,
    ];
    words.map(str::to_owned).to_vec()
}

/// Returns a server that answers in upper case, line by line.
pub fn serve_args(durability: &str) -> [&str; 12] {
    [
        "serve",
        "upper=127.0.0.1:0",
        "--frame",
        "line",
        "--store",
        "echoic.db",
        "--durability",
        durability,
        "--print",
        "--console",
        "off",
        "--workers=2",
    ]
}

fn converse(at: SocketAddr, number: usize, act: Act) -> Result<()> {
    let peers: Vec<_> = (0..act.peers)
        .map(|peer| thread::spawn(move || talk(at, &format!("k{number}p{peer}"), act)))
        .collect();
    for peer in peers {
        peer.join().ok().context("a peer panicked")??;
    }
    Ok(())
}

fn talk(at: SocketAddr, name: &str, act: Act) -> Result<()> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut replies = BufReader::new(stream.try_clone()?);
    let mut next = 0;
    for _ in 0..act.rounds {
        let requests: Vec<String> = (next..next + act.depth as u64)
            .map(|number| message(name, number, act.bytes))
            .collect();
        next += act.depth as u64;
        stream.write_all(requests.concat().as_bytes())?;
        for line in requests {
            let mut reply = String::new();
            replies.read_line(&mut reply)?;
            ensure!(reply == line.to_uppercase(), "answered {reply:?}");
        }
        thread::sleep(act.pause);
    }
    Ok(())
}

/// A thread that only sleeps, to measure how long the machine delays a thread.
struct Ticker {
    stop: std::sync::mpsc::SyncSender<()>,
    thread: thread::JoinHandle<Duration>,
}

impl Ticker {
    fn start() -> Self {
        const TICK: Duration = Duration::from_millis(1);
        let (stop, stopped) = std::sync::mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while stopped.try_recv().is_err() {
                let before = Instant::now();
                thread::sleep(TICK);
                worst = worst.max(before.elapsed().saturating_sub(TICK));
            }
            worst
        });
        Self { stop, thread }
    }

    fn stop(self) -> Duration {
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}
