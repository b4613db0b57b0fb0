//! The file itself: where it truly is, who may read it, who holds it. All that is bound to a platform is here.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use echoic_core::store::{StoreError, StoreErrorKind};

use super::problem::system_problem;

/// The file that `path` leads to. Two serves that come by different links must meet at one lock.
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

/// `path` with `suffix` at its end: where SQLite and we put what belongs to it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes an empty file that only its owner can read, whatever the umask. SQLite gives the write-ahead log and its
/// index the mode of the file they belong to.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    match private().write(true).create_new(true).open(path) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
            return Err(system_problem(path, &why));
        }
        _ => {}
    }
    if let Some(parent) = path.parent() {
        sync_directory(parent).map_err(|why| system_problem(path, &why))?;
    }
    Ok(())
}

/// Takes away a record that `_lock` is held on, and all that lies beside it.
pub(super) fn remove(path: &Path, _lock: &Lock) -> Result<(), StoreError> {
    for path in [
        beside(path, "-wal"),
        beside(path, "-shm"),
        path.to_owned(),
        beside(path, "-lock"),
    ] {
        match fs::remove_file(&path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                return Err(system_problem(&path, &why));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The right to write a record, until it is dropped or its process dies, however that happens.
///
/// It lies on a file beside the record. On the record itself it could not: closing any handle of a file gives up
/// all locks SQLite has on it (POSIX, fcntl(2)).
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes it, or says who has it.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let beside = beside(path, "-lock");
        let failed = |why| system_problem(path, &why);
        let mut file = private()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&beside)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(path, file)),
            Err(TryLockError::Error(why)) => return Err(failed(why)),
        }
        // Whoever held it may have taken the file away with its record: then another lock counts.
        if !is_at(&file, &beside).map_err(failed)? {
            return Self::take(path);
        }
        // Only now: as long as another has it, its name stays in it.
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        // On a full disk the lock still holds; it only cannot say whose it is.
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self(file))
    }

    /// Who has it, if somebody has. Makes nothing, since the file at `path` may be a stranger's.
    pub(super) fn holder(path: &Path) -> Option<StoreError> {
        let file = File::open(beside(path, "-lock")).ok()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Some(held(path, file)),
            _ => None,
        }
    }
}

fn held(path: &Path, lock: File) -> StoreError {
    let mut holder = String::new();
    let read = lock.take(20).read_to_string(&mut holder);
    let pid = read.ok().and_then(|_| holder.trim().parse().ok());
    StoreError::new(path, StoreErrorKind::Held { pid })
}

impl Drop for Lock {
    /// Closing the file would not do: a process that is being started has a copy of it until it becomes another
    /// program.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Writes the log again as it is, and syncs it: after a sync that failed the system may have dropped what it could not
/// write, keeps it in memory as if it were on the disk, and will never write it by itself. Nobody else may write to the
/// log meanwhile.
pub(super) fn renew_log(path: &Path) -> io::Result<()> {
    let log = OpenOptions::new()
        .read(true)
        .write(true)
        .open(beside(path, "-wal"))?;
    let mut piece = vec![0; RENEWED_BYTES];
    let mut at = 0;
    loop {
        let read = read_at(&log, &mut piece, at)?;
        if read == 0 {
            return log.sync_data();
        }
        write_at(&log, &piece[..read], at)?;
        at += read as u64;
    }
}

/// How much of the log is written again at a time.
const RENEWED_BYTES: usize = 1 << 20;

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

/// Bytes in the write-ahead log.
pub(super) fn log_bytes(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len())
}

/// Whether this file is what the path leads to.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(why),
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// For a new file that only its owner may read and write.
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

/// A file's name is on the disk when its directory is (fsync(2)).
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
