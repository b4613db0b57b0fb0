//! Files of a running process in `$XDG_RUNTIME_DIR/echoic` (XDG Base Directory Specification).

use std::{
    env,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Returns the path of a file of the process: `PID.EXTENSION`. A relative path in the variable is invalid and ignored.
pub(crate) fn file(pid: u32, extension: &str) -> Option<PathBuf> {
    let directory = PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?);
    let file = directory.join("echoic").join(format!("{pid}.{extension}"));
    directory.is_absolute().then_some(file)
}

/// Makes a directory, for this user alone, if it does not exist.
pub(crate) fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}
