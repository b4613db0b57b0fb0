//! A story told to a file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use echoic_core::{
    ending::CloseReason,
    store::{Durability, Store},
};
use echoic_store::SqliteStore;

use super::{Story, wait};

pub(crate) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Durability::Off).unwrap()
}

pub(crate) fn append(store: &SqliteStore, story: &mut Story) {
    wait(store.append(story.take())).unwrap();
}

/// A record with three exchanges, closed.
pub(crate) fn record(dir: &Path) -> PathBuf {
    let path = dir.join("echoic.db");
    let store = open(&path);
    let mut story = Story::after(0);
    story.open(1);
    story.lines(1, &["one", "two", "three"], 3);
    story.end(1, CloseReason::PeerClosed, 0);
    append(&store, &mut story);
    wait(store.close()).unwrap();
    path
}

/// What a directory holds, name by name. Not while a record in it is open here: reading a file and closing it
/// gives up SQLite's locks on it.
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
