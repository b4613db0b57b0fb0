//! What a benchmark tells while it runs, and what stops it.

use std::sync::{Mutex, MutexGuard, PoisonError, mpsc::Receiver};

use super::{
    fleet::{Stop, Watch},
    plan::{Plan, Run},
    tries::Try,
};

/// Is told how a benchmark is getting on.
pub trait Observer: Sync {
    /// A run has begun. Called on a thread of its own, and to return once `is_done` is closed; the run does not wait
    /// for anything that is done here before that.
    fn follow(&self, plan: &Plan, run: &Run, watch: &Watch, is_done: &Receiver<()>);

    /// The `number`th of many runs is over.
    fn tried(&self, number: usize, attempt: &Try);

    /// One connection in a closed loop gave this many replies a second; next, `connections` are asked at half of
    /// that.
    fn first_look(&self, done_per_s: f64, connections: u32);
}

/// Stops the runs of a benchmark, from any thread: the one under way and those still to come.
#[derive(Debug, Default)]
pub struct Stops(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    fleets: Vec<Stop>,
}

impl Stops {
    /// Stops this one too.
    pub(super) fn add(&self, stop: Stop) {
        let mut state = self.lock();
        if state.is_stopped {
            stop.stop();
        }
        state.fleets.push(stop);
    }

    /// Nothing more is asked; what is out is waited for.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        state.fleets.iter().for_each(Stop::stop);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
