//! A thread that owns a value and runs jobs on it, one after the other.

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

use super::error::failed;

/// Maximum of queued jobs. With a full queue the caller waits.
const QUEUED_MAX: usize = 16;

/// The value that a [`Worker`] owns.
pub(super) trait Work: Send + 'static {
    /// Returns when [`Work::overdue`] must be called if there is no job before.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Does the scheduled work.
    fn overdue(&mut self) {}

    /// Closes the value.
    fn finish(self) -> Result<(), StoreError>;
}

type Job<W> = Box<dyn FnOnce(&mut W) + Send>;

/// A thread that owns a `W`.
pub(super) struct Worker<W> {
    location: StoreLocation,
    /// `None` once closed. The thread ends when all senders are dropped and the queued jobs are done.
    jobs: Mutex<Option<Sender<Job<W>>>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<Infallible>,
    /// Result of [`Work::finish`].
    finished: Arc<OnceLock<Result<(), StoreError>>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Work> Worker<W> {
    /// Starts the thread.
    pub(super) fn start(name: &str, path: &Path, work: W) -> Result<Self, StoreError> {
        let (jobs, queue) = bounded(QUEUED_MAX);
        let (ending, ended) = bounded(0);
        let finished = Arc::new(OnceLock::new());
        let result = Arc::clone(&finished);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Dropped last, also after a panic.
            let _ending: Sender<Infallible> = ending;
            let _ = result.set(run_jobs(work, &queue));
        });
        Ok(Self {
            location: path.into(),
            jobs: Mutex::new(Some(jobs)),
            ended,
            finished,
            thread: Some(thread.map_err(|why| failed(path, why.to_string()))?),
        })
    }

    /// Queues a job and waits for its result.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut W) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let jobs = self.jobs().clone().ok_or_else(|| self.closed())?;
        let (sender, result) = bounded(1);
        let job: Job<W> = Box::new(move |work| {
            // The caller may have dropped its future.
            let _ = sender.try_send(job(work));
        });
        jobs.send_async(job).await.map_err(|_| self.closed())?;
        drop(jobs);
        result.recv_async().await.map_err(|_| self.closed())?
    }

    /// Accepts no more jobs, and waits until the queued ones are done and the value is closed. If the caller drops the
    /// future, the thread goes on with that.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        drop(self.jobs().take());
        let _ = self.ended.recv_async().await;
        // Without a result the thread has panicked.
        let finished = self.finished.get().cloned();
        finished.unwrap_or_else(|| Err(self.closed()))
    }

    /// Returns an error if the worker is closed.
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
    /// Waits for the thread, unless the worker was closed before: then the thread has ended, or the caller has given up.
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

fn run_jobs<W: Work>(mut work: W, queue: &Receiver<Job<W>>) -> Result<(), StoreError> {
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

    /// Counts calls of `overdue`.
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
        while worker.run(|clock| Ok(clock.0)).await.unwrap() < 3 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for _ in 0..2 {
            let finished = worker.close().await.unwrap_err();
            assert_eq!(finished, failed(Path::new("clock"), "finished"));
        }
        let closed = worker.run(|_| Ok(())).await.unwrap_err();
        assert_eq!(closed.kind, StoreErrorKind::Closed);
    }

    #[tokio::test]
    async fn dropping_a_worker_whose_close_was_given_up_does_not_wait() {
        let worker = Worker::start("clock", Path::new(""), Clock(3)).unwrap();
        let (release, released) = bounded::<()>(1);
        let mut stuck = Box::pin(worker.run(move |_| {
            let _ = released.recv();
            Ok(())
        }));
        let soon = Duration::from_millis(20);
        assert!(
            tokio::time::timeout(soon, &mut stuck).await.is_err(),
            "the job has begun"
        );
        assert!(tokio::time::timeout(soon, worker.close()).await.is_err());
        drop(stuck);
        let finished = Arc::clone(&worker.finished);
        drop(worker);
        assert!(finished.get().is_none(), "the thread is still running");
        drop(release);
        let deadline = Instant::now() + Duration::from_secs(10);
        while finished.get().is_none() {
            assert!(Instant::now() < deadline, "the thread does not end");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
