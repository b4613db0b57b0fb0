//! SIGINT, SIGTERM and SIGHUP, the signals that stop a command in order.

use std::{
    fs, io,
    task::{Context, Waker},
    time::Duration,
};

use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::term;

/// Signals within this time of the first count as the first: `timeout` and a shell signal the process and its process group,
/// and a terminal may repeat a key.
const TOGETHER: Duration = Duration::from_millis(50);

/// Receives SIGINT, SIGTERM and SIGHUP from its creation on, instead of their default action.
///
/// Only SIGINT and SIGTERM are counted: a second one, later than [`TOGETHER`], asks to stop at once. SIGHUP is what the end
/// of a terminal or a session brings, often together with a SIGTERM, so it only asks for an orderly stop.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Hangup,
    /// When the first counted signal came.
    counted: Option<Instant>,
    /// [`TOGETHER`] has passed since then.
    is_settled: bool,
    /// What to tell the user as soon as a further signal is a second one.
    notice: Option<&'static str>,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: Hangup::catch()?,
            counted: None,
            is_settled: false,
            notice: None,
        })
    }

    /// Waits for the first signal: the command is to end in order. Cancel safe.
    pub(crate) async fn first(&mut self) {
        select! {
            _ = self.interrupt.recv() => self.counted = Some(Instant::now()),
            _ = self.terminate.recv() => self.counted = Some(Instant::now()),
            () = self.hangup.next() => {}
        }
    }

    /// Has [`Self::second`] print this, as soon as a signal that answers it is a second one. Before that it might be discarded:
    /// it is not known when a signal was sent.
    pub(crate) fn notice_later(&mut self, notice: &'static str) {
        self.notice = Some(notice);
    }

    /// Prints the notice, if it has not been printed.
    pub(crate) fn notice_now(&mut self) {
        if let Some(notice) = self.notice.take() {
            term::note(notice);
        }
    }

    /// Waits for the second SIGINT or SIGTERM: the command is to end at once. Cancel safe.
    pub(crate) async fn second(&mut self) {
        self.settled().await;
        self.notice_now();
        if self.counted.is_none() {
            self.counted_signal().await;
            self.counted = Some(Instant::now());
            self.settled().await;
        }
        self.counted_signal().await;
    }

    /// Waits until a further signal is no longer together with the first counted one, if there was one.
    async fn settled(&mut self) {
        if let Some(first) = self.counted
            && !self.is_settled
        {
            sleep_until(first + TOGETHER).await;
            self.discard_pending();
            self.is_settled = true;
        }
    }

    async fn counted_signal(&mut self) {
        select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Discards signals that have come. On a busy machine they may be noticed late, so their time is not looked at.
    fn discard_pending(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for signal in [&mut self.interrupt, &mut self.terminate] {
            while signal.poll_recv(&mut cx).is_ready() {}
        }
    }
}

/// SIGHUP, unless it was ignored when the process started (nohup(1)): then it stays ignored.
pub(crate) struct Hangup(Option<Signal>);

impl Hangup {
    pub(crate) fn catch() -> io::Result<Self> {
        let kind = SignalKind::hangup();
        // Without /proc nothing is known, and the signal is caught.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let is_ignored = is_ignored(kind, &status);
        let caught = (!is_ignored).then(|| signal(kind)).transpose()?;
        Ok(Self(caught))
    }

    /// Waits for the next SIGHUP. Cancel safe.
    pub(crate) async fn next(&mut self) {
        match &mut self.0 {
            Some(hangup) => _ = hangup.recv().await,
            None => std::future::pending().await,
        }
    }
}

/// Whether the process ignores the signal, by its `/proc/PID/status` (proc(5)): bit n - 1 of `SigIgn` is signal n.
fn is_ignored(kind: SignalKind, status: &str) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signal_is_read_from_the_status() {
        let status =
            |mask: &str| format!("Name:\techoic\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        let hangup = SignalKind::hangup();
        assert!(is_ignored(hangup, &status("0000000000000001")));
        assert!(is_ignored(hangup, &status("0000000000001001")));
        assert!(!is_ignored(hangup, &status("0000000000001000")));
        assert!(!is_ignored(hangup, ""));
        let terminate = SignalKind::terminate();
        assert!(is_ignored(terminate, &status("0000000000004000")));
    }
}
