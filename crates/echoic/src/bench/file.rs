//! Files that a run leaves: written whole or not at all, and known to be writable before the run.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

use crate::exit::CliError;

/// A file that is to be written at the end. What stands there keeps standing until then.
#[derive(Debug)]
pub(super) struct Sheet {
    path: PathBuf,
    /// Beside it, so that one step puts it in its place.
    draft: NamedTempFile,
}

impl Sheet {
    /// Makes sure that `path` can be written, before anything has been measured in vain.
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        let cannot =
            |why: String| CliError::system(format!("cannot write {}: {why}", path.display()));
        if path.is_dir() {
            return Err(cannot("it is a folder; name a file in it".to_owned()));
        }
        if path.exists() && !path.is_file() {
            return Err(cannot("it is no plain file".to_owned()));
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            let folder = folder.display();
            return Err(cannot(format!(
                "there is no folder {folder}; make it first"
            )));
        }
        let draft = Builder::new()
            .prefix(".echoic-")
            // As any program makes a file; the user's mask takes away what it takes.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(|why| cannot(why.to_string()))?;
        let path = path.to_owned();
        Ok(Self { path, draft })
    }

    /// Writes it, and puts it in its place, which it gives back.
    pub(super) fn write(mut self, text: &[u8]) -> Result<PathBuf, CliError> {
        let written = self.draft.write_all(text).and_then(|()| self.draft.flush());
        let cannot = |why: &io::Error| {
            CliError::system(format!("cannot write {}: {}", self.path.display(), why))
        };
        written.map_err(|why| cannot(&why))?;
        let placed = self.draft.persist(&self.path);
        placed.map_err(|why| cannot(&why.error))?;
        Ok(self.path)
    }
}

/// A folder for files, made if it is not there.
pub(super) fn folder(path: &Path) -> Result<(), CliError> {
    let made = fs::create_dir_all(path);
    made.map_err(|why| {
        CliError::system(format!("cannot make the folder {}: {why}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_file_stays_until_the_new_one_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.html");
        fs::write(&path, "old").unwrap();
        let sheet = Sheet::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(sheet);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        Sheet::open(&path).unwrap().write(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "a draft is left"
        );
    }

    #[test]
    fn unwritable_file_is_reported_before_the_run() {
        let folder = tempfile::tempdir().unwrap();
        for (path, why) in [
            (folder.path().to_owned(), "it is a folder"),
            (folder.path().join("none/run.html"), "there is no folder"),
            ("/dev/null".into(), "it is no plain file"),
        ] {
            let said = Sheet::open(&path).unwrap_err().why;
            assert!(
                said.contains(why) && said.contains(path.to_str().unwrap()),
                "{said}"
            );
        }
    }
}
