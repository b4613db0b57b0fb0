//! The two planes: workers for the wire, a small runtime for everything else.
//!
//! The wire gets runtimes of one thread each, one a core: tokio's multi-threaded scheduler lets connections starve
//! past 256 that are runnable at once (p99 of 100 ms against 14 at 1,000 busy connections on one core). The store,
//! signals and services that run apart live on the control plane, where they can wait without anybody noticing.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::mpsc::sync_channel,
    thread::{self, JoinHandle},
    time::Duration,
};

use echoic_server::keep_looking;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::watch,
};

/// All threads of a serving process but the store's.
pub(super) struct Planes {
    /// Store, signals, services apart, deadlines.
    pub(super) control: Runtime,
    /// The wire.
    pub(super) workers: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<()>,
}

/// Threads of the control plane.
const CONTROL_THREADS: usize = 2;

impl Planes {
    /// `busy_poll` is how long a worker looks for the next message before it sleeps.
    pub(super) fn start(workers: usize, busy_poll: Option<Duration>) -> io::Result<Self> {
        // For signals tokio makes itself such a pair, after some files for itself, and panics where there are no files
        // left for it. As many as that are there, if these are.
        drop([
            UnixStream::pair()?,
            UnixStream::pair()?,
            UnixStream::pair()?,
        ]);
        // Where there are no threads for it, it panics; what becomes of that is in `trace`.
        let control = Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(());
        let mut planes = Self {
            control,
            workers: Vec::new(),
            threads: Vec::new(),
            stop,
        };
        for i in 0..workers {
            let mut stopped = stopped.clone();
            let (tell, hear) = sync_channel(1);
            planes
                .threads
                .push(
                    thread::Builder::new()
                        .name(format!("worker-{i}"))
                        .spawn(move || {
                            let built = Builder::new_current_thread().enable_io().build();
                            let runtime = match built {
                                Ok(runtime) => {
                                    let _ = tell.send(Ok(runtime.handle().clone()));
                                    runtime
                                }
                                Err(error) => {
                                    let _ = tell.send(Err(error));
                                    return;
                                }
                            };
                            // Ends with an error once the sender is dropped, and that is the signal.
                            let _ = runtime.block_on(stopped.changed());
                        })?,
                );
            let handle = hear.recv().map_err(io::Error::other)??;
            if let Some(patience) = busy_poll {
                handle.spawn(keep_looking(patience));
            }
            planes.workers.push(handle);
        }
        Ok(planes)
    }

    /// Ends the threads. By now nothing of consequence runs on them.
    pub(super) fn stop(self) {
        drop(self.stop);
        // First those whose deadlines the control plane watches.
        for thread in self.threads {
            let _ = thread.join();
        }
        self.control.shutdown_background();
    }
}
