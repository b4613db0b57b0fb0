//! What a benchmark tells while it runs, and what stops it.

use std::sync::{Mutex, MutexGuard, PoisonError, mpsc::Receiver};

use super::{
    fleet::{ProgressReader, StopHandle},
    plan::{Plan, Run},
    tries::Attempt,
};

/// Is told how a benchmark is getting on.
pub trait Observer: Sync {
    /// A run has begun. Called on a thread of its own, and to return once `is_done` is closed; the run does not wait
    /// for anything that is done here before that.
    fn follow_run(&self, plan: &Plan, run: &Run, progress: &ProgressReader, is_done: &Receiver<()>);

    /// The `number`th of many runs is over.
    fn attempt_finished(&self, number: usize, attempt: &Attempt);

    /// One connection in a closed loop gave this many replies a second; next, `connections` are asked at half of
    /// that.
    fn first_look(&self, done_per_s: f64, connections: u32);
}

/// StopSwitch the runs of a benchmark, from any thread: the one under way and those still to come.
#[derive(Debug, Default)]
pub struct StopSwitch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    handles: Vec<StopHandle>,
}

impl StopSwitch {
    /// StopSwitch this one too.
    pub(super) fn add(&self, stop: StopHandle) {
        let mut state = self.lock();
        if state.is_stopped {
            stop.stop();
        }
        state.handles.push(stop);
    }

    /// Nothing more is asked; what is out is waited for.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        state.handles.iter().for_each(StopHandle::stop);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
