//! The order of the steps of a world, and its story: an optional log of them.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

/// Counts the steps. Paused time stands still for many steps, so times do not give their order.
#[derive(Clone, Debug)]
pub(super) struct Steps(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    step: AtomicU64,
    began: Instant,
    story: Option<Mutex<Vec<String>>>,
}

impl Steps {
    pub(super) fn new(has_story: bool) -> Self {
        Self(Arc::new(Inner {
            step: AtomicU64::new(0),
            began: Instant::now(),
            story: has_story.then(Mutex::default),
        }))
    }

    pub(super) fn next(&self) -> u64 {
        self.0.step.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a line to the story, if there is one.
    pub(super) fn log(&self, line: impl FnOnce() -> String) {
        let step = self.next();
        if let Some(story) = &self.0.story {
            let at = self.0.began.elapsed().as_micros();
            let line = format!("{step:6} {at:>10} us  {}", line());
            story
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    }

    pub(super) fn story(&self) -> Vec<String> {
        let story = self.0.story.as_ref().map(Mutex::lock);
        story.map_or_else(Vec::new, |story| {
            story.unwrap_or_else(PoisonError::into_inner).clone()
        })
    }
}
