//! Progress reports of a running benchmark, and the switch that stops it.

use std::sync::{Mutex, MutexGuard, PoisonError, mpsc::Receiver};

use super::{
    attempt::Attempt,
    generator::{ProgressReader, StopHandle},
    plan::{Plan, Run},
};

/// Receives the progress of a benchmark.
pub trait Observer: Sync {
    /// Called on a separate thread when a run starts. Must return once `is_done` is closed; until then the run does not wait
    /// for it.
    fn follow_run(&self, plan: &Plan, run: &Run, progress: &ProgressReader, is_done: &Receiver<()>);

    /// Called after run `number` of a series.
    fn attempt_finished(&self, number: usize, attempt: &Attempt);

    /// Called when one connection in a closed loop reached this many replies per second; `connections` connections at half of
    /// that rate follow.
    fn first_look(&self, done_per_s: f64, connections: u32);
}

/// Stops the runs of a benchmark, from any thread: the current one and later ones.
#[derive(Debug, Default)]
pub struct StopSwitch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    handles: Vec<StopHandle>,
}

impl StopSwitch {
    /// Adds a run to stop.
    pub(super) fn add(&self, stop: StopHandle) {
        let mut state = self.lock();
        if state.is_stopped {
            stop.stop();
        }
        state.handles.push(stop);
    }

    /// Sends no more requests; replies to those in flight are awaited.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        state.handles.iter().for_each(StopHandle::stop);
    }

    /// Returns whether the benchmark was stopped.
    pub fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
