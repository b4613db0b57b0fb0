//! Programs that are watched: started, found, ended.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// For whatever should happen soon.
pub const SOON: Duration = Duration::from_mins(1);

/// A program under strace.
#[derive(Debug)]
pub struct Traced {
    strace: Child,
    /// What it says on standard output, line by line.
    pub lines: BufReader<ChildStdout>,
    /// What it says on standard error.
    pub errors: thread::JoinHandle<String>,
}

/// How one ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it said on standard error.
    pub said: String,
}

impl Traced {
    /// Starts `program` in `folder`, as strace is told to by `options`.
    pub fn start(options: &[&str], program: &Path, args: &[&str], folder: &Path) -> Result<Self> {
        let mut command = Command::new("strace");
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("ECHOIC_") {
                command.env_remove(name);
            }
        }
        let mut strace = command
            .args(options)
            .arg("--")
            .arg(program)
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("strace cannot be started; its Debian package is strace")?;
        let out = strace.stdout.take().context("stdout")?;
        let mut err = strace.stderr.take().context("stderr")?;
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = err.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            strace,
            lines: BufReader::new(out),
            errors,
        })
    }

    /// The address that a serve prints.
    pub fn address(&mut self) -> Result<SocketAddr> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        line.trim()
            .parse()
            .with_context(|| format!("no address: {line:?}"))
    }

    /// The program itself.
    pub fn process(&self) -> Result<Pid> {
        let strace = self.strace.id();
        let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children"))?;
        let child = children.split_whitespace().next().context("it has ended")?;
        Pid::from_raw(child.parse()?).context("no process")
    }

    /// Sends the program a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        if let Ok(process) = self.process() {
            let _ = kill_process(process, signal);
        }
    }

    /// Waits for its end, for at most so long; then it is killed, and that is an error.
    pub fn end(mut self, at_most: Duration) -> Result<Ended> {
        let deadline = Instant::now() + at_most;
        let status = loop {
            if let Some(status) = self.strace.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                self.signal(Signal::KILL);
                let _ = self.strace.wait();
                let said = self.errors.join().unwrap_or_default();
                bail!("it did not end within {at_most:?}; it had said:\n{said}");
            }
            thread::sleep(Duration::from_millis(2));
        };
        let said = self.errors.join().unwrap_or_default();
        let code = status.code();
        Ok(Ended { code, said })
    }
}
