//! A server's CPU time and memory, read from outside the process.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// The CPU time of another process in nanoseconds: all its threads, including those that have ended.
///
/// `clock_getcpuclockid(3)` rather than `/proc/PID/task/*/schedstat`, which lags behind by a
/// timer tick for a running thread and forgets threads that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuClock {
    clock: ClockId,
    pid: i32,
}

impl CpuClock {
    /// Opens the CPU clock of `pid`, which is valid while that process lives.
    pub(crate) fn of(pid: i32) -> anyhow::Result<Self> {
        let clock = clock_getcpuclockid(Pid::from_raw(pid))
            .with_context(|| format!("no CPU clock for process {pid}; is it still running?"))?;
        Ok(Self { clock, pid })
    }

    /// CPU time used so far.
    pub(crate) fn now(self) -> anyhow::Result<Duration> {
        let time = self
            .clock
            .now()
            .with_context(|| format!("process {} ended while it was measured", self.pid))?;
        Ok(time.into())
    }
}

/// Resident memory in KiB, from `/proc/PID/smaps_rollup`: `VmRSS` in `/proc/PID/status` is a
/// running estimate that may be off by hundreds of KiB, `proc_pid_status(5)`.
pub(crate) fn resident_kib(pid: i32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| {
        format!("cannot read {path}; is the server still running, as the same user?")
    })?;
    resident(&rollup).with_context(|| format!("{path} has no Rss in kB; has the process ended?"))
}

fn resident(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn cpu_time_and_memory_of_own_process_are_read() {
        let pid = std::process::id().try_into().expect("a pid fits");
        let clock = CpuClock::of(pid).expect("own clock");
        let before = clock.now().expect("own time");
        let deadline = Instant::now() + Duration::from_secs(10);
        while clock.now().expect("own time") < before + Duration::from_millis(20) {
            assert!(Instant::now() < deadline, "the clock stands still");
        }
        assert!(resident_kib(pid).expect("own memory") > 500);
    }

    #[test]
    fn missing_rss_line_gives_none() {
        let rollup =
            "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:                1824 kB\nPss:  900 kB\n";
        assert_eq!(resident(rollup), Some(1824));
        assert_eq!(resident("Pss: 900 kB\n"), None);
    }
}
