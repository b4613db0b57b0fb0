//! A short series of exchanges with a server, during which a system call fails.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::{
    history::serve_args,
    message,
    program::{Ended, Running},
    verdict::{self, Found},
};

/// A wait longer than this counts as a hang.
pub const HUNG: Duration = Duration::from_secs(5);

/// Under strace, on a busy machine, everything takes longer: a hang is one that goes on.
const PATIENCE: Duration = Duration::from_secs(20);

/// The result of a visit.
#[derive(Debug)]
pub struct Visit {
    /// The numbers of the received replies.
    pub received: Vec<String>,
    /// How the server exited.
    pub ended: Ended,
    /// How often strace injected the failure.
    pub struck: usize,
    /// The contents of the record.
    pub found: Found,
    /// The longest wait.
    pub waited: Duration,
}

/// Runs a server in `folder` with a failure injected by strace (`pwrite64:error=EIO:when=3`); `name` does twenty
/// exchanges with it in four conversations; then stops it and reads its record.
pub fn visit(
    program: &Path,
    folder: &Path,
    durability: &str,
    inject: &str,
    name: &str,
) -> Result<Visit> {
    let log = folder.join("trace");
    let calls = inject.split(':').next().unwrap_or_default();
    let (trace, strike) = (format!("trace={calls}"), format!("inject={inject}"));
    let log_name = log.to_str().context("a folder named in UTF-8")?;
    let mut options = vec!["-f", "-qq", "-o", log_name, "-e", &trace, "-e", &strike];
    if !inject.contains("signal=") {
        // Much faster; but strace 6.1 then sends no signals.
        options.push("--seccomp-bpf");
    }
    let mut serve = Running::traced(&options, program, &serve_args(durability), folder)?;
    let mut visit = Visit {
        received: Vec::new(),
        ended: Ended {
            code: None,
            stderr: String::new(),
        },
        struck: 0,
        found: Found::default(),
        waited: Duration::ZERO,
    };
    // Without an address it has not started; its error message is checked by the caller.
    if let Ok(at) = serve.address() {
        for talk in 0..4 {
            let since = Instant::now();
            let received = converse(at, &format!("{name}p{talk}"), 5);
            visit.waited = visit.waited.max(since.elapsed());
            visit.received.extend(received);
        }
        let answers = (0..3).any(|again| converse(at, &format!("{name}p9{again}"), 1).len() == 1);
        ensure!(
            answers || serve.ends_within(HUNG),
            "it runs, and does not answer any more; standard error:\n{}",
            serve.stderr()
        );
        serve.signal(Signal::TERM);
        for _ in 0..3 {
            // The signal handler notifies the program by a byte with sendto: if that fails, the signal is lost, and
            // must be sent again. Any thread may handle it.
            if inject.starts_with("sendto:error") && !serve.ends_within(HUNG) {
                serve.signal(Signal::TERM);
            }
        }
    }
    let since = Instant::now();
    visit.ended = serve.end(PATIENCE)?;
    visit.waited = visit.waited.max(since.elapsed());
    let trace = fs::read_to_string(&log).unwrap_or_default();
    visit.struck = trace.matches("(INJECTED)").count() + trace.matches("killed by SIGKILL").count();
    visit.found = verdict::look(folder)?;
    Ok(visit)
}

impl Visit {
    /// Whether the server reported its end truthfully.
    pub fn is_truthful(&self) -> Result<()> {
        let Ended { code, stderr } = &self.ended;
        ensure!(!stderr.contains("panicked"), "a panic: {stderr}");
        let Some(code) = code else {
            bail!("ended by a signal: {stderr}");
        };
        let last = stderr.lines().last().unwrap_or_default();
        let Some(numbers) = last.strip_prefix("stopped: ") else {
            ensure!(*code == 1, "code {code} without having served: {stderr}");
            ensure!(
                last.starts_with("echoic: ") && last.len() > 20,
                "no reason: {stderr}"
            );
            return Ok(());
        };
        let mut numbers = numbers
            .split_whitespace()
            .filter_map(|word| word.parse::<u64>().ok());
        let mut number = || numbers.next().context("no number");
        let (served, recorded, lost) = (number()?, number()?, number()?);
        ensure!(served == recorded + lost, "does not add up: {last}");
        ensure!(*code <= 1, "code {code}: {last}");
        ensure!(
            lost == 0 || *code == 1,
            "code {code}, and not all is recorded: {last}"
        );
        // With code 1 it may have recorded more than it knows of.
        let there = self.found.exchanges;
        ensure!(
            there == recorded || (*code == 1 && there > recorded),
            "{there} are there: {last}"
        );
        Ok(())
    }

    /// Replies that were received and are not in the record.
    pub fn lost(&self) -> usize {
        let lost = |reply: &&String| !self.found.replies.contains(*reply);
        self.received.iter().filter(lost).count()
    }
}

/// Sends this many messages, one after the other; returns the numbers of the replies that were right.
fn converse(at: SocketAddr, name: &str, messages: u64) -> Vec<String> {
    let mut received = Vec::new();
    let mut talk = || -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&at, HUNG)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut replies = BufReader::new(stream.try_clone()?);
        for number in 0..messages {
            let request = message(name, number, 100);
            stream.write_all(request.as_bytes())?;
            let mut reply = String::new();
            replies.read_line(&mut reply)?;
            if reply != request.to_uppercase() {
                break;
            }
            received.push(format!("{}-{number}", name.to_uppercase()));
        }
        Ok(())
    };
    // A conversation that breaks off is expected in such a visit.
    let _ = talk();
    received
}
