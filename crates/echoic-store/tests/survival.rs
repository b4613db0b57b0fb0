//! Tests of the SQLite store with other processes and failures: kill -9, full and failing disks, file modes, locks.
//!
//! The other process is this test program again, in a role.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy does not recognize helpers in a test file as tests"
)]

mod scenario;

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
    filter::Filter,
    store::{Durability, LabelChange, Labelled, Store, StoreError, StoreErrorKind},
};
use echoic_store::{SqliteReader, SqliteStore};
use rstest::rstest;
use rusqlite::Connection;
use scenario::{
    Scenario, all, count,
    sqlite::{append, listing, open, record},
    wait,
};
use tempfile::TempDir;

const ROLE: &str = "ECHOIC_STORE_ROLE";

/// Runs `shell`, in which `"$@"` is this program again in `role`, with the database in `dir`.
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

/// Reads the next line of a child that contains `word`. Returns the text after it.
fn read_after(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    word: &str,
) -> Option<String> {
    lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once(word)?.1.to_owned()))
}

fn assert_success(mut child: Child) {
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// Whether this process may mount file systems in a private namespace. If not, the test is skipped.
fn may_mount() -> bool {
    let probe = Command::new("unshare").args(["-m", "true"]).status();
    let may = probe.is_ok_and(|status| status.success());
    if !may {
        trials_skip::skip("`unshare -m` is not permitted here");
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
            let mut scenario = Scenario::after(0);
            scenario.open(1);
            scenario.lines(1, &["here"], 1);
            append(&store, &mut scenario);
            println!("\nready {}", std::process::id());
            let _ = std::io::stdin().lines().next();
        }
        "append for ever" => append_until_killed(&path),
        "read-only" => on_a_read_only_file_system(&path),
        "full" => on_a_full_disk(&path),
        "over quota" => over_quota(&path),
        "failing writes" => with_failing_writes(&path),
        "failing sync" => with_a_failing_sync(&path),
        "failing copy" => with_a_failing_copy(&path),
        "strict" => syncs_before_it_answers(&path, false),
        "strict renamed" => syncs_before_it_answers(&path, true),
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
    read_after(&mut lines, "ready").expect("the child opens the store");
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
    assert_success(child);
}

#[test]
fn database_is_locked_by_one_server_until_it_exits() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    let mut child = child("hold", dir.path(), "exec \"$@\"");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid: u32 = read_after(&mut lines, "ready ")
        .expect("the child opens the store")
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
    let reader = SqliteReader::open(&path).expect("readers are not locked out");
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

/// Between its creation and its first commit a database is empty with a log beside it, as a damaged one may be.
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
            acknowledged = read_after(&mut lines, "stored ")
                .expect("the child appends")
                .parse()
                .unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(last) = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("stored ")?.parse().ok())
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
            "no reply counts as unsent"
        );
        assert_eq!(store.recovered(), 1);
        let (_, ending) = wait(store.conversation(1))
            .unwrap()
            .unwrap()
            .conversation
            .ended
            .unwrap();
        let received: usize = found.iter().map(|seen| seen.request.len()).sum();
        assert_eq!(
            (ending.reason, ending.received),
            (CloseReason::ProcessDied, received as u64)
        );
        assert_eq!(ending.sent, ending.received, "replies have the same length");
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
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    println!();
    loop {
        scenario.lines(1, &["for ever", "and ever"], 2);
        scenario.exchanges.clear();
        append(&store, &mut scenario);
        println!("stored {}", scenario.last_id);
    }
}

#[test]
fn read_only_file_system_can_be_read() {
    if may_mount() {
        let dir = TempDir::new().unwrap();
        assert_success(child(
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
    let reader = SqliteReader::open(path).unwrap();
    let label = LabelChange {
        of: Labelled::Exchanges(vec![1]),
        add: vec!["bug".into()],
        remove: vec![],
        note: None,
    };
    for refused in [
        wait(reader.label(label)),
        wait(reader.delete(&Filter::all(), 1, 0)),
    ] {
        let kind = refused.unwrap_err().kind;
        assert!(matches!(kind, StoreErrorKind::ReadOnly { .. }), "{kind:?}");
    }
    wait(reader.close()).unwrap();
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
        assert_success(child(
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
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    let line = "z".repeat(10_000);
    let (mut stored, refused) = (
        Vec::new(),
        loop {
            scenario.lines(1, &[&line], 1);
            let batches = scenario.take();
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
    stored.extend_from_slice(&scenario.exchanges[..scenario.exchanges.len() - 1]);
    assert!(stored.len() > 3);
    assert!(wait(store.append(refused.clone())).is_err(), "still full");
    assert_eq!(wait(all(&store, "")), stored);
    fs::remove_file(ballast).unwrap();
    wait(store.append(refused)).expect("there is room again");
    assert_eq!(wait(all(&store, "")), scenario.exchanges);
    wait(store.close()).unwrap();
    assert_eq!(wait(all(&open(path), "")).len(), scenario.exchanges.len());
}

/// SQLite says "disk I/O error" where the quota is used up, and nothing of it.
#[test]
fn used_up_quota_is_named() {
    let inject = "pwrite64:error=EDQUOT:when=200+";
    with_injection("over quota", "pwrite64", inject, |_| {});
}

fn over_quota(path: &Path) {
    let store = SqliteStore::open(path, Durability::Off).unwrap();
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    let failed = loop {
        scenario.lines(1, &["a line"], 1);
        match wait(store.append(scenario.take())) {
            Ok(_) => assert!(scenario.exchanges.len() < 1_000, "no append fails"),
            Err(failed) => break failed,
        }
    };
    assert_eq!(failed.kind, StoreErrorKind::OverQuota, "{failed}");
}

/// A limit on the file size makes writes fail like a broken disk (EFBIG, not ENOSPC).
#[test]
fn database_is_reopened_after_a_failed_write() {
    let dir = TempDir::new().unwrap();
    let raisable = Command::new("prlimit")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !raisable.is_ok_and(|status| status.success()) {
        return trials_skip::skip("prlimit(1) is missing");
    }
    assert_success(child(
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
    // strace counts per thread; the thread that opens the database syncs less often.
    with_failing_syncs("failing sync", "fsync,fdatasync:error=EIO:when=40", |_| {});
}

fn with_a_failing_sync(path: &Path) {
    assert_recovers_from_a_failure(path, Durability::Strict, || {});
}

/// SQLite's automatic checkpoint ignores failed syncs. Here the first sync in each thread fails: of the log, or of the
/// database.
#[rstest]
#[case::of_the_log("echoic.db-wal")]
#[case::of_the_database("echoic.db")]
fn failed_sync_during_checkpoint_is_reported(#[case] file: &str) {
    let inject = format!("fsync,fdatasync:error=EIO:when=1 -P \"$DIR/{file}\"");
    with_failing_syncs("failing copy", &inject, |dir| {
        // With an existing log, so that opening the database syncs nothing.
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
fn strict_append_is_synced_when_it_returns() {
    // SQLite calls fsync(2), the checkpointer fdatasync(2).
    let log = "fsync,fdatasync:error=EIO:when=1000 -P \"$DIR/echoic.db-wal\"";
    with_failing_syncs("strict", log, |_| {});
    with_failing_syncs("strict renamed", log, |_| {});
}

/// `renamed`: the appends go to the file that takes the place of a renamed one.
fn syncs_before_it_answers(path: &Path, renamed: bool) {
    let store = SqliteStore::open(path, Durability::Strict).unwrap();
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(
        1,
        &["the first append of a log syncs its header in any case"],
        1,
    );
    append(&store, &mut scenario);
    if renamed {
        fs::rename(path, path.with_file_name("old.db")).unwrap();
        scenario.lines(1, &["goes to the old file, and makes the new one"], 1);
        append(&store, &mut scenario);
        assert!(path.exists());
    }
    for number in 0..5 {
        let begun = syncs_of_the_log(path);
        scenario.lines(1, &[&format!("line {number}")], 1);
        append(&store, &mut scenario);
        // strace writes down a call before the caller goes on.
        assert!(
            syncs_of_the_log(path) > begun,
            "append {number} was not synced"
        );
    }
}

#[test]
fn normal_durability_syncs_when_traffic_pauses() {
    let log = "fdatasync:error=EIO:when=1000 -P \"$DIR/echoic.db-wal\"";
    with_failing_syncs("quiet", log, |_| {});
}

fn syncs_when_traffic_pauses(path: &Path) {
    let store = SqliteStore::open(path, Durability::Normal).unwrap();
    let (mut scenario, begun) = (Scenario::after(0), syncs_of_the_log(path));
    scenario.open(1);
    scenario.lines(1, &["hello"], 1);
    // The wait begins with the commit, within the append.
    let appended = Instant::now();
    append(&store, &mut scenario);
    wait_until("never synced", || syncs_of_the_log(path) > begun);
    assert!(
        appended.elapsed() >= Duration::from_millis(450),
        "it waits for more commits"
    );
    scenario.lines(1, &["hello again"], 1);
    append(&store, &mut scenario);
    wait_until("not synced again", || syncs_of_the_log(path) > begun + 1);
}

/// The promised sync is still needed. Without `retry_sync` the log is never synced.
#[test]
fn failed_idle_sync_is_retried() {
    let log = "fdatasync:error=EIO:when=1 -P \"$DIR/echoic.db-wal\"";
    with_failing_syncs("failing quiet", log, |_| {});
}

fn retries_a_failed_idle_sync(path: &Path) {
    let store = SqliteStore::open(path, Durability::Normal).unwrap();
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["hello"], 1);
    append(&store, &mut scenario);
    // The log is truncated once all of it is safe in the database.
    let log = path.with_extension("db-wal");
    wait_until("the log was not truncated", || {
        fs::metadata(&log).unwrap().len() == 0
    });
    scenario.lines(1, &["recovered"], 1);
    let batches = scenario.take();
    wait_until("appends still fail", || {
        wait(store.append(batches.clone())).is_ok()
    });
    assert_eq!(wait(all(&store, "")), scenario.exchanges);
}

/// Returns how often strace has seen a sync of the log.
fn syncs_of_the_log(path: &Path) -> usize {
    let trace = fs::read_to_string(path.with_file_name("trace")).unwrap();
    let ends = trace.lines().filter(|line| line.ends_with("= 0"));
    ends.filter(|line| line.contains("fsync") || line.contains("fdatasync"))
        .count()
}

fn wait_until(failure: &str, mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_done() {
        assert!(Instant::now() < deadline, "{failure}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs this program in `role` with syncs that fail by strace.
fn with_failing_syncs(role: &str, inject: &str, prepare: impl FnOnce(&Path)) {
    with_injection(role, "fsync,fdatasync", inject, prepare);
}

/// Runs this program in `role` with system calls that fail by strace.
fn with_injection(role: &str, traced: &str, inject: &str, prepare: impl FnOnce(&Path)) {
    let probe = [
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "inject=fsync,fdatasync:error=EIO:when=1000",
    ];
    let traceable = Command::new("strace").args(probe).arg("true").status();
    if !traceable.is_ok_and(|status| status.success()) {
        return trials_skip::skip("strace(1) is missing or not permitted");
    }
    let dir = TempDir::new().unwrap();
    prepare(dir.path());
    let shell = format!(
        "exec strace -f -qq -y -o \"$DIR/trace\" -e trace={traced} -e inject={inject} \"$@\""
    );
    assert_success(child(role, dir.path(), &shell));
}

/// Appends until an append fails, ends the failure, and appends the same batches again.
fn assert_recovers_from_a_failure(path: &Path, durability: Durability, end_failure: impl FnOnce()) {
    let store = SqliteStore::open(path, durability).unwrap();
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    let line = "w".repeat(10_000);
    let refused = loop {
        scenario.lines(1, &[&line], 1);
        let batches = scenario.take();
        match wait(store.append(batches.clone())) {
            Ok(_) => assert!(scenario.exchanges.len() < 10_000, "no append fails"),
            Err(StoreError {
                kind: StoreErrorKind::Failed { .. },
                ..
            }) => break batches,
            Err(other) => panic!("{other:?}"),
        }
    };
    let log = || fs::metadata(path.with_extension("db-wal")).unwrap().len();
    let before = log();
    end_failure();
    // strace makes a sync fail in each thread, first the checkpointer and then the writer, and there for both sync calls.
    let again = (0..3).find_map(|_| wait(store.append(refused.clone())).ok());
    again.expect("writing works again");
    assert!(log() < before, "the earlier log is not made durable first");
    assert_eq!(wait(all(&store, "")), scenario.exchanges);
    wait(store.close()).unwrap();
    // A reader, since a writer would sync, and syncs of this thread may fail next.
    let reader = SqliteReader::open(path).unwrap();
    assert_eq!(wait(all(&reader, "")), scenario.exchanges);
}
