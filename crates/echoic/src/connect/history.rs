//! Where the lines typed to a target are kept: one file for each, readable by its owner only.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use echoic_core::endpoint::Endpoint;
use etcetera::BaseStrategy;

/// Lines kept for a target; the oldest go first.
pub(super) const LINES_MAX: usize = 1000;

/// The file for `endpoint`, in a directory made for it (mode 0700): `$XDG_STATE_HOME/echoic/history/`, which is
/// `~/.local/state` unless set. None where the system has no such place.
pub(super) fn file(endpoint: &Endpoint) -> io::Result<Option<PathBuf>> {
    let state = etcetera::choose_base_strategy()
        .ok()
        .and_then(|dirs| dirs.state_dir());
    state.map(|state| file_under(&state, endpoint)).transpose()
}

fn file_under(state: &Path, endpoint: &Endpoint) -> io::Result<PathBuf> {
    let dir = state.join("echoic").join("history");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    Ok(dir.join(name(endpoint)))
}

/// Longest name of a file that every file system takes, less room for what an editor may append.
const NAME_BYTES_MAX: usize = 240;

fn name(endpoint: &Endpoint) -> String {
    let (long, scheme) = (endpoint.to_string(), endpoint.scheme());
    let address = long.trim_start_matches(scheme).trim_start_matches("://");
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
            c
        } else {
            '_'
        }
    };
    let name: String = format!("{scheme}_{address}").chars().map(safe).collect();
    // A target has an ASCII name; its end, with the port, tells more than its beginning.
    name[name.len().saturating_sub(NAME_BYTES_MAX)..].to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_target_has_a_distinct_file_name() {
        for (endpoint, expected) in [
            (":5000", "tcp__5000"),
            ("db.test:5432", "tcp_db.test_5432"),
            ("[::1]:7", "tcp____1__7"),
        ] {
            assert_eq!(name(&endpoint.parse().unwrap()), expected);
        }
        let long = format!("{}:5000", "a".repeat(253));
        assert!(name(&long.parse().unwrap()).ends_with("a_5000"));
        assert!(name(&long.parse().unwrap()).len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn history_directory_is_private() {
        let state = tempfile::tempdir().unwrap();
        let file = file_under(&state.path().join("state"), &":5000".parse().unwrap()).unwrap();
        let mode = file
            .parent()
            .unwrap()
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
