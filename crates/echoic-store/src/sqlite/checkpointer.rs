//! The checkpointer: a thread that syncs the write-ahead log and checkpoints it, while the writer goes on.
//!
//! A commit under `normal` and `off` is a few writes to the end of the log, complete once the system has them: it survives
//! the death of the process. A sync protects against power loss, and can take half a second. If the writer synced, it
//! could commit nothing meanwhile, and the death of the process would lose all exchanges of that time. So the writer only
//! requests the sync.
//!
//! A checkpoint is a sync of the log, a copy of its pages, and a sync of the database: two waits for the disk, and half of
//! the work of recording. In WAL mode another connection can checkpoint while one writes. But the log restarts from its
//! beginning only when all of it is copied, which never happens under load, since new pages arrive meanwhile. So when the
//! log is long, passes follow each other until little is left, and the writer copies the rest itself. These syncs, and the
//! one with which SQLite restarts the log, are the only ones that a commit of `normal` waits for.
//!
//! The thread does one task at a time, and none after a failure: pages of the log that a failed sync has lost must not be
//! copied, since nothing could repair the database if the power failed during the copy.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{connection, error::sync_failed, file};

/// Maximum time from a commit under `normal` to the start of its sync. `normal` promises a sync within a second. 50 ms of
/// it go to the commit interval and the rest to the sync; a commit right after the start of a sync waits for that one
/// too. So the promise holds on a disk that syncs within 450 ms.
const SYNC_DELAY_MAX: Duration = Duration::from_millis(500);

/// Interval at which the result of a sync is polled while there are no appends.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Growth of the log since the last pass that starts another pass, in pages: 8 MiB.
const PASS_PAGES: u32 = (8 << 20) / connection::PAGE_BYTES;

/// Maximum that the writer copies itself, in pages: 2 MiB, a few milliseconds.
const SHORT_PAGES: u32 = (2 << 20) / connection::PAGE_BYTES;

/// Syncs and checkpoints the log on a thread with its own connection, which starts with the first task.
pub(super) struct Checkpointer {
    path: PathBuf,
    /// The log, to sync it. Opened only while a connection is open, so that it is the file that the connection writes.
    ///
    /// Closing a handle of a file releases all locks of this process on that file (fcntl(2)), including those of SQLite.
    /// SQLite locks the database and the index of the log, but never the log itself. So the log may be opened and closed
    /// at any time, but the database must not.
    log: Option<Arc<File>>,
    running: Option<Running>,
    /// Length at which the log should restart, in pages. At twice that it must, and the writer waits for it: otherwise the log
    /// could fill a disk slower than the peers.
    restart_pages: u32,
    /// Number of pages of the log that are in the database.
    copied: u32,
    /// Time of the first commit that still needs a sync.
    unsynced_since: Option<Instant>,
}

struct Running {
    tasks: SyncSender<Task>,
    results: Receiver<rusqlite::Result<Option<u32>>>,
    busy: bool,
    thread: JoinHandle<()>,
}

/// A task of the thread. Both make earlier commits durable.
#[derive(Clone, Copy)]
enum Task {
    Sync,
    SyncAndCopy,
}

impl Checkpointer {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            log: None,
            running: None,
            restart_pages: connection::LOG_BYTES / connection::PAGE_BYTES,
            copied: 0,
            unsynced_since: None,
        }
    }

    /// Starts over for a connection that was just opened and needs no sync.
    pub(super) fn reset(&mut self) -> std::io::Result<()> {
        self.log = Some(Arc::new(File::open(file::beside(&self.path, "-wal"))?));
        self.copied = 0;
        self.unsynced_since = None;
        Ok(())
    }

    /// Sets the length in bytes at which the log should restart.
    pub(super) fn limit_log(&mut self, bytes: u32) {
        self.restart_pages = bytes / connection::PAGE_BYTES;
    }

    /// Notes that a commit needs a sync.
    pub(super) fn request_sync(&mut self) {
        self.unsynced_since.get_or_insert_with(Instant::now);
    }

    /// Notes that a sync failed, to repeat it after [`SYNC_DELAY_MAX`].
    pub(super) fn retry_sync(&mut self) {
        self.unsynced_since = Some(Instant::now());
    }

    /// Returns when [`Self::poll`] must be called if there is no commit before.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.running {
            Some(running) if running.busy => Some(Instant::now() + POLL_INTERVAL),
            _ => self.unsynced_since.map(|since| since + SYNC_DELAY_MAX),
        }
    }

    /// Starts the next task if one is due. To be called after each commit, with the connection that made it and the length
    /// of the log. An error is the result of an earlier task; the data it concerns is still in the log.
    pub(super) fn poll(&mut self, writer: &Connection, log_pages: u32) -> rusqlite::Result<()> {
        if log_pages < self.copied {
            self.copied = 0; // the log has restarted
        }
        let must = log_pages >= 2 * self.restart_pages;
        if self.is_busy(must)? {
            return Ok(());
        }
        let left = log_pages.saturating_sub(self.copied);
        if must || (log_pages >= self.restart_pages && left <= SHORT_PAGES) {
            self.copied = connection::checkpoint_passive(writer)?.copied;
            Ok(())
        } else if left >= PASS_PAGES || log_pages >= self.restart_pages {
            self.start_task(Task::SyncAndCopy)
        } else if self
            .unsynced_since
            .is_some_and(|since| since.elapsed() >= SYNC_DELAY_MAX)
        {
            self.start_task(Task::Sync)
        } else {
            Ok(())
        }
    }

    /// Waits for the current task and returns its result.
    pub(super) fn wait(&mut self) -> rusqlite::Result<()> {
        self.is_busy(true).map(drop)
    }

    /// Whether a task is running, after it waited for its end if `wait` is set. Processes the result of a finished task.
    fn is_busy(&mut self, wait: bool) -> rusqlite::Result<bool> {
        let Some(running) = self.running.as_mut().filter(|running| running.busy) else {
            return Ok(false);
        };
        let done = match running.results.try_recv() {
            Err(TryRecvError::Empty) if !wait => return Ok(true),
            Err(TryRecvError::Empty) => running.results.recv().ok(),
            done => done.ok(),
        };
        running.busy = false;
        match done {
            Some(done) => self.process(done)?,
            // The thread has panicked: its sync is still needed, and the next task starts a new thread.
            None => {
                self.running = None;
                self.request_sync();
            }
        }
        Ok(false)
    }

    fn process(&mut self, done: rusqlite::Result<Option<u32>>) -> rusqlite::Result<()> {
        match done {
            Ok(copied) => self.copied = copied.unwrap_or(self.copied),
            Err(why) => {
                self.retry_sync();
                return Err(why);
            }
        }
        Ok(())
    }

    fn start_task(&mut self, task: Task) -> rusqlite::Result<()> {
        let Some(log) = &self.log else {
            return Ok(());
        };
        self.unsynced_since = None;
        if self.running.is_none() {
            self.running = start(&self.path, log).ok();
        }
        match &mut self.running {
            Some(running) if running.tasks.try_send(task).is_ok() => {
                running.busy = true;
                Ok(())
            }
            // Without a thread the writer syncs here, and the log grows until the writer checkpoints it.
            _ => {
                let done = sync(log).map(|()| None);
                self.process(done)
            }
        }
    }

    /// Waits for the current task, ends the thread with its connection, and returns the result of the task.
    pub(super) fn stop(&mut self) -> rusqlite::Result<()> {
        let last = self.wait();
        if let Some(Running { tasks, thread, .. }) = self.running.take() {
            drop(tasks);
            let _ = thread.join();
        }
        self.log = None;
        self.copied = 0;
        last
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn start(path: &Path, log: &Arc<File>) -> std::io::Result<Running> {
    let (tasks, queue) = sync_channel::<Task>(1);
    let (sender, results) = sync_channel(1);
    let (path, log) = (path.to_owned(), Arc::clone(log));
    let thread = thread::Builder::new()
        .name("echoic-wal".to_owned())
        .spawn(move || {
            let mut open: Option<Connection> = None;
            while let Ok(task) = queue.recv() {
                let done = run(task, &path, &log, &mut open);
                if sender.send(done).is_err() {
                    return;
                }
            }
        })?;
    Ok(Running {
        tasks,
        results,
        busy: false,
        thread,
    })
}

fn run(
    task: Task,
    path: &Path,
    log: &File,
    open: &mut Option<Connection>,
) -> rusqlite::Result<Option<u32>> {
    match task {
        Task::Sync => sync(log).map(|()| None),
        Task::SyncAndCopy => {
            let connection = match open {
                Some(connection) => connection,
                None => open.insert(connection::open_to_checkpoint(path)?),
            };
            let checkpoint = connection::checkpoint_passive(connection)?;
            // SQLite has synced the log before the copy, unless readers prevented it from copying all.
            if checkpoint.copied < checkpoint.log {
                sync(log)?;
            }
            Ok(Some(checkpoint.copied))
        }
    }
}

/// Syncs all earlier writes to the log, by any handle (fsync(2)). Concurrent frames may be written in part; SQLite finds
/// the end of the log by their checksums.
fn sync(log: &File) -> rusqlite::Result<()> {
    log.sync_data().map_err(|why| sync_failed(&why))
}
