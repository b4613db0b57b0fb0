//! A thread that owns something and does one thing after the other with it.

use std::{
    convert::Infallible,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use echoic_core::store::{StoreError, StoreErrorKind, StoreLocation};
use flume::{Receiver, RecvTimeoutError, Sender, bounded};

use super::problem::failed;

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
    location: StoreLocation,
    /// None once it was closed. The thread ends when all senders are gone and what they have sent is done.
    jobs: Mutex<Option<Sender<Job<W>>>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<Infallible>,
    /// What came of [`Work::finish`].
    finished: Arc<OnceLock<Result<(), StoreError>>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Work> Worker<W> {
    /// Starts the thread.
    pub(super) fn start(name: &str, path: &Path, work: W) -> Result<Self, StoreError> {
        let (jobs, queue) = bounded(WAITING_MAX);
        let (ending, ended) = bounded(0);
        let finished = Arc::new(OnceLock::new());
        let result = Arc::clone(&finished);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Dropped last, and by a panic too.
            let _ending: Sender<Infallible> = ending;
            let _ = result.set(run(work, &queue));
        });
        Ok(Self {
            location: path.into(),
            jobs: Mutex::new(Some(jobs)),
            ended,
            finished,
            thread: Some(thread.map_err(|why| failed(path, why.to_string()))?),
        })
    }

    /// Has `job` done when its turn comes, and waits for what comes of it.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut W) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let jobs = self.jobs().clone().ok_or_else(|| self.closed())?;
        let (answer, answered) = bounded(1);
        let job: Job<W> = Box::new(move |work| {
            // Whoever asked may have gone away.
            let _ = answer.try_send(job(work));
        });
        jobs.send_async(job).await.map_err(|_| self.closed())?;
        drop(jobs);
        answered.recv_async().await.map_err(|_| self.closed())?
    }

    /// Takes no more questions, waits until those asked are answered and things are in order. The thread goes on with
    /// that when nobody waits for it any more.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        drop(self.jobs().take());
        let _ = self.ended.recv_async().await;
        // Without a result it has panicked.
        let finished = self.finished.get().cloned();
        finished.unwrap_or_else(|| Err(self.closed()))
    }

    /// An error if it was closed.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        self.jobs().as_ref().map(drop).ok_or_else(|| self.closed())
    }

    fn closed(&self) -> StoreError {
        StoreError::new(self.location.clone(), StoreErrorKind::Closed)
    }
}

impl<W> Worker<W> {
    fn jobs(&self) -> MutexGuard<'_, Option<Sender<Job<W>>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> Drop for Worker<W> {
    /// Waits for the thread, unless it was closed before: then either it has ended, or its caller gave up waiting.
    fn drop(&mut self) {
        let is_open = self.jobs().take().is_some();
        if let Some(thread) = self.thread.take().filter(|_| is_open) {
            let _ = thread.join();
        }
    }
}

impl<W> fmt::Debug for Worker<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

fn run<W: Work>(mut work: W, queue: &Receiver<Job<W>>) -> Result<(), StoreError> {
    loop {
        let next = match work.due() {
            Some(due) => queue.recv_deadline(due),
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(job) => job(&mut work),
            Err(RecvTimeoutError::Timeout) => work.overdue(),
            Err(RecvTimeoutError::Disconnected) => return work.finish(),
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
            Err(failed(Path::new("clock"), "finished"))
        }
    }

    #[tokio::test]
    async fn scheduled_work_runs_without_requests() {
        let worker = Worker::start("clock", Path::new(""), Clock(0)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while worker.ask(|clock| Ok(clock.0)).await.unwrap() < 3 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for _ in 0..2 {
            let finished = worker.close().await.unwrap_err();
            assert_eq!(finished, failed(Path::new("clock"), "finished"));
        }
        let closed = worker.ask(|_| Ok(())).await.unwrap_err();
        assert_eq!(closed.kind, StoreErrorKind::Closed);
    }

    #[tokio::test]
    async fn dropping_a_worker_whose_close_was_given_up_does_not_wait() {
        let worker = Worker::start("clock", Path::new(""), Clock(3)).unwrap();
        let (go, going) = bounded::<()>(1);
        let mut stuck = Box::pin(worker.ask(move |_| {
            let _ = going.recv();
            Ok(())
        }));
        let soon = Duration::from_millis(20);
        assert!(
            tokio::time::timeout(soon, &mut stuck).await.is_err(),
            "it has begun"
        );
        assert!(tokio::time::timeout(soon, worker.close()).await.is_err());
        drop(stuck);
        let finished = Arc::clone(&worker.finished);
        drop(worker);
        assert!(finished.get().is_none(), "it is still at work");
        drop(go);
        let deadline = Instant::now() + Duration::from_secs(10);
        while finished.get().is_none() {
            assert!(Instant::now() < deadline, "it ends all the same");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
