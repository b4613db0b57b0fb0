//! Requests to stop a server: signals, and the end of standard input.

use std::{
    io::{self, Read},
    thread,
};

use tokio::{
    select,
    sync::{mpsc, oneshot},
};

use crate::{signals::Signals, stdio};

/// Receives requests to stop.
pub(super) struct StopRequests {
    signals: Signals,
    /// Ready at the end of standard input; `None` if that is no request.
    stdin: Option<oneshot::Receiver<()>>,
    /// The key `q`. The sender is held, so that it never ends.
    keys: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

/// Presses of `q` that may wait.
const KEYS_MAX: usize = 2;

impl StopRequests {
    /// Receives requests from now on.
    pub(super) fn listen(with_stdin: bool) -> io::Result<Self> {
        Ok(Self {
            signals: Signals::catch()?,
            stdin: with_stdin.then(stdin_end).transpose()?,
            keys: mpsc::channel(KEYS_MAX),
        })
    }

    /// Returns where a key requests a stop.
    pub(super) fn key(&self) -> mpsc::Sender<()> {
        self.keys.0.clone()
    }

    /// Waits for the first request: the server is to drain.
    pub(super) async fn requested(&mut self) {
        let stdin = async {
            match &mut self.stdin {
                Some(ended) => _ = ended.await,
                None => std::future::pending().await,
            }
        };
        select! {
            () = self.signals.first() => {}
            _ = self.keys.1.recv() => {}
            () = stdin => {}
        }
    }

    /// Prints this once a further signal stops at once, or at [`Self::notice_now`].
    pub(super) fn notice_later(&mut self, notice: &'static str) {
        self.signals.notice_later(notice);
    }

    /// Prints the notice, if it has not been printed.
    pub(super) fn notice_now(&mut self) {
        self.signals.notice_now();
    }

    /// Waits for the request to stop at once: a second SIGINT or SIGTERM, or the key again.
    pub(super) async fn at_once(&mut self) {
        select! {
            () = self.signals.second() => {}
            _ = self.keys.1.recv() => {}
        }
    }
}

/// Reads standard input to its end and discards it, on a thread of its own, since a read may block.
fn stdin_end() -> io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let (mut stdin, mut discarded) = (stdio::input(), [0; 4096]);
            while stdin.read(&mut discarded).is_ok_and(|n| n > 0) {}
            let _ = ended.send(());
        })?;
    Ok(end)
}
