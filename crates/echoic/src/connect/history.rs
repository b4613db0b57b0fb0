//! The history files of the prompt: one for each endpoint, readable by the owner only.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use echoic_core::endpoint::Endpoint;
use etcetera::BaseStrategy;

/// Lines in a history file; the oldest are dropped first.
pub(super) const LINES_MAX: usize = 1000;

/// Returns the file for `endpoint` in `$XDG_STATE_HOME/echoic/history/` (by default `~/.local/state/...`), and creates that
/// directory with mode 0700. `None` if there is no home directory.
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

/// Longest file name, in bytes: the 255 of most file systems less room for suffixes.
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
    // The name is ASCII by now, so any index is a boundary. Keep the end: it has the port.
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
