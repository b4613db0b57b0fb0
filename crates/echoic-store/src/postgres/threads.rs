//! The threads that drive a store: its connections, and its operations.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    thread,
};

use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// Threads beside the one that starts the operations: one can append while another one decodes what a search has found.
const WORKERS: usize = 2;

/// Maximum of operations that wait to be started. They are started at once, so that a full queue lasts for microseconds.
const QUEUED_MAX: usize = 64;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Threads of a store. They end when the store was dropped and the operations that were begun are done.
pub(super) struct Threads(Mutex<Option<mpsc::Sender<Job>>>);

impl Threads {
    /// Starts the threads.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("echoic-store")
            .enable_all()
            .build()?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUED_MAX);
        let run = async move {
            let mut running = JoinSet::new();
            loop {
                tokio::select! {
                    job = queue.recv() => match job {
                        Some(job) => drop(running.spawn(job)),
                        None => break,
                    },
                    Some(_) = running.join_next() => {}
                }
            }
            while running.join_next().await.is_some() {}
        };
        // The thread owns the runtime: a runtime must not be dropped by a task, which the store may be.
        thread::Builder::new()
            .name("echoic-store".to_owned())
            .spawn(move || runtime.block_on(run))?;
        Ok(Self(Mutex::new(Some(jobs))))
    }

    /// Runs `job` to its end, also if the returned future is dropped. `None` if the threads were stopped or it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let job = async move { drop(done.send(job.await)) };
        self.spawn(Box::pin(job)).await?;
        result.await.ok()
    }

    /// Runs `job`. Dropping the returned future ends it.
    pub(super) async fn run_while_wanted<T: Send + 'static>(
        &self,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (mut done, result) = oneshot::channel();
        let job = async move {
            let found = tokio::select! {
                found = job => found,
                () = done.closed() => return,
            };
            let _ = done.send(found);
        };
        self.spawn(Box::pin(job)).await?;
        result.await.ok()
    }

    /// Runs `job`, and blocks the calling thread until it is done. It must not be called by a task of the store.
    pub(super) fn block_on<T: Send + 'static>(
        &self,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        // A channel of the standard library: the caller may be within a runtime, where those of tokio refuse to block.
        let (done, result) = std::sync::mpsc::sync_channel(1);
        let job = async move { drop(done.send(job.await)) };
        let jobs = self.jobs()?;
        jobs.try_send(Box::pin(job)).ok()?;
        result.recv().ok()
    }

    /// Starts `job`, which is to end by itself when the store is closed. Returns false if it cannot be started.
    pub(super) fn start_job(&self, job: impl Future<Output = ()> + Send + 'static) -> bool {
        let job: Job = Box::pin(job);
        self.jobs().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    async fn spawn(&self, job: Job) -> Option<()> {
        let jobs = self.jobs()?;
        jobs.send(job).await.ok()
    }

    fn jobs(&self) -> Option<mpsc::Sender<Job>> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.clone()
    }

    /// Lets the threads end when the operations that were begun are done.
    pub(super) fn stop(&self) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *jobs = None;
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}
