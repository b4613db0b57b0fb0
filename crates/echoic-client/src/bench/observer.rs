//! Progress reports of a running benchmark, and the switch that stops it.

use std::sync::mpsc::Receiver;

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
pub struct StopSwitch(StopHandle);

impl StopSwitch {
    /// Returns the handle for the runs.
    pub(super) fn handle(&self) -> StopHandle {
        self.0.clone()
    }

    /// Sends no more requests, and opens no more connections; replies to requests in flight are awaited for at most two
    /// seconds.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Returns whether the benchmark was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }
}
