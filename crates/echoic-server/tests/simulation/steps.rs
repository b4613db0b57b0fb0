//! The order of what happens in a world, and its story if somebody wants to read it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

/// Counts what happens. Paused time stands still for many steps, so moments do not tell what came first.
#[derive(Clone, Debug)]
pub(super) struct Steps(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    step: AtomicU64,
    began: Instant,
    story: Option<Mutex<Vec<String>>>,
}

impl Steps {
    pub(super) fn new(tells: bool) -> Self {
        Self(Arc::new(Inner {
            step: AtomicU64::new(0),
            began: Instant::now(),
            story: tells.then(Mutex::default),
        }))
    }

    pub(super) fn next(&self) -> u64 {
        self.0.step.fetch_add(1, Ordering::Relaxed)
    }

    /// A line of the story, if it is told at all.
    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
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
