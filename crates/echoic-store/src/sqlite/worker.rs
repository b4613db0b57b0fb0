//! A thread that owns something and does one thing after the other with it.

use std::{
    fmt,
    future::Future,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, Thread},
    time::Instant,
};

use async_channel::{Receiver, Sender, bounded};
use echoic_core::store::StoreError;

/// Questions that may wait in line; who asks one more waits to ask.
const WAITING_MAX: usize = 16;

/// What a [`Worker`] owns.
pub(super) trait Work: Send + 'static {
    /// When [`Work::overdue`] is to be called if nothing is asked before.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Does what was due.
    fn overdue(&mut self) {}

    /// Leaves things in order.
    fn finish(self) -> Result<(), StoreError>;
}

type Job<W> = Box<dyn FnOnce(&mut W) + Send>;

/// A thread that owns a `W`.
pub(super) struct Worker<W> {
    jobs: Sender<Job<W>>,
    thread: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

impl<W: Work> Worker<W> {
    /// Starts the thread.
    pub(super) fn start(name: &str, path: &Path, work: W) -> Result<Self, StoreError> {
        let (jobs, queue) = bounded(WAITING_MAX);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(work, &queue));
        let thread = thread.map_err(|why| StoreError::Failed {
            path: path.to_owned(),
            what: why.to_string(),
        })?;
        Ok(Self {
            jobs,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Has `job` done when its turn comes, and waits for what comes of it.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut W) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = bounded(1);
        let job: Job<W> = Box::new(move |work| {
            // Whoever asked may have gone away.
            let _ = answer.try_send(job(work));
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.recv().await.map_err(|_| StoreError::Closed)?
    }

    /// Takes no more questions, waits until those asked are answered and things are in order.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        self.jobs.close();
        match self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(thread) => thread.join().unwrap_or(Err(StoreError::Closed)),
            None => Ok(()),
        }
    }
}

impl<W> Drop for Worker<W> {
    fn drop(&mut self) {
        self.jobs.close();
        if let Some(thread) = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = thread.join();
        }
    }
}

impl<W> fmt::Debug for Worker<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("waiting", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

fn run<W: Work>(mut work: W, queue: &Receiver<Job<W>>) -> Result<(), StoreError> {
    loop {
        match next(queue, work.due()) {
            Next::Job(job) => job(&mut work),
            Next::Due => work.overdue(),
            Next::Closed => return work.finish(),
        }
    }
}

enum Next<T> {
    Job(T),
    Due,
    Closed,
}

/// The next job, waited for until `due` at most. A blocking receive with a deadline is not in the channel's
/// interface, so this thread is its own executor: it sleeps until it is woken or late.
fn next<T>(queue: &Receiver<T>, due: Option<Instant>) -> Next<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    if let Ok(job) = queue.try_recv() {
        return Next::Job(job);
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut received = pin!(queue.recv());
    loop {
        match received.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(job)) => return Next::Job(job),
            Poll::Ready(Err(_)) => return Next::Closed,
            Poll::Pending => {}
        }
        match due.map(|due| due.saturating_duration_since(Instant::now())) {
            Some(left) if left.is_zero() => return Next::Due,
            Some(left) => thread::park_timeout(left),
            None => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Counts how often it was overdue.
    struct Clock(u32);

    impl Work for Clock {
        fn due(&self) -> Option<Instant> {
            (self.0 < 3).then(|| Instant::now() + Duration::from_millis(1))
        }
        fn overdue(&mut self) {
            self.0 += 1;
        }
        fn finish(self) -> Result<(), StoreError> {
            Err(StoreError::Closed)
        }
    }

    #[tokio::test]
    async fn what_is_due_is_done_while_nobody_asks() {
        let worker = Worker::start("clock", Path::new(""), Clock(0)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while worker.ask(|clock| Ok(clock.0)).await.unwrap() < 3 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(
            matches!(worker.close(), Err(StoreError::Closed)),
            "finish was called"
        );
        assert!(matches!(
            worker.ask(|_| Ok(())).await,
            Err(StoreError::Closed)
        ));
    }
}
