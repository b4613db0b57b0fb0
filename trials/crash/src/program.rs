//! The program under trial: start, find its process, wait for its exit.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Deadline for anything that should happen soon.
pub const SOON: Duration = Duration::from_mins(1);

/// Returns a command in `folder`, without our `ECHOIC_*` variables.
pub fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("ECHOIC_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder);
    command
}

/// A running program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Whether the started process has the program as its child: strace, or a shell that stays.
    is_parent: bool,
    /// Its standard output, line by line.
    pub lines: BufReader<ChildStdout>,
    stderr: Arc<Mutex<String>>,
    listener: thread::JoinHandle<()>,
}

/// The result of a program that has exited.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal killed it.
    pub code: Option<i32>,
    /// Its standard error.
    pub stderr: String,
}

impl Running {
    /// Starts `program` in `folder` under strace with `options`.
    pub fn traced(options: &[&str], program: &Path, args: &[&str], folder: &Path) -> Result<Self> {
        let mut strace = command("strace", folder);
        strace.args(options).arg("--").arg(program).args(args);
        Self::start(strace, true).context("strace cannot be started; its Debian package is strace")
    }

    /// Starts `command`, which is the program, or its parent.
    pub fn start(mut command: Command, is_parent: bool) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("stdout")?;
        let err = child.stderr.take().context("stderr")?;
        let stderr = Arc::<Mutex<String>>::default();
        let shared = Arc::clone(&stderr);
        let listener = thread::spawn(move || {
            for line in BufReader::new(err).split(b'\n').map_while(Result::ok) {
                let mut stderr = shared.lock().unwrap_or_else(PoisonError::into_inner);
                *stderr += &String::from_utf8_lossy(&line);
                stderr.push('\n');
            }
        });
        Ok(Self {
            child,
            is_parent,
            lines: BufReader::new(out),
            stderr,
            listener,
        })
    }

    /// Waits for the address that the server prints.
    pub fn address(&mut self) -> Result<SocketAddr> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        line.trim()
            .parse()
            .with_context(|| format!("no address: {line:?}; standard error: {}", self.stderr()))
    }

    /// Returns its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits at most this long for a text on standard error; returns how long that took.
    pub fn wait_for_stderr(&self, text: &str, at_most: Duration) -> Result<Duration> {
        let since = Instant::now();
        while !self.stderr().contains(text) {
            if since.elapsed() > at_most {
                bail!(
                    "{text:?} is not on standard error within {at_most:?}:\n{}",
                    self.stderr()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(since.elapsed())
    }

    /// Returns the process id of the program itself.
    pub fn process(&self) -> Result<Pid> {
        let started = self.child.id();
        let pid = if self.is_parent {
            let children = fs::read_to_string(format!("/proc/{started}/task/{started}/children"))?;
            let child = children.split_whitespace().next().context("it has ended")?;
            child.parse()?
        } else {
            i32::try_from(started)?
        };
        Pid::from_raw(pid).context("no process")
    }

    /// Returns the process id of what was started: the program, or its parent.
    pub fn started(&self) -> u32 {
        self.child.id()
    }

    /// Sends the program a signal, unless it has exited.
    pub fn signal(&self, signal: Signal) {
        if let Ok(process) = self.process() {
            let _ = kill_process(process, signal);
        }
    }

    /// Whether it exits within this time.
    pub fn ends_within(&mut self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        loop {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits at most this long for its exit; then it is killed, and that is an error.
    pub fn end(mut self, at_most: Duration) -> Result<Ended> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + at_most;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                self.signal(Signal::KILL);
                let _ = self.child.kill();
                let _ = self.child.wait();
                bail!(
                    "it did not end within {at_most:?}; standard error:\n{}",
                    self.stderr()
                );
            }
            thread::sleep(Duration::from_millis(2));
        };
        let _ = self.listener.join();
        let code = status.code();
        let stderr = self
            .stderr
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(Ended { code, stderr })
    }
}
