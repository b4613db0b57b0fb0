//! Tests of the SQLite store alone: which files it opens or rejects, and how they are read.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not recognize helpers in a test file as tests"
)]

mod scenario;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use echoic_core::{
    ending::CloseReason,
    event::Outcome,
    store::{Durability, Order, Retention, Store, StoreError, StoreErrorKind},
};
use echoic_store::{SqliteReader, SqliteStore};
use rusqlite::Connection;
use scenario::{
    NOON, Scenario, all, count, pages,
    sqlite::{append, listing, open, record},
    wait,
};
use tempfile::TempDir;

#[test]
fn reader_sees_concurrent_writes_and_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    let missing = SqliteReader::open(&path);
    assert!(
        matches!(
            missing,
            Err(StoreError {
                kind: StoreErrorKind::Missing,
                ..
            })
        ),
        "{missing:?}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    let store = open(&path);
    let reader = SqliteReader::open(&path).unwrap();
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    for round in 1..=20_u64 {
        scenario.lines(1, &["a", "b"], 2);
        append(&store, &mut scenario);
        assert_eq!(wait(count(&reader, "")), 2 * round);
        assert_eq!(wait(all(&reader, "")), scenario.exchanges);
    }
    let batches = scenario.take();
    assert!(matches!(
        wait(reader.append(batches)),
        Err(StoreError {
            kind: StoreErrorKind::ReadOnly { .. },
            ..
        })
    ));
    let retention = Retention {
        age: Some(0),
        bytes: None,
    };
    assert!(matches!(
        wait(reader.prune(retention, NOON)),
        Err(StoreError {
            kind: StoreErrorKind::ReadOnly { .. },
            ..
        })
    ));

    wait(store.close()).unwrap();
    assert!(matches!(
        wait(store.append(vec![])),
        Err(StoreError {
            kind: StoreErrorKind::Closed,
            ..
        })
    ));
    assert!(matches!(
        wait(store.last()),
        Err(StoreError {
            kind: StoreErrorKind::Closed,
            ..
        })
    ));
    assert_eq!(
        wait(all(&reader, "")),
        scenario.exchanges,
        "a reader outlives the writer"
    );
}

#[test]
fn newer_database_version_is_rejected() {
    let dir = TempDir::new().unwrap();
    let path = record(dir.path());
    for (change, back) in [
        ("PRAGMA user_version = 99", "PRAGMA user_version = 3"),
        (
            "UPDATE state SET event_version = 3",
            "UPDATE state SET event_version = 2",
        ),
    ] {
        let set = |sql| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        set(change);
        let before = listing(dir.path());
        for refused in [
            SqliteStore::open(&path, Durability::Off).map(drop),
            SqliteReader::open(&path).map(drop),
        ] {
            let newer = matches!(
                refused,
                Err(StoreError { kind: StoreErrorKind::Newer { found, known }, .. }) if found > known
            );
            assert!(newer, "{refused:?}");
        }
        let files = |files: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
            files
                .iter()
                .filter(|(path, _)| path.ends_with("echoic.db"))
                .cloned()
                .collect()
        };
        assert_eq!(
            files(&listing(dir.path())),
            files(&before),
            "the file was changed"
        );
        set(back);
        assert_eq!(wait(count(&open(&path), "")), 3);
    }
}

#[test]
fn older_database_version_is_rejected_by_name() {
    let dir = TempDir::new().unwrap();
    let path = record(dir.path());
    for version in [1, 2] {
        let set = format!("PRAGMA user_version = {version}");
        Connection::open(&path)
            .unwrap()
            .execute_batch(&set)
            .unwrap();
        for refused in [
            SqliteStore::open(&path, Durability::Off).map(drop),
            SqliteReader::open(&path).map(drop),
        ] {
            let refused = refused.unwrap_err();
            let older = StoreErrorKind::Older {
                found: version,
                known: 3,
            };
            assert_eq!(refused.kind, older);
            assert!(refused.to_string().contains(&format!("schema {version}")));
        }
    }
}

#[test]
fn foreign_file_is_rejected_and_left_unchanged() {
    let foreign = |what: &str, make: &dyn Fn(&Path)| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("echoic.db");
        make(&path);
        let before = path.is_file().then(|| listing(dir.path()));
        for refused in [
            SqliteStore::open(&path, Durability::Off).map(drop),
            SqliteReader::open(&path).map(drop),
        ] {
            let foreign = matches!(
                refused,
                Err(StoreError {
                    kind: StoreErrorKind::Foreign { .. },
                    ..
                })
            );
            assert!(foreign, "{what}: {refused:?}");
        }
        if let Some(before) = before {
            assert_eq!(listing(dir.path()), before);
        }
    };
    foreign("a diary", &|path| {
        fs::write(path, "Dear diary, ".repeat(1000)).unwrap();
    });
    foreign("a byte", &|path| fs::write(path, "x").unwrap());
    foreign("a directory", &|path| fs::create_dir(path).unwrap());
    foreign("bookmarks", &|path| {
        let other = Connection::open(path).unwrap();
        other
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE bookmark (url TEXT);")
            .unwrap();
    });
    foreign("a log alone", &|path| {
        fs::write(path, "").unwrap();
        fs::write(path.with_extension("db-wal"), "rest of a log").unwrap();
    });
}

#[test]
fn empty_file_becomes_a_database() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("what?%41#.db");
    fs::write(&path, "").unwrap();
    let early = SqliteReader::open(&path);
    assert!(
        matches!(
            early,
            Err(StoreError {
                kind: StoreErrorKind::Foreign { .. },
                ..
            })
        ),
        "{early:?}"
    );
    wait(open(&path).close()).unwrap();
    assert_eq!(wait(count(&SqliteReader::open(&path).unwrap(), "")), 0);
    assert_eq!(
        fs::read(&path).unwrap()[68..72],
        *b"echo",
        "the application id that file(1) shows"
    );
}

/// Creates a database with many pages and closes it. Returns its path and its bytes.
fn long_record(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("echoic.db");
    let store = open(&path);
    let mut scenario = Scenario::after(0);
    for conversation in 1..=40 {
        scenario.open(conversation);
        scenario.lines(conversation, &[&"long ".repeat(400), "short"], 2);
    }
    append(&store, &mut scenario);
    wait(store.close()).unwrap();
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn damaged_database_is_rejected_or_sound_without_panic() {
    let dir = TempDir::new().unwrap();
    let (path, sound) = long_record(dir.path());
    let mut refused = 0;
    let mut try_with = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        match SqliteStore::open(&path, Durability::Off) {
            Ok(store) => {
                // A database cannot detect a flipped bit in a payload.
                let filter = scenario::filter("");
                let all = wait(store.count(&scenario::filter("e"), NOON));
                assert!(
                    matches!(
                        all,
                        Ok(_)
                            | Err(StoreError {
                                kind: StoreErrorKind::Foreign { .. },
                                ..
                            })
                    ),
                    "{what}: {all:?}"
                );
                assert!(wait(store.count(&filter, NOON)).is_ok());
            }
            Err(StoreError {
                kind:
                    StoreErrorKind::Foreign { .. }
                    | StoreErrorKind::Newer { .. }
                    | StoreErrorKind::Older { .. },
                ..
            }) => {
                refused += 1;
                assert!(fs::read(&path).unwrap() == bytes, "{what}: it was changed");
            }
            Err(other) => panic!("{what}: {other:?}"),
        }
    };
    for length in (1..sound.len()).step_by(4096) {
        try_with(&sound[..length], &format!("cut at {length}"));
    }
    // A fixed pseudo-random sequence, so that a failure is reproducible.
    let mut address = 1_usize;
    for _ in 0..200 {
        address = address
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = (address >> 16) % sound.len();
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (address % 8);
        try_with(&bytes, &format!("bit flipped in byte {at}"));
    }
    assert!(
        refused > sound.len() / 4096,
        "{refused} were refused: is anything checked?"
    );
}

#[test]
fn crash_retains_the_counts_of_open_conversations() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(&dir.path().join("echoic.db"));
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.open(2);
    scenario.open(3);
    let many = vec!["ping"; 1_000];
    // More than are counted in memory, so that a part is written and a part is counted again.
    for _ in 0..70 {
        scenario.lines(1, &many, 1_000);
        scenario.lines(2, &["pong"], 1);
        append(&store, &mut scenario);
    }
    scenario.half_close(2);
    scenario.end(2, CloseReason::PeerClosed, 0);
    append(&store, &mut scenario);
    // The files now are what kill -9 would leave.
    for name in ["echoic.db", "echoic.db-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let survivor = open(&copy.path().join("echoic.db"));
    assert_eq!(survivor.recovered(), 2);
    let ending = |id| {
        wait(survivor.conversation(id))
            .unwrap()
            .unwrap()
            .conversation
            .ended
            .unwrap()
            .1
    };
    assert_eq!(
        (ending(1).reason, ending(1).received, ending(1).sent),
        (CloseReason::ProcessDied, 350_000, 350_000)
    );
    assert_eq!(
        (ending(2).reason, ending(2).received),
        (CloseReason::PeerClosed, 11)
    );
    assert_eq!(
        (ending(3).reason, ending(3).received),
        (CloseReason::ProcessDied, 0)
    );
    assert_eq!(wait(count(&survivor, "is:unsent")), 0);
    assert_eq!(wait(count(&survivor, "conv:1")), 70_000);
    assert_eq!(wait(count(&survivor, "conv:2")), 70);
    wait(survivor.close()).unwrap();
    assert_eq!(
        open(&copy.path().join("echoic.db")).recovered(),
        0,
        "reported once"
    );
}

#[test]
fn long_database_is_searched_whole_across_chunks() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir.path().join("echoic.db"));
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.open(2);
    for i in 0..50 {
        scenario.lines(1, &["a"; 999], 999);
        let needle = if i % 10 == 0 { "needle" } else { "straw" };
        scenario.lines(2, &[needle], 1);
        append(&store, &mut scenario);
    }
    let expected = scenario.expected(|seen| seen.request == b"needle\n");
    assert_eq!(wait(all(&store, "needle")), expected);
    assert_eq!(wait(count(&store, "a")), 50 * 999 + 45, "straw has an a");
    let newest = wait(pages(&store, "needle", Order::NewestFirst, 2));
    assert_eq!(newest, expected.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(wait(count(&store, "conv:2")), 50);
}

/// A database of schema 3 is read as it is, and gets the new table when it is opened for writing.
#[test]
fn database_of_schema_3_is_read_and_migrated() {
    let dir = TempDir::new().unwrap();
    let path = record(dir.path());
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE tls; DROP TABLE left_over; DROP TABLE exchange_tag; DROP TABLE conversation_tag;
            DROP TABLE exchange_note; DROP TABLE conversation_note; PRAGMA user_version = 3;
            DELETE FROM refinery_schema_history WHERE version >= 4;
            UPDATE conversation SET reason = 'incomplete';",
        )
        .unwrap();
    drop(connection);
    let reader = SqliteReader::open(&path).unwrap();
    assert_eq!(wait(count(&reader, "end:fin")), 3);
    drop(reader);
    let store = open(&path);
    let mut scenario = Scenario::after(3);
    scenario.open(2);
    scenario.end_inside(2, b"\xff\xff");
    append(&store, &mut scenario);
    let ended = wait(store.conversation(2))
        .unwrap()
        .unwrap()
        .conversation
        .ended;
    assert!(ended.unwrap().1.left_over.is_some());
    assert_eq!(wait(count(&store, "")), 3);
    wait(store.close()).unwrap();
    let connection = Connection::open(&path).unwrap();
    let left = "SELECT count(*) FROM left_over";
    let count: u32 = connection.query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

/// `prune` is called once, as a minute before: 60,000 exchanges of 8 MB follow in runs of one.
#[test]
fn file_exceeds_its_limit_by_less_than_a_tenth_between_prunes() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir.path().join("echoic.db"));
    let limit = 4 << 20;
    let retention = Retention {
        age: None,
        bytes: Some(limit),
    };
    assert_eq!(wait(store.prune(retention, NOON)).unwrap(), 0);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    let line = "x".repeat(65);
    let (mut file_max, mut log_max) = (0, 0);
    for _ in 0..75 {
        for _ in 0..800 {
            scenario.exchange(1, Outcome::Ok, line.as_bytes(), line.as_bytes());
        }
        append(&store, &mut scenario);
        let size = |name| fs::metadata(dir.path().join(name)).unwrap().len();
        file_max = size("echoic.db").max(file_max);
        log_max = size("echoic.db-wal").max(log_max);
        scenario.exchanges.drain(..scenario.exchanges.len() - 800);
    }
    let stats = wait(store.stats()).unwrap();
    assert!(
        stats.bytes <= limit + limit / 10,
        "{} bytes used",
        stats.bytes
    );
    assert!(
        stats.bytes >= limit - limit / 10,
        "{} bytes used",
        stats.bytes
    );
    assert!(
        file_max <= limit + limit / 10,
        "the file had {file_max} bytes"
    );
    assert!(log_max <= 3 << 20, "the log had {log_max} bytes");
    let newest = wait(pages(&store, "limit:800", Order::NewestFirst, 800));
    let expected: Vec<_> = scenario.exchanges.into_iter().rev().collect();
    assert_eq!(newest[..800], expected);
}

#[test]
fn file_stays_below_its_limit_and_shrinks_to_a_lower_one() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir.path().join("echoic.db"));
    let on_disk = || -> u64 {
        let names = ["echoic.db", "echoic.db-wal"].map(|name| dir.path().join(name));
        names
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum()
    };
    let prune = |bytes| {
        let retention = Retention {
            age: None,
            bytes: Some(bytes),
        };
        while wait(store.prune(retention, NOON)).unwrap() > 0 {}
    };
    let mut scenario = Scenario::after(0);
    let line = "y".repeat(3_000);
    for conversation in 1..=400 {
        scenario.open(conversation);
        for _ in 0..5 {
            scenario.lines(conversation, &[&line], 1);
        }
        scenario.end(conversation, CloseReason::PeerClosed, 0);
        append(&store, &mut scenario);
        if conversation % 20 == 0 {
            prune(4 << 20);
            assert!(
                on_disk() <= 4 << 20,
                "{} bytes after conversation {conversation}",
                on_disk()
            );
        }
    }
    assert!(
        on_disk() > 3 << 20,
        "too much was pruned: {} bytes are left",
        on_disk()
    );
    prune(1 << 20);
    assert!(on_disk() <= 1 << 20, "{} bytes", on_disk());
    let left = wait(all(&store, ""));
    assert!(
        left.len() > 60,
        "too much was pruned: {} are left",
        left.len()
    );
    assert_eq!(
        left,
        scenario.exchanges[scenario.exchanges.len() - left.len()..]
    );
    drop(store);
    let rows = |sql| -> u64 {
        Connection::open(dir.path().join("echoic.db"))
            .unwrap()
            .query_row(sql, [], |r| r.get(0))
            .unwrap()
    };
    assert!(rows("SELECT count(*) FROM conversation") < 40);
}

#[test]
fn sqlite3_shell_reads_the_same_exchanges() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    let store = open(&path);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["one", "", "three"], 2);
    scenario.exchange(1, Outcome::Ok, b"", b"bye");
    scenario.end(1, CloseReason::PeerReset, 3);
    scenario.open(2);
    scenario.lines(2, &["alone"], 1);
    append(&store, &mut scenario);
    let server = scenario.server().id.to_string();
    let shell = Connection::open(&path).unwrap();
    let mut rows = shell
        .prepare("SELECT id, conv, n, ep, peer, lat_ns, outcome, req, rep, time, proto, svc, role, t_us, server FROM exchange ORDER BY id")
        .unwrap();
    let rows = rows.query_map([], |row| {
        let outcome: String = row.get(6)?;
        assert!(
            row.get::<_, String>(9)?
                .starts_with("2026-01-01 12:00:00.0")
        );
        let words = [10, 11, 12, 14].map(|column| row.get::<_, String>(column).unwrap());
        assert_eq!(words, ["tcp", "upper", "server", &server]);
        assert!((NOON..NOON + 100).contains(&row.get::<_, i64>(13)?));
        Ok((
            row.get::<_, u64>(0)?,
            row.get::<_, u64>(1)?,
            row.get::<_, u64>(2)?,
            row.get::<_, String>(3)?,
            row.get::<_, String>(4)?,
            (row.get::<_, u64>(5)?, outcome),
            row.get::<_, Vec<u8>>(7)?,
            row.get::<_, Vec<u8>>(8)?,
        ))
    });
    let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
    let expected: Vec<_> = scenario
        .exchanges
        .into_iter()
        .map(|s| {
            let outcome = format!("{:?}", s.outcome).to_lowercase();
            (
                s.id,
                s.conversation,
                s.n,
                s.endpoint_info,
                s.remote,
                (s.latency_ns, outcome),
                s.request,
                s.reply,
            )
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn names_are_bound_as_values_not_sql() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir.path().join("echoic.db"));
    let hostile = "'); DROP TABLE run; --";
    let mut scenario = Scenario::after(0);
    scenario.open_at(1, hostile);
    scenario.lines(1, &[hostile, "\" OR 1=1", "%", "_"], 4);
    append(&store, &mut scenario);
    assert_eq!(wait(all(&store, "")), scenario.exchanges);
    assert_eq!(wait(count(&store, "\"'); DROP TABLE run; --\"")), 1);
    assert_eq!(wait(count(&store, &format!("ep:\"{hostile}\""))), 4);
    assert_eq!(wait(count(&store, "%")), 1);
}

/// A keeper ends the conversations of a server elsewhere; what that records next opens them again, also after a restart of the
/// keeper.
#[test]
fn conversations_that_a_keeper_ended_are_opened_again_by_the_next_batch() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    let keep = || {
        let ignore = Arc::new(|_: &echoic_store::FileChange| {});
        SqliteStore::open_for_others(&path, Durability::Normal, ignore).unwrap()
    };
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["a"], 1);
    let batch = scenario.take();
    let server = batch[0].server.id;
    let mut store = keep();
    wait(store.append(batch)).unwrap();
    let end = |store: &SqliteStore| {
        let listed = wait(store.conversation(1)).unwrap().unwrap();
        let ended = listed.conversation.ended.map(|(_, ending)| ending.reason);
        (ended, listed.exchanges)
    };
    for round in 1..=2 {
        assert_eq!(wait(store.open_servers()).unwrap(), [server]);
        assert_eq!(wait(store.end_server(server)).unwrap(), 1);
        assert_eq!(wait(store.open_servers()).unwrap(), []);
        assert_eq!(end(&store).0, Some(CloseReason::ProcessDied));
        if round == 2 {
            wait(store.close()).unwrap();
            store = keep();
        }
        scenario.lines(1, &["b"], 1);
        append(&store, &mut scenario);
        assert_eq!(end(&store).0, None);
    }
    scenario.end(1, CloseReason::PeerClosed, 0);
    append(&store, &mut scenario);
    assert_eq!(end(&store), (Some(CloseReason::PeerClosed), 3));
    // A store of its own process knows of its end by itself.
    wait(store.close()).unwrap();
    assert_eq!(wait(open(&path).open_servers()).unwrap(), []);
}
