//! The machine and the command line of a run, without which its figures cannot be compared or repeated.

use std::{fs, thread};

use serde::Serialize;

use super::command;

/// The environment of a run.
#[derive(Debug)]
pub(super) struct Environment {
    /// The command line, quoted for a POSIX shell.
    pub(super) command: String,
    pub(super) host: Host,
}

impl Environment {
    /// Returns the environment of this process.
    pub(super) fn current() -> Self {
        Self {
            command: command::line(),
            host: Host::current(),
        }
    }
}

/// A machine; `None` where the system does not report a value.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Host {
    /// Cores that this process may use.
    pub(super) cores: usize,
    /// The processor's model name.
    pub(super) cpu: Option<String>,
    /// Name, release and architecture of the kernel.
    pub(super) kernel: String,
    /// The CPU frequency governor; with `powersave`, figures vary.
    pub(super) governor: Option<String>,
    /// The version of echoic.
    pub(super) echoic: String,
}

impl Host {
    /// Returns this machine.
    pub(super) fn current() -> Self {
        let system = rustix::system::uname();
        let [name, release, machine] = [system.sysname(), system.release(), system.machine()];
        let [name, release, machine] = [name, release, machine].map(|part| part.to_string_lossy());
        Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu(),
            kernel: format!("{name} {release} {machine}"),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            echoic: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}
