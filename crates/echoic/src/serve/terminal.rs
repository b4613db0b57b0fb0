//! Keys and the status line of `serve` on a terminal, on a thread of their own: a terminal that takes nothing (Ctrl-S) holds
//! nothing else up.

mod activity;
mod entry;
mod keys;
mod raw;
mod status;

use std::{
    env, io,
    io::IsTerminal,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
};

pub(super) use self::activity::{Activity, Selection};
use self::{keys::Keys, raw::Terminal};
use super::{plan::Events, plan::Plan, status::ServerState};
use crate::{status_line, term};

/// Time at the end for the thread to leave the terminal.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

/// Whether keys are read and a status line is drawn: only where a person watches, on a terminal that can redraw a line.
pub(super) fn is_wanted(plan: &Plan) -> bool {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    plan.show.events == Events::Lines
        && !plan.exit_with_stdin
        && !is_dumb
        && io::stdin().is_terminal()
        && term::is_stderr_on_terminal()
}

/// The keys while they are read. Dropping it restores the terminal.
pub(super) struct RunningKeys {
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
    terminal: Arc<Terminal>,
}

impl RunningKeys {
    /// Starts to read keys. `quit` receives each request to stop.
    pub(super) fn start(
        state: Arc<ServerState>,
        activity: Arc<Activity>,
        quit: mpsc::Sender<()>,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let terminal = Arc::new(Terminal::open()?);
        let (stop, stopped) = oneshot::channel();
        let keys = Keys::new(state, activity, quit, Arc::clone(&terminal));
        let thread = thread::Builder::new()
            .name("keys".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(keys.run(stopped)) {
                    tracing::warn!("keys are not read any more: {error}");
                }
                status_line::remove();
            })?;
        Ok(Self {
            stop: Some(stop),
            thread,
            terminal,
        })
    }
}

impl Drop for RunningKeys {
    fn drop(&mut self) {
        drop(self.stop.take());
        let deadline = Instant::now() + LEAVE_WITHIN;
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        // Also if the thread is stuck in a write to the terminal.
        self.terminal.leave();
    }
}
