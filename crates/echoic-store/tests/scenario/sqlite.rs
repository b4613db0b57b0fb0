//! Helpers for SQLite files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use echoic_core::{
    ending::CloseReason,
    store::{Durability, Store},
};
use echoic_store::SqliteStore;

use super::{Scenario, wait};

pub(crate) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Durability::Off).unwrap()
}

pub(crate) fn append(store: &SqliteStore, scenario: &mut Scenario) {
    wait(store.append(scenario.take())).unwrap();
}

/// Creates a database with three exchanges, and closes it.
pub(crate) fn record(dir: &Path) -> PathBuf {
    let path = dir.join("echoic.db");
    let store = open(&path);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["one", "two", "three"], 3);
    scenario.end(1, CloseReason::PeerClosed, 0);
    append(&store, &mut scenario);
    wait(store.close()).unwrap();
    path
}

/// Returns the files of a directory with their content. Not to be called while this process has a database open in it:
/// closing the file after the read would release the locks of SQLite.
pub(crate) fn listing(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}
