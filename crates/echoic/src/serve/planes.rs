//! The runtimes of a serving process: the data plane (one `current_thread` runtime per worker) and the control plane.
//!
//! tokio's multi-threaded scheduler starves connections once more than 256 are runnable (p99 of 100 ms against 14 ms at
//! 1,000 busy connections on one core), so each worker has a runtime of its own. The recorder, signals, timers and
//! spawned handlers run on the control plane, where waiting does not delay connections.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::mpsc::sync_channel,
    thread::{self, JoinHandle},
    time::Duration,
};

use echoic_server::keep_polling;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::watch,
};

/// The runtimes and threads of a serving process. The store has threads of its own.
pub(super) struct Planes {
    /// The control plane: recorder, signals, spawned handlers, timers.
    pub(super) control: Runtime,
    /// The data plane: the runtime of each worker.
    pub(super) workers: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<()>,
}

/// Worker threads of the control plane's runtime.
const CONTROL_THREADS: usize = 2;

impl Planes {
    /// Starts `workers` data-plane threads and the control plane. `busy_poll` is how long a worker polls for the next
    /// message before it sleeps.
    pub(super) fn start(workers: usize, busy_poll: Option<Duration>) -> io::Result<Self> {
        // tokio opens a socket pair for signals and panics if no file descriptor is left. If these three pairs can be
        // opened, enough are left.
        drop([
            UnixStream::pair()?,
            UnixStream::pair()?,
            UnixStream::pair()?,
        ]);
        // Panics if no thread can be started; `trace` turns that into an error message.
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
            let (started, has_started) = sync_channel(1);
            planes
                .threads
                .push(
                    thread::Builder::new()
                        .name(format!("worker-{i}"))
                        .spawn(move || {
                            let built = Builder::new_current_thread().enable_io().build();
                            let runtime = match built {
                                Ok(runtime) => {
                                    let _ = started.send(Ok(runtime.handle().clone()));
                                    runtime
                                }
                                Err(error) => {
                                    let _ = started.send(Err(error));
                                    return;
                                }
                            };
                            // Returns an error once the sender is dropped: the signal to stop.
                            let _ = runtime.block_on(stopped.changed());
                            // A name lookup (getaddrinfo(3)) cannot be cancelled: do not wait for one that still runs.
                            runtime.shutdown_background();
                        })?,
                );
            let handle = has_started.recv().map_err(io::Error::other)??;
            if let Some(duration) = busy_poll {
                handle.spawn(keep_polling(duration));
            }
            planes.workers.push(handle);
        }
        Ok(planes)
    }

    /// Stops the threads, once all conversations have ended.
    pub(super) fn stop(self) {
        drop(self.stop);
        // Workers first: the control plane holds their timers.
        for thread in self.threads {
            let _ = thread.join();
        }
        self.control.shutdown_background();
    }
}
