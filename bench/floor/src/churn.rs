//! Connections a second: connect, one exchange, close.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;

use crate::idle::{ask, connect, receive};
use crate::process::CpuClock;
use crate::text::Text;

/// Length in bytes of the line that each connection sends.
const SIZE: usize = 64;
/// Longest run. A closed connection holds its port for a while (`TIME_WAIT`), so this run is shorter than the others.
const LONGEST: Duration = Duration::from_mins(1);

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Connections opened, answered and closed.
    pub(crate) connections: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// CPU time of the server for each connection, in microseconds.
    pub(crate) cpu_us_per_connection: Option<f64>,
    /// Connections open at the same time.
    pub(crate) at_once: u32,
    /// Replies that were not the upper case of their line.
    pub(crate) wrong: u64,
}

/// Opens `at_once` connections, does one exchange on each, closes them, and starts again.
pub(crate) fn run(
    address: SocketAddr,
    at_once: u32,
    seconds: Duration,
    pid: Option<i32>,
) -> anyhow::Result<Report> {
    ensure!(
        seconds <= LONGEST,
        "churn lasts 60 seconds at most; ports of closed connections run out"
    );
    let text = Text::new(SIZE, 1);
    let cpu = pid.map(CpuClock::of).transpose()?;
    let before = cpu.map(CpuClock::now).transpose()?;
    let begin = Instant::now();
    let (mut connections, mut wrong) = (0, 0);
    while begin.elapsed() < seconds {
        let mut open = (0..at_once)
            .map(|_| connect(address))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for (number, stream) in open.iter_mut().enumerate() {
            ask(stream, number, &text)?;
        }
        for (number, stream) in open.iter_mut().enumerate() {
            wrong += u64::from(!receive(stream, number, &text)?);
        }
        connections += u64::from(at_once);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let after = cpu.map(CpuClock::now).transpose()?;
    let used = before
        .zip(after)
        .map(|(before, after)| after.saturating_sub(before).as_secs_f64() * 1e6);
    Ok(Report {
        connections,
        seconds,
        per_second: (connections as f64 / seconds).round(),
        cpu_us_per_connection: used.map(|us| (us / connections as f64 * 100.0).round() / 100.0),
        at_once,
        wrong,
    })
}
