//! What the SQLite record survives, and what it is to other processes: kill -9, full and broken disks, modes, locks.
//!
//! The other process is this program again, in a role.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy takes helpers in a test file for the program"
)]

mod story;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use echoic_core::{
    ending::CloseReason,
    event::Outcome,
    store::{Durability, Store, StoreError, StoreErrorKind},
};
use echoic_store::{SqliteReader, SqliteStore};
use rstest::rstest;
use rusqlite::Connection;
use story::{
    Story, all, count,
    sqlite::{append, listing, open, record},
    wait,
};
use tempfile::TempDir;

const ROLE: &str = "ECHOIC_STORE_ROLE";

/// Runs `shell`, in which `"$@"` is this program again in `role`, with the record in `dir`.
fn child(role: &str, dir: &Path, shell: &str) -> Child {
    Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(env::current_exe().unwrap())
        .args([
            "child_process_entry",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
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
fn child_process_entry() {
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
        "append for ever" => append_until_killed(&path),
        "read-only" => on_a_read_only_file_system(&path),
        "full" => on_a_full_disk(&path),
        "failing writes" => with_failing_writes(&path),
        "failing sync" => with_a_failing_sync(&path),
        "failing copy" => with_a_failing_copy(&path),
        "quiet" => syncs_when_traffic_pauses(&path),
        "failing quiet" => retries_a_failed_idle_sync(&path),
        _ => panic!("{role}"),
    }
}

#[test]
fn files_are_private_for_any_umask() {
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
fn database_is_locked_by_one_server_until_it_exits() {
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
    symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        match SqliteStore::open(path, Durability::Off) {
            Err(StoreError {
                kind: StoreErrorKind::Held { pid: Some(holder) },
                ..
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
    assert!(
        matches!(
            own,
            Err(StoreError {
                kind: StoreErrorKind::Held { .. },
                ..
            })
        ),
        "{own:?}"
    );
}

/// Between its making and its first commit a record is empty, with a log beside it: as broken ones are.
#[test]
fn database_being_created_is_locked_not_foreign() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    fs::write(&path, "").unwrap();
    fs::write(dir.path().join("echoic.db-wal"), "log").unwrap();
    let foreign = SqliteStore::open(&path, Durability::Off);
    assert!(matches!(
        foreign,
        Err(StoreError {
            kind: StoreErrorKind::Foreign { .. },
            ..
        })
    ));
    let mut lock = fs::File::create(dir.path().join("echoic.db-lock")).unwrap();
    lock.lock().unwrap();
    lock.write_all(b"4711\n").unwrap();
    let held = SqliteStore::open(&path, Durability::Off);
    let pid = match held {
        Err(StoreError {
            kind: StoreErrorKind::Held { pid },
            ..
        }) => pid,
        other => panic!("{other:?}"),
    };
    assert_eq!(pid, Some(4711));
}

#[rstest]
#[case::strict(Durability::Strict)]
#[case::normal(Durability::Normal)]
fn acknowledged_appends_survive_kill_9(#[case] durability: Durability) {
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
            found.iter().all(|seen| seen.outcome == Outcome::Ok),
            "nothing looks unsent"
        );
        assert_eq!(store.recovered(), 1);
        let (_, ending) = wait(store.conversation(1)).unwrap().unwrap().ended.unwrap();
        let received: usize = found.iter().map(|seen| seen.request.len()).sum();
        assert_eq!(
            (ending.reason, ending.received),
            (CloseReason::ProcessDied, received as u64)
        );
        assert_eq!(ending.sent, ending.received, "upper case is as long");
        wait(store.close()).unwrap();
        let check: String = Connection::open(dir.path().join("echoic.db"))
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
    }
}

fn append_until_killed(path: &Path) {
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
fn read_only_file_system_can_be_read() {
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
        matches!(
            refused,
            Err(StoreError {
                kind: StoreErrorKind::ReadOnly { .. },
                ..
            })
        ),
        "{refused:?}"
    );
    let none = SqliteStore::open(&dir.join("new.db"), Durability::Off);
    assert!(
        matches!(
            none,
            Err(StoreError {
                kind: StoreErrorKind::ReadOnly { .. },
                ..
            })
        ),
        "{none:?}"
    );
    assert_eq!(wait(count(&SqliteReader::open(path).unwrap(), "")), 3);
    assert_eq!(listing(dir), before);
}

#[test]
fn full_disk_is_reported_and_survived() {
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
                Ok(_) => {}
                Err(StoreError {
                    kind: StoreErrorKind::Full,
                    ..
                }) => break batches,
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
    wait(store.close()).unwrap();
    assert_eq!(wait(all(&open(path), "")).len(), story.told.len());
}

/// A file may not grow beyond a limit, which makes writes fail as a broken disk would (EFBIG, not ENOSPC).
#[test]
fn database_is_reopened_after_a_failed_write() {
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
        "trap '' XFSZ; ulimit -S -f 900; exec \"$@\"",
    ));
}

fn with_failing_writes(path: &Path) {
    assert_recovers_from_a_failure(path, Durability::Strict, || {
        let pid = std::process::id().to_string();
        let raise = Command::new("prlimit")
            .args(["--pid", &pid, "--fsize=unlimited"])
            .status();
        assert!(raise.unwrap().success());
    });
}

#[test]
fn database_is_reopened_after_a_failed_sync() {
    // strace counts by thread; the one that opens the record syncs less often.
    with_failing_syncs("failing sync", "fsync,fdatasync:error=EIO:when=40", |_| {});
}

fn with_a_failing_sync(path: &Path) {
    assert_recovers_from_a_failure(path, Durability::Strict, || {});
}

/// SQLite copies the log into the record by itself, and keeps to itself if a sync of that fails. Here the first one in
/// each thread fails: of the log, wherever it is copied, or of the record, when all of it is.
#[rstest]
#[case::of_the_log("echoic.db-wal")]
#[case::of_the_record("echoic.db")]
fn failed_sync_during_checkpoint_is_reported(#[case] file: &str) {
    let inject = format!("fsync,fdatasync:error=EIO:when=1 -P \"$DIR/{file}\"");
    with_failing_syncs("failing copy", &inject, |dir| {
        // With a log that was begun, so that opening it syncs nothing.
        let made = TempDir::new().unwrap();
        let _store = open(&made.path().join("echoic.db"));
        for name in ["echoic.db", "echoic.db-wal"] {
            fs::copy(made.path().join(name), dir.join(name)).unwrap();
        }
    });
}

fn with_a_failing_copy(path: &Path) {
    assert_recovers_from_a_failure(path, Durability::Off, || {});
}

#[test]
fn normal_durability_syncs_when_traffic_pauses() {
    let log = "fdatasync:error=EIO:when=1000 -P \"$DIR/echoic.db-wal\"";
    with_failing_syncs("quiet", log, |_| {});
}

fn syncs_when_traffic_pauses(path: &Path) {
    let store = SqliteStore::open(path, Durability::Normal).unwrap();
    let (mut story, begun) = (Story::after(0), syncs_of_the_log(path));
    story.open(1);
    story.lines(1, &["hello"], 1);
    append(&store, &mut story);
    let appended = Instant::now();
    until("never synced", || syncs_of_the_log(path) > begun);
    assert!(
        appended.elapsed() >= Duration::from_millis(450),
        "it waits for company"
    );
    story.lines(1, &["hello again"], 1);
    append(&store, &mut story);
    until("not synced again", || syncs_of_the_log(path) > begun + 1);
}

/// What was promised is owed still. Where this is forgotten (no `owes_again`), the log is never made safe.
#[test]
fn failed_idle_sync_is_retried() {
    let log = "fdatasync:error=EIO:when=1 -P \"$DIR/echoic.db-wal\"";
    with_failing_syncs("failing quiet", log, |_| {});
}

fn retries_a_failed_idle_sync(path: &Path) {
    let store = SqliteStore::open(path, Durability::Normal).unwrap();
    let mut story = Story::after(0);
    story.open(1);
    story.lines(1, &["hello"], 1);
    append(&store, &mut story);
    // The log is emptied when all of it is safe in the record.
    let log = path.with_extension("db-wal");
    until("it is left as it is", || {
        fs::metadata(&log).unwrap().len() == 0
    });
    story.lines(1, &["well again"], 1);
    let batches = story.take();
    until("it does not go on", || {
        wait(store.append(batches.clone())).is_ok()
    });
    assert_eq!(wait(all(&store, "")), story.told);
}

/// How often strace has seen the log synced by whoever does that beside the writer.
fn syncs_of_the_log(path: &Path) -> usize {
    let trace = fs::read_to_string(path.with_file_name("trace")).unwrap();
    let ends = trace.lines().filter(|line| line.ends_with("= 0"));
    ends.filter(|line| line.contains("fdatasync")).count()
}

fn until(why: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{why}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs this program in `role` with a disk that fails as strace makes it.
fn with_failing_syncs(role: &str, inject: &str, prepare: impl FnOnce(&Path)) {
    let probe = [
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "inject=fsync,fdatasync:error=EIO:when=1000",
    ];
    let traceable = Command::new("strace").args(probe).arg("true").status();
    if !traceable.is_ok_and(|status| status.success()) {
        println!("skipped: strace(1) is not here, or not permitted");
        return;
    }
    let dir = TempDir::new().unwrap();
    prepare(dir.path());
    let shell = format!(
        "exec strace -f -qq -y -o \"$DIR/trace\" -e trace=fsync,fdatasync -e inject={inject} \"$@\""
    );
    succeeds(child(role, dir.path(), &shell));
}

/// Appends until that fails, has the trouble ended, and appends the same again.
fn assert_recovers_from_a_failure(path: &Path, durability: Durability, end_trouble: impl FnOnce()) {
    let store = SqliteStore::open(path, durability).unwrap();
    let mut story = Story::after(0);
    story.open(1);
    let line = "w".repeat(10_000);
    let refused = loop {
        story.lines(1, &[&line], 1);
        let batches = story.take();
        match wait(store.append(batches.clone())) {
            Ok(_) => assert!(story.told.len() < 10_000, "nothing fails"),
            Err(StoreError {
                kind: StoreErrorKind::Failed { .. },
                ..
            }) => break batches,
            Err(other) => panic!("{other:?}"),
        }
    };
    let log = || fs::metadata(path.with_extension("db-wal")).unwrap().len();
    let before = log();
    end_trouble();
    // strace has a sync fail in each thread, the one that copies the log and then the one that writes, and there both ways
    // to sync.
    let again = (0..3).find_map(|_| wait(store.append(refused.clone())).ok());
    again.expect("writing works again");
    assert!(
        log() < before,
        "what was written before is not made safe first"
    );
    assert_eq!(wait(all(&store, "")), story.told);
    wait(store.close()).unwrap();
    // Not to be written: that would sync, and syncs of this thread may be the next to fail.
    let reader = SqliteReader::open(path).unwrap();
    assert_eq!(wait(all(&reader, "")), story.told);
}
