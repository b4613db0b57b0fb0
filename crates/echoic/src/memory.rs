//! Which store is meant by what was typed after `--store` and `--retention`.

use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use echoic_core::{
    store::{Durability, Retention, Store, StoreError},
    units::{Bytes, Span, quoted},
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

/// An age, a size, both with a comma between them, or `off` (`all`): nothing is deleted. A number needs its unit here, since
/// without one it could be either.
pub(crate) fn retention(text: &str) -> Result<Retention, String> {
    let mut retention = Retention {
        age: None,
        bytes: None,
    };
    if ["off", "all"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
    {
        return Ok(retention);
    }
    let has_unit = |part: &str| part.ends_with(char::is_alphabetic);
    for part in text.split(',').map(str::trim) {
        if let (true, Ok(Span(age)), None) = (has_unit(part), part.parse(), retention.age) {
            retention.age = Some(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        } else if let (true, Ok(Bytes(bytes)), None) =
            (has_unit(part), part.parse(), retention.bytes)
        {
            retention.bytes = Some(bytes);
        } else {
            return Err(format!(
                "invalid retention {}: expected an age with its unit, a size with its unit, or both, for example 7d, 2G \
                 or 7d,2G; or off",
                quoted(if part.is_empty() { text } else { part })
            ));
        }
    }
    Ok(retention)
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
    fn retention_is_an_age_a_size_or_both() {
        let week = Some(7 * 86_400 * 1_000_000);
        for (text, age, bytes) in [
            ("7d,2G", week, Some(2 << 30)),
            ("1.5GB, 1w", week, Some(3 << 29)),
            ("7m", Some(420_000_000), None),
            ("7M", None, Some(7 << 20)),
            ("off", None, None),
            ("all", None, None),
        ] {
            assert_eq!(retention(text), Ok(Retention { age, bytes }), "{text}");
        }
        for (text, part) in [
            ("soon", "soon"),
            ("7d,2", "2"),
            ("100", "100"),
            ("7d,", "7d,"),
            ("7d,8d", "8d"),
            ("", "\"\""),
        ] {
            let error = retention(text).unwrap_err();
            let expected = format!("invalid retention {part}: expected an age");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
