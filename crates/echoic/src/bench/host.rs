//! On what machine, and by what, a run was made: without it figures can be neither compared nor repeated.

use std::{fs, thread};

use serde::Serialize;

use super::command;

/// Where a run was made, and what repeats it.
#[derive(Debug)]
pub(super) struct Made {
    /// For a POSIX shell.
    pub(super) command: String,
    pub(super) host: Host,
}

impl Made {
    /// By this process.
    pub(super) fn here() -> Self {
        Self {
            command: command::line(),
            host: Host::this(),
        }
    }
}

/// A machine, as far as it tells.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Host {
    /// Cores that this process may use.
    pub(super) cores: usize,
    /// What the processor calls itself.
    pub(super) cpu: Option<String>,
    /// The system and its release.
    pub(super) kernel: String,
    /// How the clock of the cores is governed: with `powersave` figures wander.
    pub(super) governor: Option<String>,
    /// Which echoic.
    pub(super) echoic: String,
}

impl Host {
    /// This one.
    pub(super) fn this() -> Self {
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
    let about = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = about.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}
