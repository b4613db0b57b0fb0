//! What is true of the SQLite record alone: the file, who may open it, and what it survives.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy takes helpers in a test file for the program"
)]

mod story;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use echoic_core::{
    ending::How,
    event::Outcome,
    exchange::Fate,
    store::{Durability, Order, Retention, Store, StoreError},
};
use echoic_store::{SqliteReader, SqliteStore};
use rstest::rstest;
use rusqlite::Connection;
use story::{NOON, Story, all, count, pages};
use tempfile::TempDir;
use tokio::runtime::Builder;

fn wait<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Durability::Off).unwrap()
}

fn append(store: &SqliteStore, story: &mut Story) {
    wait(store.append(story.take())).unwrap();
}

/// A record with three exchanges, closed.
fn record(dir: &Path) -> PathBuf {
    let path = dir.join("echoic.db");
    let store = open(&path);
    let mut story = Story::after(0);
    story.open(1);
    story.lines(1, &["one", "two", "three"], 3);
    story.end(1, How::PeerClosed, 0);
    append(&store, &mut story);
    store.close().unwrap();
    path
}

/// What a directory holds, name by name. Not while a record in it is open here: reading a file and closing it
/// gives up SQLite's locks on it.
fn listing(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

// ---- another process: this test binary again, in a role ----

const ROLE: &str = "ECHOIC_STORE_ROLE";

/// Runs `shell`, in which `"$@"` is this program again in `role`, with the record in `dir`.
fn child(role: &str, dir: &Path, shell: &str) -> Child {
    Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["in_a_role", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("DIR", dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The next line of a child that begins with `word`: what follows it.
fn said(lines: &mut impl Iterator<Item = std::io::Result<String>>, word: &str) -> Option<String> {
    lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once(word)?.1.to_owned()))
}

fn succeeds(mut child: Child) {
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// Whether file systems may be mounted where only a child sees them; says so if not.
fn may_mount() -> bool {
    let probe = Command::new("unshare").args(["-m", "true"]).status();
    let may = probe.is_ok_and(|status| status.success());
    if !may {
        println!("skipped: `unshare -m` is not permitted here");
    }
    may
}

#[test]
fn in_a_role() {
    let Ok(role) = env::var(ROLE) else { return };
    let path = PathBuf::from(env::var_os("DIR").unwrap()).join("echoic.db");
    match role.as_str() {
        "hold" => {
            let store = open(&path);
            let mut story = Story::after(0);
            story.open(1);
            story.lines(1, &["here"], 1);
            append(&store, &mut story);
            println!("\nready {}", std::process::id());
            let _ = std::io::stdin().lines().next();
        }
        "append for ever" => append_for_ever(&path),
        "read-only" => on_a_read_only_file_system(&path),
        "full" => on_a_full_disk(&path),
        "failing writes" => with_failing_writes(&path),
        _ => panic!("{role}"),
    }
}

#[test]
fn files_are_private_whatever_the_umask() {
    let dir = TempDir::new().unwrap();
    let mut child = child("hold", dir.path(), "umask 000; exec \"$@\"");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    said(&mut lines, "ready").expect("it opens");
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "echoic.db",
            "echoic.db-lock",
            "echoic.db-shm",
            "echoic.db-wal"
        ]
    );
    succeeds(child);
}

#[test]
fn one_serve_has_the_file_until_it_dies() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    let mut child = child("hold", dir.path(), "exec \"$@\"");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid: u32 = said(&mut lines, "ready ")
        .expect("it opens")
        .parse()
        .unwrap();
    assert_eq!(pid, child.id());

    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        match SqliteStore::open(path, Durability::Off) {
            Err(StoreError::Held {
                pid: Some(holder), ..
            }) => assert_eq!(holder, pid),
            other => panic!("{other:?}"),
        }
    }
    let reader = SqliteReader::open(&path).expect("readers are not kept out");
    assert_eq!(wait(count(&reader, "")), 1);

    child.kill().unwrap();
    child.wait().unwrap();
    let store = open(&path);
    assert_eq!((store.recovered(), wait(count(&store, ""))), (1, 1));
    let own = SqliteStore::open(&path, Durability::Off);
    assert!(matches!(own, Err(StoreError::Held { .. })), "{own:?}");
}

#[test]
fn a_reader_sees_what_is_being_written_and_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    let missing = SqliteReader::open(&path);
    assert!(
        matches!(missing, Err(StoreError::Missing { .. })),
        "{missing:?}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    let store = open(&path);
    let reader = SqliteReader::open(&path).unwrap();
    let mut story = Story::after(0);
    story.open(1);
    for round in 1..=20_u64 {
        story.lines(1, &["a", "b"], 2);
        append(&store, &mut story);
        assert_eq!(wait(count(&reader, "")), 2 * round);
        assert_eq!(wait(all(&reader, "")), story.told);
    }
    let batches = story.take();
    assert!(matches!(
        wait(reader.append(batches)),
        Err(StoreError::ReadOnly { .. })
    ));
    let keep = Retention {
        age: Some(0),
        bytes: None,
    };
    assert!(matches!(
        wait(reader.prune(keep, NOON)),
        Err(StoreError::ReadOnly { .. })
    ));

    store.close().unwrap();
    assert!(matches!(
        wait(store.append(vec![])),
        Err(StoreError::Closed)
    ));
    assert!(matches!(wait(store.last()), Err(StoreError::Closed)));
    assert_eq!(
        wait(all(&reader, "")),
        story.told,
        "a reader outlives the serve"
    );
}

#[test]
fn a_record_of_a_newer_echoic_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = record(dir.path());
    for (change, back) in [
        ("PRAGMA user_version = 2", "PRAGMA user_version = 1"),
        (
            "UPDATE state SET event_version = 2",
            "UPDATE state SET event_version = 1",
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
                Err(StoreError::Newer {
                    found: 2,
                    known: 1,
                    ..
                })
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
            "it was left as it is"
        );
        set(back);
        assert_eq!(wait(count(&open(&path), "")), 3);
    }
}

#[test]
fn what_is_no_record_is_refused_and_left_as_it_is() {
    let foreign = |what: &str, make: &dyn Fn(&Path)| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("echoic.db");
        make(&path);
        let before = path.is_file().then(|| listing(dir.path()));
        for refused in [
            SqliteStore::open(&path, Durability::Off).map(drop),
            SqliteReader::open(&path).map(drop),
        ] {
            let foreign = matches!(refused, Err(StoreError::Foreign { .. }));
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
        fs::write(path.with_extension("db-wal"), "what is left of it").unwrap();
    });
}

#[test]
fn an_empty_file_becomes_a_record() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("what?%41#.db");
    fs::write(&path, "").unwrap();
    let early = SqliteReader::open(&path);
    assert!(
        matches!(early, Err(StoreError::Foreign { .. })),
        "{early:?}"
    );
    open(&path).close().unwrap();
    assert_eq!(wait(count(&SqliteReader::open(&path).unwrap(), "")), 0);
    assert_eq!(
        fs::read(&path).unwrap()[68..72],
        *b"echo",
        "file(1) can tell whose it is"
    );
}

/// A record with content on many pages, closed; with its bytes.
fn long_record(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("echoic.db");
    let store = open(&path);
    let mut story = Story::after(0);
    for conversation in 1..=40 {
        story.open(conversation);
        story.lines(conversation, &[&"long ".repeat(400), "short"], 2);
    }
    append(&store, &mut story);
    store.close().unwrap();
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn a_damaged_record_is_refused_or_sound_and_never_a_panic() {
    let dir = TempDir::new().unwrap();
    let (path, sound) = long_record(dir.path());
    let mut refused = 0;
    let mut try_with = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        match SqliteStore::open(&path, Durability::Off) {
            Ok(store) => {
                // A flipped bit of a payload is nothing a database can notice.
                let filter = story::filter("");
                let all = wait(store.count(&story::filter("e"), NOON));
                assert!(
                    matches!(all, Ok(_) | Err(StoreError::Foreign { .. })),
                    "{what}: {all:?}"
                );
                assert!(wait(store.count(&filter, NOON)).is_ok());
            }
            Err(StoreError::Foreign { .. } | StoreError::Newer { .. }) => {
                refused += 1;
                assert!(fs::read(&path).unwrap() == bytes, "{what}: it was changed");
            }
            Err(other) => panic!("{what}: {other:?}"),
        }
    };
    for length in (1..sound.len()).step_by(4096) {
        try_with(&sound[..length], &format!("cut at {length}"));
    }
    // A fixed sequence stands for chance, so that a failure comes again.
    let mut place = 1_usize;
    for _ in 0..200 {
        place = place
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = (place >> 16) % sound.len();
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (place % 8);
        try_with(&bytes, &format!("bit flipped in byte {at}"));
    }
    assert!(
        refused > sound.len() / 4096,
        "{refused} were refused: is anything checked?"
    );
}

#[rstest]
#[case::strict(Durability::Strict)]
#[case::normal(Durability::Normal)]
fn what_was_acknowledged_survives_kill_9(#[case] durability: Durability) {
    for round in 0..6_u64 {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("durability"), durability.to_string()).unwrap();
        let mut child = child("append for ever", dir.path(), "exec \"$@\"");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        while acknowledged < 5 + 40 * round {
            acknowledged = said(&mut lines, "kept ")
                .expect("it appends")
                .parse()
                .unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(last) = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("kept ")?.parse().ok())
            .last()
        {
            acknowledged = last;
        }

        let store = open(&dir.path().join("echoic.db"));
        let found = wait(all(&store, ""));
        let ids: Vec<u64> = found.iter().map(|seen| seen.id).collect();
        assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
        assert!(
            ids.len() as u64 >= acknowledged,
            "{} of {acknowledged}",
            ids.len()
        );
        assert_eq!(wait(count(&store, "")), ids.len() as u64);
        assert!(
            found.iter().all(|seen| seen.fate == Fate::Ok),
            "nothing looks unsent"
        );
        assert_eq!(store.recovered(), 1);
        let (_, ending) = wait(store.conversation(1)).unwrap().unwrap().ended.unwrap();
        let received: usize = found.iter().map(|seen| seen.request.len()).sum();
        assert_eq!((ending.how, ending.received), (How::Lost, received as u64));
        assert_eq!(ending.sent, ending.received, "upper case is as long");
        store.close().unwrap();
        let check: String = Connection::open(dir.path().join("echoic.db"))
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
    }
}

fn append_for_ever(path: &Path) {
    let durability = fs::read_to_string(path.with_file_name("durability")).unwrap();
    let store = SqliteStore::open(path, durability.parse().unwrap()).unwrap();
    let mut story = Story::after(0);
    story.open(1);
    println!();
    loop {
        story.lines(1, &["for ever", "and ever"], 2);
        story.told.clear();
        append(&store, &mut story);
        println!("kept {}", story.last_id);
    }
}

#[test]
fn conversations_cut_off_by_a_crash_keep_what_is_known_of_them() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(&dir.path().join("echoic.db"));
    let mut story = Story::after(0);
    story.open(1);
    story.open(2);
    story.open(3);
    let many = vec!["ping"; 1_000];
    // More than are tallied in memory, so that part is written down and part is counted again.
    for _ in 0..70 {
        story.lines(1, &many, 1_000);
        story.lines(2, &["pong"], 1);
        append(&store, &mut story);
    }
    story.half_close(2);
    story.end(2, How::PeerClosed, 0);
    append(&store, &mut story);
    // What lies on the disk now is what kill -9 would leave.
    for name in ["echoic.db", "echoic.db-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let survivor = open(&copy.path().join("echoic.db"));
    assert_eq!(survivor.recovered(), 2);
    let ending = |id| {
        wait(survivor.conversation(id))
            .unwrap()
            .unwrap()
            .ended
            .unwrap()
            .1
    };
    assert_eq!(
        (ending(1).how, ending(1).received, ending(1).sent),
        (How::Lost, 350_000, 350_000)
    );
    assert_eq!((ending(2).how, ending(2).received), (How::PeerClosed, 11));
    assert_eq!((ending(3).how, ending(3).received), (How::Lost, 0));
    assert_eq!(wait(count(&survivor, "is:unsent")), 0);
    assert_eq!(wait(count(&survivor, "conv:1")), 70_000);
    assert_eq!(wait(count(&survivor, "conv:2")), 70);
    survivor.close().unwrap();
    assert_eq!(
        open(&copy.path().join("echoic.db")).recovered(),
        0,
        "told once"
    );
}

#[test]
fn a_long_record_is_found_in_whole_across_chunks() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir.path().join("echoic.db"));
    let mut story = Story::after(1_000_000);
    story.open(1);
    story.open(2);
    for i in 0..50 {
        story.lines(1, &["a"; 999], 999);
        let needle = if i % 10 == 0 { "needle" } else { "straw" };
        story.lines(2, &[needle], 1);
        append(&store, &mut story);
    }
    let expected = story.expected(|seen| seen.request == b"needle\n");
    assert_eq!(wait(all(&store, "needle")), expected);
    assert_eq!(wait(count(&store, "a")), 50 * 999 + 45, "straw has an a");
    let newest = wait(pages(&store, "needle", Order::NewestFirst, 2));
    assert_eq!(newest, expected.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(wait(count(&store, "conv:2")), 50);
}

#[test]
fn the_file_is_kept_below_its_limit_and_shrinks_to_a_lower_one() {
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
        let keep = Retention {
            age: None,
            bytes: Some(bytes),
        };
        while wait(store.prune(keep, NOON)).unwrap() > 0 {}
    };
    let mut story = Story::after(0);
    let line = "y".repeat(3_000);
    for conversation in 1..=400 {
        story.open(conversation);
        for _ in 0..5 {
            story.lines(conversation, &[&line], 1);
        }
        story.end(conversation, How::PeerClosed, 0);
        append(&store, &mut story);
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
        "it forgot too much: {} bytes are left",
        on_disk()
    );
    prune(1 << 20);
    assert!(on_disk() <= 1 << 20, "{} bytes", on_disk());
    let left = wait(all(&store, ""));
    assert!(
        left.len() > 60,
        "it forgot too much: {} are left",
        left.len()
    );
    assert_eq!(left, story.told[story.told.len() - left.len()..]);
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
fn people_read_the_same_with_the_sqlite3_shell() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    let store = open(&path);
    let mut story = Story::after(0);
    story.open(1);
    story.lines(1, &["one", "", "three"], 2);
    story.alone(1, Outcome::Ok, b"", b"bye");
    story.end(1, How::PeerReset, 3);
    story.open(2);
    story.lines(2, &["alone"], 1);
    append(&store, &mut story);
    let shell = Connection::open(&path).unwrap();
    let mut rows = shell
        .prepare("SELECT id, conv, n, ep, peer, lat_ns, outcome, req, rep, time FROM exchange ORDER BY id")
        .unwrap();
    let rows = rows.query_map([], |row| {
        let fate: String = row.get(6)?;
        assert!(
            row.get::<_, String>(9)?
                .starts_with("2026-01-01 12:00:00.0")
        );
        Ok((
            row.get::<_, u64>(0)?,
            row.get::<_, u64>(1)?,
            row.get::<_, u64>(2)?,
            row.get::<_, String>(3)?,
            row.get::<_, String>(4)?,
            (row.get::<_, u64>(5)?, fate),
            row.get::<_, Vec<u8>>(7)?,
            row.get::<_, Vec<u8>>(8)?,
        ))
    });
    let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
    let expected: Vec<_> = story
        .told
        .into_iter()
        .map(|s| {
            let fate = format!("{:?}", s.fate).to_lowercase();
            (
                s.id,
                s.conversation,
                s.n,
                s.post,
                s.remote,
                (s.latency_ns, fate),
                s.request,
                s.reply,
            )
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn names_are_values_and_never_sql() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir.path().join("echoic.db"));
    let hostile = "'); DROP TABLE run; --";
    let mut story = Story::after(0);
    story.open_at(1, hostile);
    story.lines(1, &[hostile, "\" OR 1=1", "%", "_"], 4);
    append(&store, &mut story);
    assert_eq!(wait(all(&store, "")), story.told);
    assert_eq!(wait(count(&store, "\"'); DROP TABLE run; --\"")), 1);
    assert_eq!(wait(count(&store, &format!("ep:\"{hostile}\""))), 4);
    assert_eq!(wait(count(&store, "%")), 1);
}

#[test]
fn normal_syncs_in_the_quiet_after_traffic() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    let synced = || -> u64 {
        Connection::open(&path)
            .unwrap()
            .query_row("SELECT synced FROM state", [], |r| r.get(0))
            .unwrap()
    };
    let store = SqliteStore::open(&path, Durability::Normal).unwrap();
    let mut story = Story::after(0);
    story.open(1);
    story.lines(1, &["hello"], 1);
    let appended = Instant::now();
    append(&store, &mut story);
    while synced() == 0 {
        assert!(appended.elapsed() < Duration::from_secs(20), "never synced");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        appended.elapsed() >= Duration::from_millis(500),
        "it waits for company"
    );
}

#[test]
fn a_read_only_file_system_can_be_read() {
    if may_mount() {
        let dir = TempDir::new().unwrap();
        succeeds(child(
            "read-only",
            dir.path(),
            "exec unshare -m sh -c 'mount -t tmpfs -o size=8m none \"$DIR\" && exec \"$@\"' sh \"$@\"",
        ));
    }
}

fn on_a_read_only_file_system(path: &Path) {
    let dir = path.parent().unwrap();
    record(dir);
    let mount = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(dir)
        .status()
        .unwrap();
    assert!(mount.success());
    let before = listing(dir);
    let refused = SqliteStore::open(path, Durability::Off);
    assert!(
        matches!(refused, Err(StoreError::ReadOnly { .. })),
        "{refused:?}"
    );
    let none = SqliteStore::open(&dir.join("new.db"), Durability::Off);
    assert!(matches!(none, Err(StoreError::ReadOnly { .. })), "{none:?}");
    assert_eq!(wait(count(&SqliteReader::open(path).unwrap(), "")), 3);
    assert_eq!(listing(dir), before);
}

#[test]
fn a_full_disk_is_said_and_survived() {
    if may_mount() {
        let dir = TempDir::new().unwrap();
        succeeds(child(
            "full",
            dir.path(),
            "exec unshare -m sh -c 'mount -t tmpfs -o size=2m none \"$DIR\" && exec \"$@\"' sh \"$@\"",
        ));
    }
}

fn on_a_full_disk(path: &Path) {
    let ballast = path.with_file_name("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let store = SqliteStore::open(path, Durability::Normal).unwrap();
    let mut story = Story::after(0);
    story.open(1);
    let line = "z".repeat(10_000);
    let (mut kept, refused) = (
        Vec::new(),
        loop {
            story.lines(1, &[&line], 1);
            let batches = story.take();
            match wait(store.append(batches.clone())) {
                Ok(()) => {}
                Err(StoreError::Full { .. }) => break batches,
                Err(other) => panic!("{other:?}"),
            }
        },
    );
    kept.extend_from_slice(&story.told[..story.told.len() - 1]);
    assert!(kept.len() > 3);
    assert!(wait(store.append(refused.clone())).is_err(), "still full");
    assert_eq!(wait(all(&store, "")), kept);
    fs::remove_file(ballast).unwrap();
    wait(store.append(refused)).expect("there is room again");
    assert_eq!(wait(all(&store, "")), story.told);
    store.close().unwrap();
    assert_eq!(wait(all(&open(path), "")).len(), story.told.len());
}

/// A file may not grow beyond a limit, which makes writes fail as a broken disk would (EFBIG, not ENOSPC).
#[test]
fn after_a_failed_write_the_record_is_opened_anew() {
    let dir = TempDir::new().unwrap();
    let raisable = Command::new("prlimit")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !raisable.is_ok_and(|status| status.success()) {
        println!("skipped: there is no prlimit(1) here");
        return;
    }
    succeeds(child(
        "failing writes",
        dir.path(),
        "trap '' XFSZ; ulimit -S -f 600; exec \"$@\"",
    ));
}

fn with_failing_writes(path: &Path) {
    let store = SqliteStore::open(path, Durability::Strict).unwrap();
    let mut story = Story::after(0);
    story.open(1);
    let line = "w".repeat(10_000);
    let refused = loop {
        story.lines(1, &[&line], 1);
        let batches = story.take();
        match wait(store.append(batches.clone())) {
            Ok(()) => assert!(story.told.len() < 1_000, "no write fails"),
            Err(StoreError::Failed { .. }) => break batches,
            Err(other) => panic!("{other:?}"),
        }
    };
    let pid = std::process::id().to_string();
    let raise = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=unlimited"])
        .status();
    assert!(raise.unwrap().success());
    wait(store.append(refused)).expect("writes succeed again");
    assert_eq!(wait(all(&store, "")), story.told);
    let _ = std::io::stdout().flush();
    store.close().unwrap();
    assert_eq!(wait(all(&open(path), "")).len(), story.told.len());
}
