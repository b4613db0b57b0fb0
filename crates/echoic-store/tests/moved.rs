//! Tests of a database file that is renamed or removed while it is open.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not recognize helpers in a test file as tests"
)]

mod scenario;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use echoic_core::{
    ending::CloseReason,
    event::Outcome,
    store::{
        ConversationPage, Durability, LabelChange, Labelled, Order, Page, Store, StoreErrorKind,
    },
};
use echoic_store::{FileChange, OnFileChange, SqliteReader, SqliteStore};
use rstest::rstest;
use scenario::{NOON, Scenario, Seen, all, count, filter, seen, sqlite::append, wait};
use tempfile::TempDir;

/// A store that writes `echoic.db` in a directory of its own, and what it told about its file.
struct Moving {
    dir: TempDir,
    store: SqliteStore,
    changes: Arc<Mutex<Vec<String>>>,
}

fn watch() -> (Arc<Mutex<Vec<String>>>, OnFileChange) {
    let changes = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&changes);
    let on_change = move |change: &FileChange| {
        let word = match change {
            FileChange::Renamed { to, .. } => {
                let name = to.as_ref().and_then(|to| to.file_name());
                format!("renamed {}", name.unwrap_or_default().display())
            }
            FileChange::Removed { .. } => "removed".to_owned(),
            FileChange::Continued { .. } => "continued".to_owned(),
        };
        seen.lock().unwrap().push(word);
    };
    (changes, Arc::new(on_change))
}

impl Moving {
    fn open(durability: Durability) -> Self {
        let dir = TempDir::new().unwrap();
        let (changes, on_change) = watch();
        fs::create_dir(dir.path().join("in")).unwrap();
        let path = dir.path().join("in/echoic.db");
        let store = SqliteStore::open_observed(&path, durability, on_change).unwrap();
        Self {
            dir,
            store,
            changes,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("in/echoic.db")
    }

    fn old_path(&self) -> PathBuf {
        self.dir.path().join("in/old.db")
    }

    fn changes(&self) -> Vec<String> {
        self.changes.lock().unwrap().clone()
    }

    fn wait_for_change(&self, word: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.changes().iter().any(|change| change == word) {
            assert!(Instant::now() < deadline, "{:?}", self.changes());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read(path: &Path) -> Vec<Seen> {
    wait(all(&SqliteReader::open(path).unwrap(), ""))
}

fn ids(exchanges: &[Seen]) -> Vec<u64> {
    exchanges.iter().map(|seen| seen.id).collect()
}

/// Returns the conversations with the numbers of their exchanges.
fn counts(path: &Path) -> Vec<(u64, u64)> {
    let page = ConversationPage {
        order: Order::OldestFirst,
        beyond: None,
        limit: 9,
        now: NOON,
        without_exchanges: false,
    };
    let reader = SqliteReader::open(path).unwrap();
    let found = wait(reader.conversations(&filter(""), page)).unwrap();
    let counts = found.conversations.iter();
    counts
        .map(|listed| (listed.conversation.id, listed.exchanges))
        .collect()
}

#[rstest]
fn record_of_a_renamed_file_goes_on_in_a_new_one(
    #[values(Durability::Strict, Durability::Normal, Durability::Off)] durability: Durability,
) {
    let moving = Moving::open(durability);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.open(2);
    scenario.lines(1, &["a", "b"], 2);
    scenario.end(2, CloseReason::PeerClosed, 0);
    append(&moving.store, &mut scenario);
    fs::rename(moving.path(), moving.old_path()).unwrap();
    // Goes to the old file or to the new one.
    scenario.lines(1, &["c"], 1);
    append(&moving.store, &mut scenario);
    moving.wait_for_change("continued");
    scenario.lines(1, &["d", "e"], 2);
    scenario.end(1, CloseReason::PeerClosed, 0);
    scenario.open(3);
    scenario.exchange(3, Outcome::Ok, b"f", b"F");
    append(&moving.store, &mut scenario);

    assert_eq!(moving.changes(), ["renamed old.db", "continued"]);
    let (old, new) = (read(&moving.old_path()), read(&moving.path()));
    assert_eq!(ids(&old), [1, 2, 3]);
    assert_eq!(ids(&new), [4, 5, 6]);
    assert_eq!([old, new].concat(), scenario.exchanges);
    assert_eq!(
        wait(count(&moving.store, "")),
        3,
        "the store reads the new file"
    );
    assert_eq!(wait(moving.store.last()).unwrap().exchange, 6);
    let reader = SqliteReader::open(&moving.path()).unwrap();
    let ended = wait(reader.conversation(1))
        .unwrap()
        .unwrap()
        .conversation
        .ended;
    assert_eq!(ended.unwrap().1.reason, CloseReason::PeerClosed);
    assert!(
        wait(reader.conversation(2)).unwrap().is_none(),
        "it had ended"
    );
    drop(reader);
    wait(moving.store.close()).unwrap();
    let mut names: Vec<_> = fs::read_dir(moving.dir.path().join("in"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("echoic"))
        .collect();
    names.sort();
    assert_eq!(names, ["echoic.db", "echoic.db-lock"]);
}

#[rstest]
fn exchanges_committed_after_a_removal_are_in_the_new_file(
    #[values(Durability::Strict, Durability::Normal, Durability::Off)] durability: Durability,
    #[values(true, false)] with_log: bool,
) {
    let moving = Moving::open(durability);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a", "b"], 2);
    append(&moving.store, &mut scenario);
    fs::remove_file(moving.path()).unwrap();
    if with_log {
        for suffix in ["-wal", "-shm", "-lock"] {
            fs::remove_file(moving.dir.path().join(format!("in/echoic.db{suffix}"))).unwrap();
        }
    }
    scenario.lines(1, &["c"], 1);
    scenario.open(2);
    scenario.exchange(2, Outcome::Ok, b"f", b"F");
    scenario.end(2, CloseReason::PeerClosed, 0);
    append(&moving.store, &mut scenario);
    assert_eq!(moving.changes(), ["removed", "continued"]);
    assert_eq!(read(&moving.path()), scenario.exchanges[2..]);
    scenario.lines(1, &["d"], 1);
    append(&moving.store, &mut scenario);
    assert_eq!(read(&moving.path()), scenario.exchanges[2..]);
    assert_eq!(wait(count(&moving.store, "")), 3);
    let held = SqliteStore::open(&moving.path(), durability).unwrap_err();
    assert!(matches!(held.kind, StoreErrorKind::Held { .. }), "{held}");
    wait(moving.store.close()).unwrap();
    assert_eq!(read(&moving.path()), scenario.exchanges[2..]);
    assert_eq!(counts(&moving.path()), [(1, 4), (2, 1)], "each counts once");
}

/// A rejected peer, or bytes that make no message: such conversations have no exchange that would bring them along.
#[test]
fn conversations_and_gaps_committed_after_a_removal_are_in_the_new_file() {
    let moving = Moving::open(Durability::Normal);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.open(2);
    scenario.lines(1, &["a"], 1);
    append(&moving.store, &mut scenario);
    fs::remove_file(moving.path()).unwrap();
    scenario.half_close(1);
    scenario.end(1, CloseReason::PeerClosed, 0);
    scenario.open(3);
    scenario.end_inside(3, b"\xff\xffab");
    scenario.gap(17);
    append(&moving.store, &mut scenario);
    moving.wait_for_change("continued");

    let reader = SqliteReader::open(&moving.path()).unwrap();
    let ended = |id| {
        let conversation = wait(reader.conversation(id)).unwrap();
        conversation
            .unwrap()
            .conversation
            .ended
            .map(|(_, ending)| ending)
    };
    assert_eq!(ended(1).unwrap().reason, CloseReason::PeerClosed);
    assert_eq!(ended(2), None, "it is open");
    let inside = ended(3).unwrap();
    assert_eq!(inside.reason, CloseReason::Incomplete);
    assert_eq!(inside.left_over.unwrap().bytes, b"\xff\xffab");
    let gaps = wait(reader.gaps(i64::MIN..=i64::MAX, 9)).unwrap();
    let missing: Vec<_> = gaps.iter().map(|gap| gap.exchanges).collect();
    assert_eq!(missing, [17]);
}

#[test]
fn file_renamed_just_before_the_close_is_complete_and_leaves_no_log() {
    let moving = Moving::open(Durability::Off);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a", "b"], 2);
    append(&moving.store, &mut scenario);
    fs::rename(moving.path(), moving.old_path()).unwrap();
    wait(moving.store.close()).unwrap();
    for suffix in ["-wal", "-shm"] {
        let left = moving.dir.path().join(format!("in/echoic.db{suffix}"));
        assert!(!left.exists(), "{suffix}");
    }
    assert_eq!(read(&moving.old_path()), scenario.exchanges);
}

#[test]
fn idle_store_notices_that_its_file_was_removed() {
    let moving = Moving::open(Durability::Normal);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a"], 1);
    append(&moving.store, &mut scenario);
    fs::remove_file(moving.path()).unwrap();
    moving.wait_for_change("continued");
    assert_eq!(read(&moving.path()), []);
    scenario.lines(1, &["b"], 1);
    append(&moving.store, &mut scenario);
    assert_eq!(read(&moving.path()), scenario.exchanges[1..]);
}

#[test]
fn append_fails_while_the_directory_is_gone_and_is_stored_once() {
    let moving = Moving::open(Durability::Strict);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a"], 1);
    append(&moving.store, &mut scenario);
    let folder = moving.dir.path().join("in");
    fs::remove_dir_all(&folder).unwrap();
    scenario.lines(1, &["b"], 1);
    let batches = scenario.take();
    for _ in 0..2 {
        let failed = wait(moving.store.append(batches.clone())).unwrap_err();
        assert!(
            failed.to_string().contains("No such file or directory"),
            "{failed}"
        );
    }
    fs::create_dir(&folder).unwrap();
    assert_eq!(wait(moving.store.append(batches)).unwrap(), [2]);
    assert_eq!(moving.changes(), ["removed", "continued"]);
    scenario.lines(1, &["c"], 1);
    append(&moving.store, &mut scenario);
    assert_eq!(read(&moving.path()), scenario.exchanges[1..]);
}

#[test]
fn batch_stored_in_the_old_file_is_not_stored_again_in_the_new_one() {
    let moving = Moving::open(Durability::Off);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a"], 1);
    let batches = scenario.take();
    assert_eq!(wait(moving.store.append(batches.clone())).unwrap(), [1]);
    fs::rename(moving.path(), moving.old_path()).unwrap();
    moving.wait_for_change("continued");
    assert_eq!(wait(moving.store.append(batches)).unwrap(), [1]);
    assert_eq!(read(&moving.path()), []);
    scenario.lines(1, &["b"], 1);
    append(&moving.store, &mut scenario);
    assert_eq!(ids(&read(&moving.path())), [2]);
}

#[test]
fn other_file_at_the_path_is_left_as_it_is() {
    let other = TempDir::new().unwrap();
    let record = scenario::sqlite::record(other.path());
    let foreign = other.path().join("text");
    fs::write(&foreign, "a text that is no database, ".repeat(40)).unwrap();
    for file in [record, foreign] {
        let before = fs::read(&file).unwrap();
        let moving = Moving::open(Durability::Normal);
        let mut scenario = Scenario::after(0);
        scenario.open(1);
        append(&moving.store, &mut scenario);
        fs::rename(moving.path(), moving.old_path()).unwrap();
        fs::rename(&file, moving.path()).unwrap();
        scenario.lines(1, &["a"], 1);
        let batches = scenario.take();
        let failed = wait(moving.store.append(batches.clone())).unwrap_err();
        assert!(
            matches!(failed.kind, StoreErrorKind::Foreign { .. }),
            "{failed}"
        );
        // Its own file comes back: it goes on there.
        fs::rename(moving.path(), &file).unwrap();
        fs::rename(moving.old_path(), moving.path()).unwrap();
        wait(moving.store.append(batches)).unwrap();
        assert_eq!(read(&moving.path()), scenario.exchanges);
        wait(moving.store.close()).unwrap();
        assert_eq!(fs::read(&file).unwrap(), before);
    }
}

#[rstest]
#[case("-wal")]
#[case("-lock")]
fn store_goes_on_after_the_removal_of(#[case] suffix: &str) {
    let moving = Moving::open(Durability::Normal);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a"], 1);
    append(&moving.store, &mut scenario);
    let file = moving.dir.path().join(format!("in/echoic.db{suffix}"));
    fs::remove_file(&file).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !file.exists() {
        assert!(Instant::now() < deadline, "{suffix} is not there again");
        thread::sleep(Duration::from_millis(5));
    }
    scenario.lines(1, &["b"], 1);
    append(&moving.store, &mut scenario);
    assert_eq!(read(&moving.path()), scenario.exchanges);
    let held = SqliteStore::open(&moving.path(), Durability::Off).unwrap_err();
    assert!(matches!(held.kind, StoreErrorKind::Held { .. }), "{held}");
    assert_eq!(
        moving.changes(),
        [""; 0],
        "the database itself is in its place"
    );
}

/// Reads on after `last`, as a follower does.
fn follow(reader: &SqliteReader, last: &mut u64) -> Vec<Seen> {
    let page = Page {
        order: Order::OldestFirst,
        beyond: Some(*last),
        until: None,
        limit: 2,
        now: NOON,
    };
    let found = seen(&wait(reader.find(&filter(""), page)).unwrap());
    *last = found.iter().map(|seen| seen.id).fold(*last, u64::max);
    found
}

#[rstest]
fn follower_reads_each_exchange_once_behind_four_renames(#[values(true, false)] removed: bool) {
    let moving = Moving::open(Durability::Off);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a"], 1);
    append(&moving.store, &mut scenario);
    let (changes, on_change) = watch();
    let reader = SqliteReader::open_observed(&moving.path(), on_change).unwrap();
    let (mut last, mut followed) = (0, Vec::new());
    for round in 0..4 {
        followed.extend(follow(&reader, &mut last));
        scenario.lines(1, &["b", "c", "d"], 3);
        append(&moving.store, &mut scenario);
        if removed {
            fs::remove_file(moving.path()).unwrap();
        } else {
            fs::rename(moving.path(), moving.dir.path().join(format!("{round}.db"))).unwrap();
        }
        scenario.lines(1, &["e"], 1);
        append(&moving.store, &mut scenario);
        scenario.lines(1, &["f", "g"], 2);
        append(&moving.store, &mut scenario);
    }
    for _ in 0..40 {
        followed.extend(follow(&reader, &mut last));
    }
    assert_eq!(followed, scenario.exchanges);
    let changes = changes.lock().unwrap().len();
    assert_eq!(changes, 8, "gone and continued, four times");
}

#[test]
fn follower_reads_the_record_of_a_new_server_from_its_first_exchange() {
    let dir = TempDir::new().unwrap();
    let path = scenario::sqlite::record(dir.path());
    let reader = SqliteReader::open(&path).unwrap();
    let mut last = 0;
    let before: Vec<_> = (0..3).flat_map(|_| follow(&reader, &mut last)).collect();
    assert_eq!(ids(&before), [1, 2, 3]);
    fs::remove_file(&path).unwrap();
    let store = scenario::sqlite::open(&path);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a"], 1);
    append(&store, &mut scenario);
    let mut after = Vec::new();
    for line in ["b", "c", "d", "e"] {
        after.extend(follow(&reader, &mut last));
        scenario.lines(1, &[line], 1);
        append(&store, &mut scenario);
    }
    after.extend(follow(&reader, &mut last));
    assert_eq!(after, scenario.exchanges);
}

/// Searches part by part, as the console does.
#[test]
fn search_in_parts_reads_all_of_a_renamed_file() {
    let moving = Moving::open(Durability::Off);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a", "b", "c"], 3);
    append(&moving.store, &mut scenario);
    let reader = SqliteReader::open(&moving.path()).unwrap();
    fs::rename(moving.path(), moving.old_path()).unwrap();
    moving.wait_for_change("continued");
    let part = |text, beyond, until| {
        let page = Page {
            order: Order::OldestFirst,
            beyond: Some(beyond),
            until: Some(until),
            limit: 9,
            now: NOON,
        };
        ids(&seen(&wait(reader.find(&filter(text), page)).unwrap()))
    };
    assert_eq!(part("req:c", 0, 1), [0; 0]);
    assert_eq!(
        part("req:c", 1, 3),
        [3],
        "the first part says nothing of the rest"
    );
    scenario.lines(1, &["d"], 1);
    append(&moving.store, &mut scenario);
    assert_eq!(part("", 3, 4), [4], "it goes on in the new file");
}

#[test]
fn follower_of_the_path_reads_and_labels_the_file_that_is_there() {
    let moving = Moving::open(Durability::Off);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a"], 1);
    append(&moving.store, &mut scenario);
    let reader = SqliteReader::follow(&moving.path(), Arc::new(|_| {})).unwrap();
    let label = |id: u64, tag: &str| {
        let change = LabelChange {
            of: Labelled::Exchanges(vec![id]),
            add: vec![tag.to_owned()],
            remove: Vec::new(),
            note: None,
        };
        wait(reader.label(change)).unwrap()
    };
    assert_eq!(label(1, "before"), 1);
    fs::rename(moving.path(), moving.old_path()).unwrap();
    scenario.lines(1, &["b"], 1);
    append(&moving.store, &mut scenario);
    moving.wait_for_change("continued");
    scenario.lines(1, &["c"], 1);
    append(&moving.store, &mut scenario);
    assert_eq!(wait(reader.last()).unwrap().exchange, 3);
    assert_eq!(label(3, "after"), 1);
    let tags = |reader: &SqliteReader| -> Vec<String> {
        let tags = wait(reader.tags()).unwrap();
        tags.into_iter().map(|tag| tag.tag).collect()
    };
    assert_eq!(tags(&reader), ["after"]);
    let old = SqliteReader::open(&moving.old_path()).unwrap();
    assert_eq!(tags(&old), ["before"]);
    wait(reader.close()).unwrap();
}
