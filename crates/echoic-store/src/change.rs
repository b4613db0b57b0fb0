//! Changes of the file of a store, for messages.

use std::{fmt, path::PathBuf, sync::Arc};

/// A change of the file of a store while it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// The file was renamed, or has lost its name in another way.
    Renamed {
        /// The path of the store.
        path: PathBuf,
        /// The present path of the file, if it is known.
        to: Option<PathBuf>,
    },
    /// The file was removed. It exists only for those that have it open.
    Removed {
        /// The path of the store.
        path: PathBuf,
    },
    /// A new file at the same path has taken its place.
    Continued {
        /// The path of the store.
        path: PathBuf,
    },
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renamed { path, to: Some(to) } => {
                write!(f, "{} was renamed to {}", path.display(), to.display())
            }
            Self::Renamed { path, to: None } => {
                write!(f, "{} was renamed or removed", path.display())
            }
            Self::Removed { path } => write!(f, "{} was removed", path.display()),
            Self::Continued { path } => {
                write!(f, "the record goes on in a new file {}", path.display())
            }
        }
    }
}

/// Called with each change, on a thread of the store. It must not block.
pub type OnFileChange = Arc<dyn Fn(&FileChange) + Send + Sync>;
