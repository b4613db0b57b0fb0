//! Which store is meant by what was typed after `--store` and `--keep`.

use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use echoic_core::{
    size::{Bytes, Span},
    store::{Durability, Retention, Store, StoreError},
};
use echoic_store::{MemoryStore, SqliteReader, SqliteStore};

use crate::exit::Failed;

/// A store that has not been opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file of SQLite's.
    File(PathBuf),
    /// The memory of the process.
    Memory,
    /// Nowhere.
    None,
}

/// What `--store memory` may take, in bytes.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

impl Place {
    pub(crate) fn parse(text: &str) -> Result<Self, Failed> {
        match text {
            "" => Err(Failed::usage(
                "--store is empty; name a file, memory or none",
            )),
            "none" => Ok(Self::None),
            "memory" => Ok(Self::Memory),
            _ => match text.split_once("://") {
                Some((scheme, _)) => Err(Failed::usage(format!(
                    "--store {scheme}:// is not there yet; a file, memory or none is"
                ))),
                None => Ok(Self::File(
                    text.strip_prefix("sqlite:").unwrap_or(text).into(),
                )),
            },
        }
    }

    /// Opens it to be written by this process alone.
    pub(crate) fn open(&self, durability: Durability) -> Result<Opened, Failed> {
        let mut opened = Opened::default();
        match self {
            Self::File(path) => {
                let file = Arc::new(SqliteStore::open(path, durability)?);
                warn_of_folder(path);
                opened.file = Some(Arc::clone(&file));
                opened.store = Some(file);
            }
            Self::Memory => opened.store = Some(Arc::new(MemoryStore::new(MEMORY_BYTES_MAX))),
            Self::None => {}
        }
        Ok(opened)
    }

    /// Opens it to be read, also while a serve writes it.
    pub(crate) fn open_to_read(&self) -> Result<SqliteReader, Failed> {
        match self {
            Self::File(path) => Ok(SqliteReader::open(path)?),
            Self::Memory | Self::None => Err(Failed::usage(
                "--store names a file here: what was not kept cannot be read",
            )),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory => f.write_str("memory"),
            Self::None => f.write_str("none"),
        }
    }
}

/// A store that is open; the file is let go of when all of it is dropped.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) store: Option<Arc<dyn Store>>,
    file: Option<Arc<SqliteStore>>,
}

impl Opened {
    /// What it was opened for did not come about: a file that was made for it is taken away again.
    pub(crate) async fn discard(self) {
        if let Some(file) = self.file
            && let Err(error) = file.discard().await
        {
            tracing::warn!("{error}");
        }
    }

    /// Has everything brought to the disk, and lets go.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        self.file.map_or(Ok(()), |file| file.close())
    }
}

/// Where anybody may take the record away or put another one in its place, whoever keeps it there shall know. It is not
/// refused: volumes of containers are often such, and there is nobody else in those. A sticky folder, as /tmp is, leaves
/// to each what is theirs (chmod(2)).
fn warn_of_folder(path: &Path) {
    const STICKY: u32 = 0o1000;
    const OTHERS_WRITE: u32 = 0o002;
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let Some(folder) = real.parent() else {
        return;
    };
    let mode = fs::metadata(folder).map_or(0, |folder| folder.permissions().mode());
    if mode & (STICKY | OTHERS_WRITE) == OTHERS_WRITE {
        tracing::warn!(
            "anybody may write to {0}, and so take the record away or put another in its place: chmod o-w {0}, or keep it \
             elsewhere (--store)",
            folder.display()
        );
    }
}

/// `7d`, `2G`, `7d,2G` or `all`.
pub(crate) fn keep(text: &str) -> Result<Retention, Failed> {
    let mut keep = Retention {
        age: None,
        bytes: None,
    };
    for part in text.split(',').filter(|part| *part != "all") {
        if let Ok(Span(age)) = part.parse() {
            keep.age = Some(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        } else if let Ok(Bytes(bytes)) = part.parse() {
            keep.bytes = Some(bytes);
        } else {
            return Err(Failed::usage(format!(
                "--keep {text:?}: {part:?} is neither an age (7d) nor a size (2G); `all` keeps everything"
            )));
        }
    }
    Ok(keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_file_unless_it_is_a_word() {
        assert_eq!(Place::parse("none").unwrap(), Place::None);
        assert_eq!(
            Place::parse("sqlite:none").unwrap(),
            Place::File("none".into())
        );
        assert_eq!(
            Place::parse("a/b.db").unwrap(),
            Place::File("a/b.db".into())
        );
        assert!(
            Place::parse("postgres://x")
                .unwrap_err()
                .why
                .contains("not there yet")
        );
    }

    #[test]
    fn what_is_kept() {
        let week = 7 * 86_400 * 1_000_000;
        assert_eq!(
            keep("7d,2G").unwrap(),
            Retention {
                age: Some(week),
                bytes: Some(2 << 30)
            }
        );
        assert_eq!(
            keep("all").unwrap(),
            Retention {
                age: None,
                bytes: None
            }
        );
        assert!(keep("soon").unwrap_err().why.contains("neither"));
    }
}
