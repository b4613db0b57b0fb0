//! Output files: written completely or not at all, and checked to be writable before the run.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

use crate::exit::CliError;

/// A file to write at the end of the run. An existing file stays unchanged until then.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    /// A temporary file in the same folder, so that a rename replaces `path` atomically.
    draft: NamedTempFile,
}

impl OutputFile {
    /// Creates the temporary file. Fails if `path` cannot be written, so that the error shows before the run.
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        let cannot =
            |why: String| CliError::system(format!("cannot write {}: {why}", path.display()));
        if path.is_dir() {
            return Err(cannot("it is a folder; name a file in it".to_owned()));
        }
        if path.exists() && !path.is_file() {
            return Err(cannot("it is not a regular file".to_owned()));
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
            // The default mode of new files; the umask applies.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(|why| cannot(why.to_string()))?;
        let path = path.to_owned();
        Ok(Self { path, draft })
    }

    /// Writes `text`, renames the temporary file to its path and returns the path.
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

/// Creates `path` and its parents if they do not exist.
pub(super) fn create_folder(path: &Path) -> Result<(), CliError> {
    let made = fs::create_dir_all(path);
    made.map_err(|why| {
        CliError::system(format!(
            "cannot create the folder {}: {why}",
            path.display()
        ))
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
        let file = OutputFile::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        OutputFile::open(&path).unwrap().write(b"new").unwrap();
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
            ("/dev/null".into(), "it is not a regular file"),
        ] {
            let error = OutputFile::open(&path).unwrap_err().why;
            assert!(
                error.contains(why) && error.contains(path.to_str().unwrap()),
                "{error}"
            );
        }
    }
}
