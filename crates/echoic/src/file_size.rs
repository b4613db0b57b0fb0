//! The limit of the size of files (`ulimit -f`, `RLIMIT_FSIZE` in setrlimit(2)).

use nix::sys::signal::{SigSet, Signal};

/// Makes a write past the limit fail with EFBIG, as on a full disk, instead of ending the process by SIGXFSZ.
///
/// With the default action of SIGXFSZ, a server under `ulimit -f` dies as soon as its record reaches the limit: peers lose
/// their connections, and exchanges that were answered are not recorded. Called before the first thread starts, since
/// threads inherit the mask.
pub(crate) fn report_limit_as_error() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // Fails only for an invalid argument (pthread_sigmask(3)).
    let _ = signals.thread_block();
}
