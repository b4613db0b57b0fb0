//! The set of connections that were woken: their wakers add to it and the worker empties it.
//!
//! All connections of a thread are polled by one task, so that they share one schedule, one set of counters and one buffer
//! without a lock. This does per connection number what a runtime does per task.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// Connection numbers that were woken since the last call of [`Self::take`].
#[derive(Debug)]
pub(super) struct ReadySet {
    list: Arc<List>,
    wakers: Vec<(Arc<ConnectionWaker>, Waker)>,
    taken: Vec<u32>,
}

#[derive(Debug, Default)]
struct List {
    woken: Mutex<Woken>,
}

#[derive(Debug, Default)]
struct Woken {
    numbers: Vec<u32>,
    worker: Option<Waker>,
}

#[derive(Debug)]
struct ConnectionWaker {
    number: u32,
    listed: AtomicBool,
    list: Arc<List>,
}

impl ReadySet {
    /// Creates the set for the numbers below `count`, all woken.
    pub(super) fn new(count: u32) -> Self {
        let list = Arc::new(List::default());
        let wakers = (0..count).map(|number| {
            let number_waker = Arc::new(ConnectionWaker {
                number,
                listed: AtomicBool::new(false),
                list: Arc::clone(&list),
            });
            let waker = Waker::from(Arc::clone(&number_waker));
            (number_waker, waker)
        });
        let ready = Self {
            wakers: wakers.collect(),
            list,
            taken: Vec::with_capacity(count as usize),
        };
        for number in 0..count {
            ready.wake(number);
        }
        ready
    }

    /// Wakes `number`.
    pub(super) fn wake(&self, number: u32) {
        self.wakers[number as usize].0.list_number();
    }

    /// Returns the waker of `number`.
    pub(super) fn waker(&self, number: u32) -> &Waker {
        &self.wakers[number as usize].1
    }

    /// Takes the woken numbers, each once, and registers `cx` for the next one. Return the list with [`Self::recycle`].
    pub(super) fn take(&mut self, cx: &Context<'_>) -> Vec<u32> {
        let mut taken = std::mem::take(&mut self.taken);
        taken.clear();
        let mut woken = self
            .list
            .woken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut woken.numbers, &mut taken);
        match &mut woken.worker {
            Some(worker) => worker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        drop(woken);
        for number in &taken {
            self.wakers[*number as usize]
                .0
                .listed
                .store(false, Ordering::Release);
        }
        taken
    }

    /// Takes the list back to reuse its memory.
    pub(super) fn recycle(&mut self, taken: Vec<u32>) {
        self.taken = taken;
    }
}

impl ConnectionWaker {
    fn list_number(&self) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut woken = self
            .list
            .woken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let first = woken.numbers.is_empty();
        woken.numbers.push(self.number);
        if first && let Some(worker) = &woken.worker {
            worker.wake_by_ref();
        }
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.list_number();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.list_number();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn ready_number_is_listed_once_and_wakes_once() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let mut ready = ReadySet::new(3);
        let first = ready.take(&cx);
        assert_eq!(first, [0, 1, 2]);
        ready.recycle(first);

        for number in [2, 0, 2] {
            ready.waker(number).wake_by_ref();
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        let second = ready.take(&cx);
        assert_eq!(second, [2, 0]);
        ready.recycle(second);

        ready.waker(2).wake_by_ref();
        assert_eq!(ready.take(&cx), [2]);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
