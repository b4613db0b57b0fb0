//! The database file: its real path, mode, lock and log. All platform-specific code of the store is here.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use echoic_core::store::{StoreError, StoreErrorKind};

use super::error::{foreign, system_error};

/// Returns the path of the file with symbolic links resolved, so that two processes with different links use one lock.
pub(super) fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// Refuses a file that has several names (hard links). Each name has a write-ahead log and a lock of its own, so that two
/// writers would damage the database (<https://sqlite.org/howtocorrupt.html>, 2.5).
#[cfg(unix)]
pub(super) fn check_single_name(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt;
    let names = fs::metadata(path).map_or(1, |file| file.nlink());
    if names <= 1 {
        return Ok(());
    }
    let what = format!("it has {names} names (hard links), and each would have a log of its own");
    Err(foreign(path, what))
}

#[cfg(not(unix))]
pub(super) fn check_single_name(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Returns `path` with `suffix` appended: the name of a file that belongs to it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Creates an empty file that only its owner can read, with any umask. SQLite gives the write-ahead log and its index the
/// mode of the database file.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    match private().write(true).create_new(true).open(path) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
            return Err(system_error(path, &why));
        }
        _ => {}
    }
    if let Some(parent) = path.parent() {
        sync_directory(parent).map_err(|why| system_error(path, &why))?;
    }
    Ok(())
}

/// Removes a database that the caller has locked, with all files that belong to it.
pub(super) fn remove(path: &Path, _lock: &Lock) -> Result<(), StoreError> {
    for path in [
        beside(path, "-wal"),
        beside(path, "-shm"),
        path.to_owned(),
        beside(path, "-lock"),
    ] {
        match fs::remove_file(&path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                return Err(system_error(&path, &why));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An exclusive lock for writing the database, until it is dropped or the process dies.
///
/// It locks a separate file. A lock on the database itself would not work: closing any handle of a file releases all locks
/// that SQLite has on it (POSIX, fcntl(2)).
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Acquires the lock, or returns the holder as the error.
    pub(super) fn acquire(path: &Path) -> Result<Self, StoreError> {
        let beside = beside(path, "-lock");
        let failed = |why| system_error(path, &why);
        let mut file = private()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&beside)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held_error(path, file)),
            Err(TryLockError::Error(why)) => return Err(failed(why)),
        }
        // The previous holder may have removed the lock file with its database: then the path has a new lock file.
        if !is_at(&file, &beside).map_err(failed)? {
            return Self::acquire(path);
        }
        // Only now: until it is locked, the file holds the pid of the holder.
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        // On a full disk the lock still holds, but without a pid.
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self(file))
    }

    /// Returns the error that names the holder, if the lock is held. Creates no file, since the file at `path` may belong
    /// to another program.
    pub(super) fn holder(path: &Path) -> Option<StoreError> {
        let file = File::open(beside(path, "-lock")).ok()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Some(held_error(path, file)),
            _ => None,
        }
    }
}

fn held_error(path: &Path, lock: File) -> StoreError {
    let mut holder = String::new();
    let read = lock.take(20).read_to_string(&mut holder);
    let pid = read.ok().and_then(|_| holder.trim().parse().ok());
    StoreError::new(path, StoreErrorKind::Held { pid })
}

impl Lock {
    /// Whether the lock file of `path` is the one that is locked.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        is_at(&self.0, &beside(path, "-lock")).unwrap_or(true)
    }
}

impl Drop for Lock {
    /// Unlocks explicitly. Closing the file would not be enough: a child process has a copy of the handle until it calls
    /// exec.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Rewrites the log with its own content and syncs it. After a failed sync the system may have dropped dirty pages, which
/// it serves from memory as if they were on disk and never writes again. No other process may write to the log meanwhile.
pub(super) fn rewrite_log(path: &Path) -> io::Result<()> {
    let log = OpenOptions::new()
        .read(true)
        .write(true)
        .open(beside(path, "-wal"))?;
    let mut buffer = vec![0; REWRITE_BYTES];
    let mut at = 0;
    loop {
        let read = read_at(&log, &mut buffer, at)?;
        if read == 0 {
            return log.sync_data();
        }
        write_at(&log, &buffer[..read], at)?;
        at += read as u64;
    }
}

/// Bytes of the log rewritten at a time.
const REWRITE_BYTES: usize = 1 << 20;

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, at)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek(io::SeekFrom::Start(at))?;
    file.read(bytes)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.seek(io::SeekFrom::Start(at))?;
    file.write_all(bytes)
}

/// Writes a file beside the database and removes it. Returns the error, if there is one: SQLite keeps the error of the
/// system to itself, and says "disk I/O error" for all but ENOSPC.
pub(super) fn probe_error(path: &Path) -> Option<io::Error> {
    let probe = beside(path, "-probe");
    let written = private()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&probe)
        .and_then(|file| write_at(&file, &vec![0; PROBE_BYTES], 0));
    let _ = fs::remove_file(&probe);
    written.err()
}

/// Bytes of the file that shows why a write failed: more than the rest of a block.
const PROBE_BYTES: usize = 32 << 10;

/// Returns the size of the write-ahead log in bytes.
pub(super) fn log_bytes(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len())
}

/// Whether `path` still names this file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    Ok(FileId::at(path)? == Some(FileId::of(&file.metadata()?)))
}

/// Identity of a file: its device and inode. No other file has it while this one is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(file: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(file.dev(), file.ino())
    }

    #[cfg(not(unix))]
    fn of(_: &fs::Metadata) -> Self {
        Self(0, 0)
    }

    /// Returns the identity of the file at `path`, if there is one.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(there) => Ok(Some(Self::of(&there))),
            Err(why)
                if matches!(
                    why.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }

    /// Returns the present path of a file that this process has open, by way of its descriptors (proc(5)); none if no path
    /// names it any more. Opens no file, since closing it would release the locks of SQLite (fcntl(2)).
    #[cfg(target_os = "linux")]
    pub(super) fn path(self) -> Option<PathBuf> {
        use std::os::unix::fs::MetadataExt;
        let open = fs::read_dir("/proc/self/fd").ok()?;
        let ours = open.filter_map(Result::ok).find(|entry| {
            let file = fs::metadata(entry.path());
            file.is_ok_and(|file| Self::of(&file) == self && file.nlink() > 0)
        })?;
        fs::read_link(ours.path()).ok()
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn path(self) -> Option<PathBuf> {
        None
    }
}

/// Removes the write-ahead log and its index that a database left behind when it was renamed or removed: a new database
/// must not find them. If another file has taken its place they may belong to that one, and stay.
pub(super) fn remove_left_log(path: &Path) -> io::Result<()> {
    if FileId::at(path)?.is_some() {
        return Ok(());
    }
    for suffix in ["-wal", "-shm"] {
        match fs::remove_file(beside(path, suffix)) {
            Err(why) if FileId::at(&beside(path, suffix))?.is_some() => return Err(why),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Returns options that create a file which only its owner may read and write.
#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = OpenOptions::new();
    options.mode(fs::Permissions::from_mode(0o600).mode());
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
}

/// Syncs a directory: the name of a new file is on disk once its directory is (fsync(2)).
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
