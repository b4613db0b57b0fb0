//! Signals whose default action ends the process, held back while the terminal is in raw mode.
//!
//! At a prompt the terminal must be restored first. The signals are blocked and read from a signalfd(2); their dispositions
//! stay as they are, so that one that was ignored at the start stays ignored, and the process can then end by the same
//! signal, as its parent expects.

use std::{future::pending, io};

use nix::sys::{
    signal::{SigSet, Signal, raise},
    signalfd::{SfdFlags, SignalFd},
};
use tokio::io::unix::AsyncFd;

use crate::exit::{CommandResult, Exit};

/// The signals that no other part of a prompt handles: INT, TERM and HUP end the conversation in order. ABRT is what others
/// send to get a core dump.
const SIGNALS: [Signal; 5] = [
    Signal::SIGQUIT,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGABRT,
];

/// Receives these signals from its creation on.
pub(super) struct EndingSignals {
    set: SigSet,
    file: AsyncFd<SignalFd>,
}

impl EndingSignals {
    /// Blocks the signals in this thread, and in those that it starts from here on: must be called while there is no other.
    pub(super) fn hold() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in SIGNALS {
            set.add(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&set, flags)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, for descriptors that may be closed meanwhile; this one is owned"
        )]
        let file = AsyncFd::new(signals)?;
        Ok(Self { set, file })
    }

    /// Waits for one of the signals. Cancel safe.
    pub(super) async fn next(&self) -> Signal {
        loop {
            let Ok(mut ready) = self.file.readable().await else {
                // The runtime is shutting down.
                return pending().await;
            };
            let signal = self.file.get_ref().read_signal().ok().flatten();
            let signal =
                signal.and_then(|info| Signal::try_from(info.ssi_signo.cast_signed()).ok());
            match signal {
                Some(signal) => return signal,
                None => ready.clear_ready(),
            }
        }
    }

    /// Ends the process by `signal`.
    pub(super) fn end_by(&self, signal: Signal) -> CommandResult {
        // A signal that no longer ends the process leaves the exit code to tell it.
        let _ = self.set.thread_unblock();
        let _ = raise(signal);
        Ok(Exit::Interrupted)
    }
}
