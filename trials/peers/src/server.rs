//! The real program, in a process of its own.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use trials_report::program;

use crate::Process;

/// Deadline for everything that is not itself under test.
pub const SOON: Duration = Duration::from_mins(1);

/// `echoic serve`, running in a directory of its own.
#[derive(Debug)]
pub struct Serve {
    child: Option<Child>,
    /// The server's process id, which is not the child's where a wrapper runs it.
    process: Process,
    home: TempDir,
    /// The address of each endpoint, in the order given.
    pub at: Vec<SocketAddr>,
}

/// How it stopped, as its last line reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Exchanges answered.
    pub served: u64,
    /// Exchanges recorded.
    pub recorded: u64,
    /// Exchanges lost.
    pub lost: u64,
    /// Time from the signal to the exit.
    pub took: Duration,
    /// Its whole standard error.
    pub stderr: String,
    /// Whether it exited with code 0.
    pub in_order: bool,
}

impl Serve {
    /// Starts `echoic serve ARGS`, with endpoints written `:0`, `NAME=:0` or `NAME=udp://127.0.0.1:0`. An endpoint on a
    /// Unix socket must be last: it has no address.
    pub fn start(args: &[&str]) -> Self {
        Self::start_under(&[], args)
    }

    /// Starts it through another program.
    pub fn start_under(runner: &[&str], args: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let echoic = program("echoic");
        let mut words: Vec<&str> = runner.to_vec();
        words.push(echoic.to_str().unwrap());
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg("serve")
            .args(args)
            .arg("--print")
            .current_dir(home.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(home.path().join("stderr")).unwrap());
        let mut child = command.spawn().expect("the program, or what runs it");
        let is_endpoint = |arg: &&&str| {
            arg.starts_with(':') || ["=:", "=udp:"].iter().any(|sign| arg.contains(sign))
        };
        let endpoints = args.iter().filter(is_endpoint).count();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let at: Vec<SocketAddr> = (0..endpoints)
            .map(|_| {
                let line = lines.next().unwrap_or_else(|| {
                    panic!(
                        "{}",
                        fs::read_to_string(home.path().join("stderr")).unwrap()
                    )
                });
                line.unwrap().trim().parse().unwrap()
            })
            .collect();
        let process = Process(if runner.is_empty() {
            child.id()
        } else {
            child_of(child.id())
        });
        Self {
            child: Some(child),
            process,
            home,
            at,
        }
    }

    /// Returns its process.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Returns its directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns its standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.home.path().join("stderr")).unwrap()
    }

    /// Returns how many exchanges of the record match.
    pub fn count(&self, filter: &str) -> u64 {
        let counted = Command::new(program("echoic"))
            .args(["log", "--count", filter])
            .current_dir(self.home.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&counted.stdout);
        text.trim()
            .parse()
            .unwrap_or_else(|_| panic!("{counted:?}"))
    }

    /// Returns the result of a query on the record, by Python's sqlite3.
    pub fn sql(&self, query: &str) -> String {
        let script = "import sqlite3, sys\n\
            print(*sqlite3.connect('echoic.db').execute(sys.argv[1]).fetchone(), end='')";
        let asked = Command::new("python3")
            .args(["-c", script, query])
            .current_dir(self.home.path())
            .output()
            .unwrap();
        assert!(
            asked.status.success(),
            "{}",
            String::from_utf8_lossy(&asked.stderr)
        );
        String::from_utf8(asked.stdout).unwrap()
    }

    /// Returns how many conversations are recorded with this reason, once there are this many, or no more come.
    pub fn ended(&self, how: &str, expected: usize) -> usize {
        self.ended_within(how, expected, Duration::from_secs(10))
    }

    /// The same, with a deadline.
    pub fn ended_within(&self, how: &str, expected: usize, span: Duration) -> usize {
        let query = format!("SELECT count(*) FROM conversation WHERE reason = '{how}'");
        let deadline = Instant::now() + span;
        loop {
            let count: usize = self.sql(&query).parse().unwrap();
            if count >= expected || Instant::now() > deadline {
                return count;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, which: Signal) {
        let pid = Pid::from_raw(self.process.0.cast_signed()).unwrap();
        kill_process(pid, which).unwrap();
    }

    /// Stops it with TERM and waits for its last line, which must add up.
    pub fn stop(mut self) -> (Stopped, TempDir) {
        self.signal(Signal::TERM);
        let signalled = Instant::now();
        let mut child = self.child.take().unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if signalled.elapsed() > SOON {
                let _ = child.kill();
                panic!("it does not stop: {}", self.stderr());
            }
            thread::sleep(Duration::from_millis(2));
        };
        let took = signalled.elapsed();
        let stderr = self.stderr();
        let last = stderr.lines().rfind(|line| line.starts_with("stopped: "));
        let last = last.unwrap_or_else(|| panic!("no last line: {stderr}"));
        let mut numbers = last
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|digits| digits.parse::<u64>().ok());
        let mut number = || numbers.next().unwrap_or(0);
        let (served, recorded, lost) = (number(), number(), number());
        if last.contains("recorded") {
            assert_eq!(served, recorded + lost, "{last}");
        }
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().unwrap());
        let stopped = Stopped {
            served,
            recorded,
            lost,
            took,
            in_order: status.success(),
            stderr,
        };
        (stopped, home)
    }
}

/// Returns the only child of a process, once it has one.
fn child_of(parent: u32) -> u32 {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let deadline = Instant::now() + SOON;
    loop {
        let children = fs::read_to_string(&path).unwrap();
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().unwrap();
        }
        assert!(Instant::now() < deadline, "it started nothing");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(self.process.0.cast_signed()).unwrap();
            let _ = kill_process(pid, Signal::KILL);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
