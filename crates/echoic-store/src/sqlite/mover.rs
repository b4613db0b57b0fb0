//! Who waits for the disk while the writer goes on: syncs the log, and copies it into the record.
//!
//! A commit under `normal` and `off` is a few writes to the end of the log, and done when the system has them: no death
//! of the process takes them back. A sync is for the loss of power, and takes what the disk takes, at worst half a
//! second. Were it the writer's, nothing would be kept meanwhile, and a death of the process would take all that was
//! answered in that time. So the writer only asks for it.
//!
//! Copying the log is a sync of the log, a copy of its pages, and a sync of the record: two waits for the disk, and half
//! of all the work of recording. SQLite lets another connection do it (WAL allows one that copies beside one that
//! writes); only, the log begins again at its start when all of it is copied, and under load it never is, since more has
//! come meanwhile. So when the log is long, passes follow each other until little is left, and that the writer copies
//! itself. These are the only syncs that a commit of `normal` waits for, and the one by which SQLite begins the log
//! again.
//!
//! One thing after the other is asked of the thread, and nothing after a failure: what a failed sync has lost of the log
//! must not be copied, since nothing could repair the record if the power went amid that.

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

use super::{connection, file, problem::sync_failed};

/// How long a commit under `normal` may wait for its sync to begin. The promise is a second, of which the reply has
/// waited a twentieth for its commit and the sync takes the rest; one that comes right after a sync has begun waits for
/// that as well. So the second holds on a disk that syncs within 450 ms.
const UNSYNCED: Duration = Duration::from_millis(500);

/// How soon it is noticed in the quiet what came of a sync.
const NOTICED: Duration = Duration::from_millis(100);

/// What has come to the log since the last pass and is worth another one, in pages: 8 MiB.
const PASS_PAGES: u32 = (8 << 20) / connection::PAGE_BYTES;

/// A log this long shall begin again, in pages: 32 MiB.
const LOG_PAGES: u32 = connection::LOG_BYTES / connection::PAGE_BYTES;

/// One of this length has to, and the writer waits for it: a disk slower than the peers must not fill itself with log.
/// 64 MiB.
const LOG_PAGES_MAX: u32 = connection::LOG_BYTES_MAX / connection::PAGE_BYTES;

/// So little the writer copies itself, in pages: 2 MiB, a few milliseconds.
const SHORT_PAGES: u32 = (2 << 20) / connection::PAGE_BYTES;

/// A thread with a connection of its own, once there is something to do.
pub(super) struct Mover {
    path: PathBuf,
    /// The log, to sync it. Only ever opened while a connection is, so that it is the file that one writes.
    ///
    /// Closing a handle of a file gives up all locks of this process on that file (fcntl(2)), and SQLite lives by its
    /// locks. They are on the record and on the index of the log; on the log itself it has none, whatever it does. So
    /// this file may be opened and closed at will, and the record must never be.
    log: Option<Arc<File>>,
    running: Option<Running>,
    /// How many pages of the log are in the record.
    moved: u32,
    /// When the first commit was made that no sync covers that has begun, if one is promised.
    unsynced: Option<Instant>,
}

struct Running {
    ask: SyncSender<Task>,
    done: Receiver<rusqlite::Result<Option<u32>>>,
    busy: bool,
    thread: JoinHandle<()>,
}

/// What the thread is asked for. Both make safe what was committed before.
#[derive(Clone, Copy)]
enum Task {
    Sync,
    SyncAndCopy,
}

impl Mover {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            log: None,
            running: None,
            moved: 0,
            unsynced: None,
        }
    }

    /// Begins anew, beside a connection that was just opened and owes no sync.
    pub(super) fn begin(&mut self) -> std::io::Result<()> {
        self.log = Some(Arc::new(File::open(file::beside(&self.path, "-wal"))?));
        self.moved = 0;
        self.unsynced = None;
        Ok(())
    }

    /// A commit was made that is to be synced.
    pub(super) fn owes(&mut self) {
        self.unsynced.get_or_insert_with(Instant::now);
    }

    /// What is owed could not be done now; it is due again in a while.
    pub(super) fn owes_again(&mut self) {
        self.unsynced = Some(Instant::now());
    }

    /// When [`Self::look`] is to be called if nothing is committed before.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.running {
            Some(running) if running.busy => Some(Instant::now() + NOTICED),
            _ => self.unsynced.map(|since| since + UNSYNCED),
        }
    }

    /// To be called after each commit, with the connection that made it and the length the log has now. An error is
    /// that of a sync or a pass that was asked for before: what it was to save is still in the log.
    pub(super) fn look(&mut self, writer: &Connection, log_pages: u32) -> rusqlite::Result<()> {
        if log_pages < self.moved {
            self.moved = 0; // it has begun again
        }
        let must = log_pages >= LOG_PAGES_MAX;
        if self.is_busy(must)? {
            return Ok(());
        }
        let left = log_pages.saturating_sub(self.moved);
        if must || (log_pages >= LOG_PAGES && left <= SHORT_PAGES) {
            self.moved = connection::copy_log(writer)?.pages;
            Ok(())
        } else if left >= PASS_PAGES || log_pages >= LOG_PAGES {
            self.ask(Task::SyncAndCopy)
        } else if self
            .unsynced
            .is_some_and(|since| since.elapsed() >= UNSYNCED)
        {
            self.ask(Task::Sync)
        } else {
            Ok(())
        }
    }

    /// Waits for what is going on; says what came of it.
    pub(super) fn wait(&mut self) -> rusqlite::Result<()> {
        self.is_busy(true).map(drop)
    }

    /// Whether something is going on; if it is over, this takes note of what came of it. May wait for its end.
    fn is_busy(&mut self, wait: bool) -> rusqlite::Result<bool> {
        let Some(running) = self.running.as_mut().filter(|running| running.busy) else {
            return Ok(false);
        };
        let done = match running.done.try_recv() {
            Err(TryRecvError::Empty) if !wait => return Ok(true),
            Err(TryRecvError::Empty) => running.done.recv().ok(),
            done => done.ok(),
        };
        running.busy = false;
        match done {
            Some(done) => self.note(done)?,
            // Its thread is gone, and what it was to sync is still owed; another will be started.
            None => {
                self.running = None;
                self.owes();
            }
        }
        Ok(false)
    }

    fn note(&mut self, done: rusqlite::Result<Option<u32>>) -> rusqlite::Result<()> {
        match done {
            Ok(moved) => self.moved = moved.unwrap_or(self.moved),
            Err(why) => {
                self.owes_again();
                return Err(why);
            }
        }
        Ok(())
    }

    fn ask(&mut self, task: Task) -> rusqlite::Result<()> {
        let Some(log) = &self.log else {
            return Ok(());
        };
        self.unsynced = None;
        if self.running.is_none() {
            self.running = start(&self.path, log).ok();
        }
        match &mut self.running {
            Some(running) if running.ask.try_send(task).is_ok() => {
                running.busy = true;
                Ok(())
            }
            // Without a thread the log grows until the writer copies it; what is promised is kept.
            _ => {
                let done = sync(log).map(|()| None);
                self.note(done)
            }
        }
    }

    /// Waits for what is going on, and gives up its connection. The error of it, if it had one.
    pub(super) fn stop(&mut self) -> rusqlite::Result<()> {
        let passed = self.wait();
        if let Some(Running { ask, thread, .. }) = self.running.take() {
            drop(ask);
            let _ = thread.join();
        }
        self.log = None;
        self.moved = 0;
        passed
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn start(path: &Path, log: &Arc<File>) -> std::io::Result<Running> {
    let (ask, asked) = sync_channel::<Task>(1);
    let (tell, done) = sync_channel(1);
    let (path, log) = (path.to_owned(), Arc::clone(log));
    let thread = thread::Builder::new()
        .name("echoic-mover".to_owned())
        .spawn(move || {
            let mut open: Option<Connection> = None;
            while let Ok(task) = asked.recv() {
                let done = go(task, &path, &log, &mut open);
                if tell.send(done).is_err() {
                    return;
                }
            }
        })?;
    Ok(Running {
        ask,
        done,
        busy: false,
        thread,
    })
}

fn go(
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
                None => open.insert(connection::to_move(path)?),
            };
            let copied = connection::copy_log(connection)?;
            // SQLite has synced the log before it copied it, unless readers left it nothing to copy.
            if copied.pages < copied.of {
                sync(log)?;
            }
            Ok(Some(copied.pages))
        }
    }
}

/// Brings to the disk what was written to the log before this was called, by whichever handle (fsync(2)). Frames that
/// are written meanwhile may be there in part; SQLite finds by their checksums where the log ends.
fn sync(log: &File) -> rusqlite::Result<()> {
    log.sync_data().map_err(|why| sync_failed(&why))
}
