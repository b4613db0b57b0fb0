//! Who copies the log into the record while the writer goes on.
//!
//! Such a pass syncs the log, copies its pages, and syncs the record: two waits for the disk, and half of all the work
//! of recording. Done by the writer, nothing is kept meanwhile. SQLite lets another connection do it (WAL allows one
//! that copies beside one that writes); only, the log begins again at its start when all of it is copied, and under
//! load it never is, since more has come meanwhile. So when the log is long, passes follow each other until little is
//! left, and that the writer copies itself.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, Error};

use super::connection;

/// What has come to the log since the last pass and is worth another one, in pages: 8 MiB.
const PASS_PAGES: u32 = (8 << 20) / connection::PAGE_BYTES;

/// A log this long shall begin again, in pages: 32 MiB.
const LOG_PAGES: u32 = connection::LOG_BYTES / connection::PAGE_BYTES;

/// One twice as long has to, and the writer waits for it: a disk slower than the peers must not fill itself with log.
const LOG_PAGES_MAX: u32 = 2 * LOG_PAGES;

/// So little the writer copies itself, in pages: 2 MiB, a few milliseconds.
const SHORT_PAGES: u32 = (2 << 20) / connection::PAGE_BYTES;

/// A thread with a connection of its own, once there is something to copy.
pub(super) struct Mover {
    path: PathBuf,
    running: Option<Running>,
    /// How many pages of the log are in the record.
    moved: u32,
}

struct Running {
    begin: SyncSender<()>,
    done: Receiver<rusqlite::Result<u32>>,
    busy: bool,
    thread: JoinHandle<()>,
}

impl Mover {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            running: None,
            moved: 0,
        }
    }

    /// To be called after each commit, with the connection that made it and the length the log has now. An error is
    /// that of a pass: what it was to save is still in the log.
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
            self.moved = connection::copy_log(writer)?;
            Ok(())
        } else {
            if left >= PASS_PAGES || log_pages >= LOG_PAGES {
                self.begin();
            }
            Ok(())
        }
    }

    /// Waits for a pass that is going on; says what came of it.
    pub(super) fn wait(&mut self) -> rusqlite::Result<()> {
        self.is_busy(true).map(drop)
    }

    /// Whether a pass is going on; if one is over, this takes note of what came of it. May wait for its end.
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
            Some(moved) => self.moved = moved?,
            None => self.running = None, // its thread is gone: another will be started
        }
        Ok(false)
    }

    fn begin(&mut self) {
        if self.running.is_none() {
            // Without a thread the log grows until the writer copies it.
            self.running = start(&self.path).ok();
        }
        if let Some(running) = &mut self.running {
            running.busy = running.begin.try_send(()).is_ok();
        }
    }

    /// Waits for a pass that is going on, and gives up its connection. The error of the pass, if it had one.
    pub(super) fn stop(&mut self) -> rusqlite::Result<()> {
        let passed = self.wait();
        if let Some(Running { begin, thread, .. }) = self.running.take() {
            drop(begin);
            let _ = thread.join();
        }
        self.moved = 0;
        passed
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn start(path: &Path) -> std::io::Result<Running> {
    let (begin, asked) = sync_channel::<()>(1);
    let (tell, done) = sync_channel(1);
    let path = path.to_owned();
    let thread = thread::Builder::new()
        .name("echoic-mover".to_owned())
        .spawn(move || {
            let mut open: Option<Connection> = None;
            while asked.recv().is_ok() {
                let moved = pass(&path, &mut open);
                if moved.is_err() {
                    open = None;
                }
                if tell.send(moved).is_err() {
                    return;
                }
            }
        })?;
    Ok(Running {
        begin,
        done,
        busy: false,
        thread,
    })
}

fn pass(path: &Path, open: &mut Option<Connection>) -> Result<u32, Error> {
    let connection = match open {
        Some(connection) => connection,
        None => open.insert(connection::to_move(path)?),
    };
    connection::copy_log(connection)
}
