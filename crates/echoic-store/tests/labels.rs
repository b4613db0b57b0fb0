//! Labels in a SQLite file that another store writes, and deletion: what only a file can show.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not recognize helpers in a test file as tests"
)]

mod scenario;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use echoic_core::store::{Durability, LabelChange, Labelled, Retention, Store, StoreErrorKind};
use echoic_store::{SqliteReader, SqliteStore};
use rusqlite::Connection;
use scenario::{Scenario, all, count, filter, wait};
use tempfile::TempDir;

fn tag(id: u64, tag: &str) -> LabelChange {
    LabelChange {
        of: Labelled::Exchanges(vec![id]),
        add: vec![tag.to_owned()],
        remove: vec![],
        note: None,
    }
}

/// Creates a store with 100 exchanges of conversation 1, which is open.
fn record(dir: &Path) -> (PathBuf, SqliteStore, Scenario) {
    let path = dir.join("echoic.db");
    let store = SqliteStore::open(&path, Durability::Normal).unwrap();
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    for _ in 0..100 {
        scenario.lines(1, &["a line"], 1);
    }
    wait(store.append(scenario.take())).unwrap();
    (path, store, scenario)
}

/// Whoever records must be the only one that copies the log into the database: see `connection::open_to_label`.
#[test]
fn labels_beside_a_writer_never_change_the_database_file() {
    let dir = TempDir::new().unwrap();
    let (path, store, _) = record(dir.path());
    let before = fs::read(&path).unwrap();
    let log = || {
        fs::metadata(dir.path().join("echoic.db-wal"))
            .unwrap()
            .len()
    };
    let log_before = log();
    let reader = SqliteReader::open(&path).unwrap();
    for id in 1..=100 {
        assert_eq!(wait(reader.label(tag(id, "bug"))).unwrap(), 1);
    }
    assert_eq!(wait(count(&store, "tag:bug")), 100, "the writer sees them");
    wait(reader.close()).unwrap();
    assert!(log() > log_before);
    assert!(fs::read(&path).unwrap() == before, "the log was copied");
    wait(store.close()).unwrap();
    let reader = SqliteReader::open(&path).unwrap();
    assert_eq!(wait(count(&reader, "tag:bug")), 100);
}

#[test]
fn labels_of_an_idle_file_are_in_it_and_leave_no_log() {
    let dir = TempDir::new().unwrap();
    let (path, store, _) = record(dir.path());
    wait(store.close()).unwrap();
    let reader = SqliteReader::open(&path).unwrap();
    assert_eq!(wait(reader.label(tag(7, "bug"))).unwrap(), 1);
    wait(reader.close()).unwrap();
    let copy = dir.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    assert!(!dir.path().join("echoic.db-wal").exists());
    let reader = SqliteReader::open(&copy).unwrap();
    assert_eq!(wait(count(&reader, "tag:bug")), 1);
}

#[test]
fn labels_and_appends_at_the_same_time_lose_neither() {
    let dir = TempDir::new().unwrap();
    let (path, store, mut scenario) = record(dir.path());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let appending = scope.spawn(|| {
            let mut appends = 0;
            while !stop.load(Ordering::Relaxed) {
                scenario.lines(1, &["more"], 1);
                wait(store.append(scenario.take())).unwrap();
                appends += 1;
            }
            appends
        });
        let reader = SqliteReader::open(&path).unwrap();
        for round in 0..200 {
            let change = tag(1 + round % 100, &format!("t{}", round / 100));
            assert_eq!(wait(reader.label(change)).unwrap(), 1);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(appending.join().unwrap() > 0);
        wait(reader.close()).unwrap();
    });
    assert_eq!(wait(count(&store, "tag:t0 tag:t1")), 100);
    assert_eq!(wait(count(&store, "")), scenario.last_id);
    wait(store.close()).unwrap();
    let sound = Connection::open(&path).unwrap();
    let check: String = sound
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

/// Makes the file one of schema 4.
fn without_label_tables(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE tls; DROP TABLE exchange_tag; DROP TABLE conversation_tag; DROP TABLE exchange_note;
            DROP TABLE conversation_note; PRAGMA user_version = 4;
            DELETE FROM refinery_schema_history WHERE version >= 5;",
        )
        .unwrap();
}

#[test]
fn database_of_schema_4_is_migrated_by_the_first_label() {
    let dir = TempDir::new().unwrap();
    let (path, store, _) = record(dir.path());
    wait(store.close()).unwrap();
    without_label_tables(&path);
    let reader = SqliteReader::open(&path).unwrap();
    assert_eq!(wait(count(&reader, "tag:bug")), 0);
    assert_eq!(wait(count(&reader, "-tag:bug")), 100);
    assert!(wait(reader.tags()).unwrap().is_empty());
    assert_eq!(wait(reader.label(tag(7, "bug"))).unwrap(), 1);
    assert_eq!(
        wait(count(&reader, "tag:bug")),
        1,
        "the reader sees the new tables"
    );
    wait(reader.close()).unwrap();
}

#[test]
fn database_of_schema_4_that_an_older_echoic_writes_gets_no_labels() {
    let dir = TempDir::new().unwrap();
    let (path, store, _) = record(dir.path());
    wait(store.close()).unwrap();
    without_label_tables(&path);
    let lock = File::open(dir.path().join("echoic.db-lock")).unwrap();
    lock.try_lock().unwrap();
    fs::write(dir.path().join("echoic.db-lock"), "4242\n").unwrap();
    let reader = SqliteReader::open(&path).unwrap();
    let error = wait(reader.label(tag(7, "bug"))).unwrap_err().to_string();
    assert!(
        error.contains("pid 4242") && error.contains("older echoic"),
        "{error}"
    );
    wait(reader.close()).unwrap();
}

#[test]
fn delete_is_refused_while_another_store_writes() {
    let dir = TempDir::new().unwrap();
    let (path, store, _) = record(dir.path());
    let reader = SqliteReader::open(&path).unwrap();
    let refused = wait(reader.delete(&filter(""), 100, 0)).unwrap_err();
    let pid = Some(std::process::id());
    assert_eq!(refused.kind, StoreErrorKind::Held { pid });
    assert_eq!(wait(count(&reader, "")), 100);
    wait(store.close()).unwrap();
    assert_eq!(wait(reader.delete(&filter(""), 100, 0)).unwrap(), 100);
    assert_eq!(wait(count(&reader, "")), 0);
    wait(reader.close()).unwrap();
    let error = wait(reader.label(tag(1, "bug"))).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Closed);
}

#[test]
fn deleted_bytes_are_not_left_in_the_file() {
    let dir = TempDir::new().unwrap();
    let (path, store, mut scenario) = record(dir.path());
    scenario.open(2);
    scenario.lines(2, &["before", "the-password", "after"], 3);
    scenario.end_inside(1, b"\x00\xffleft-password");
    wait(store.append(scenario.take())).unwrap();
    wait(store.close()).unwrap();
    let has = |text: &[u8]| {
        let bytes = fs::read(&path).unwrap();
        bytes.windows(text.len()).any(|window| window == text)
    };
    assert!(has(b"the-password") && has(b"left-password"));
    let reader = SqliteReader::open(&path).unwrap();
    let text = filter("the-password OR conv:1");
    assert_eq!(wait(reader.delete(&text, 101, 0)).unwrap(), 101);
    let left: Vec<_> = wait(all(&reader, ""))
        .into_iter()
        .map(|seen| (seen.n, seen.request))
        .collect();
    assert_eq!(left, [(1, b"before\n".to_vec()), (3, b"after\n".to_vec())]);
    wait(reader.close()).unwrap();
    for gone in ["the-password", "THE-PASSWORD", "left-password"] {
        assert!(!has(gone.as_bytes()), "{gone}");
    }
}

#[test]
fn labels_go_along_to_the_file_that_takes_the_place() {
    let dir = TempDir::new().unwrap();
    let (path, store, mut scenario) = record(dir.path());
    let conversation = LabelChange {
        of: Labelled::Conversation(1),
        note: Some(Some("still open".into())),
        ..tag(0, "bug")
    };
    wait(store.label(conversation)).unwrap();
    fs::rename(&path, dir.path().join("old.db")).unwrap();
    scenario.lines(1, &["more"], 1);
    wait(store.append(scenario.take())).unwrap();
    thread::sleep(Duration::from_millis(50));
    scenario.lines(1, &["again"], 1);
    wait(store.append(scenario.take())).unwrap();
    let again = wait(all(&store, "tag:bug note:open again"));
    assert_eq!(again.len(), 1);
    let everything = Retention {
        age: Some(0),
        bytes: None,
    };
    wait(store.prune(everything, 0)).unwrap();
    wait(store.close()).unwrap();
}
