//! A database that is torn, foreign, newer or unreachable: row 21.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers in a test file for the program"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use trials_crash::program::{Running, SOON, command};
use trials_disk::{load::Load, record::read};
use trials_report::{Row, Scale, program};

/// Returns the files in a folder, except the WAL index, the lock and the socket of `echoic status`.
fn listing(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let ours = |path: &PathBuf| {
        let name = path.to_string_lossy();
        !["-shm", "-lock", "-status"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    files
        .filter(ours)
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}

fn serve(folder: &Path) -> Running {
    let mut serve = command(program("echoic"), folder);
    serve.args([
        "serve",
        "upper=127.0.0.1:0",
        "--frame",
        "line",
        "--print",
        "--console",
        "off",
    ]);
    Running::start(serve, false).unwrap()
}

/// Returns a database with its WAL, as kill -9 leaves it.
fn record(messages: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    let mut serve = serve(place.path());
    let load = Load::start(serve.address().unwrap(), 1, 3_000, Duration::ZERO);
    while load.replies() < messages {
        std::thread::sleep(Duration::from_millis(1));
    }
    load.end();
    std::thread::sleep(Duration::from_millis(200));
    serve.signal(Signal::KILL);
    serve.end(SOON).unwrap();
    let files = listing(place.path()).into_iter();
    files
        .map(|(path, bytes)| (path.file_name().unwrap().into(), bytes))
        .collect()
}

/// The result of a start on such files.
enum Came {
    Served,
    Refused,
    Wrong(String),
}

fn start_on(files: &BTreeMap<PathBuf, Vec<u8>>) -> Came {
    let place = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(place.path().join(name), bytes).unwrap();
    }
    let before = listing(place.path());
    let mut serve = serve(place.path());
    let serves = serve.address().is_ok();
    serve.signal(Signal::TERM);
    let ended = serve.end(SOON).unwrap();
    if ended.stderr.contains("panicked") || ended.stderr.contains("bug in echoic") {
        return Came::Wrong(ended.stderr);
    }
    if serves {
        return match (ended.code, read(&place.path().join("echoic.db"))) {
            (Some(0), Ok(_)) => Came::Served,
            // Found later, by a read or write: reported, and the file is left for inspection.
            (Some(1), _) if ended.stderr.contains("not a database echoic can read") => {
                Came::Refused
            }
            (code, sound) => Came::Wrong(format!("code {code:?}, {sound:?}: {}", ended.stderr)),
        };
    }
    let is_clear = ended.stderr.starts_with("echoic: ") && ended.stderr.contains("echoic.db");
    if ended.code == Some(1) && is_clear && listing(place.path()) == before {
        Came::Refused
    } else {
        let changed = listing(place.path()) != before;
        Came::Wrong(format!(
            "code {:?}, changed: {changed}: {}",
            ended.code, ended.stderr
        ))
    }
}

#[test]
fn broken_database_is_rejected_unchanged_or_sound() {
    let scale = Scale::asked();
    let mutations: usize = scale.pick(40, 300);
    let (whole, other) = (record(40), record(60));
    let (db, log) = (PathBuf::from("echoic.db"), PathBuf::from("echoic.db-wal"));
    let (mut served, mut refused, mut wrong) = (0, 0, Vec::new());
    // A fixed sequence of pseudo-random numbers, so that a failure can be reproduced.
    let mut chance = 7_usize;
    for number in 0..mutations {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut files = whole.clone();
        let file = if number % 2 == 0 { &db } else { &log };
        let bytes = files.get_mut(file).unwrap();
        let at = (chance >> 16) % bytes.len();
        let what = match number % 10 {
            0..=5 => {
                bytes[at] ^= 1 << (chance % 8);
                format!("bit flipped at {at} of {}", file.display())
            }
            6 | 7 => {
                bytes.truncate(at / 4096 * 4096);
                format!("{} cut at {at}", file.display())
            }
            8 => {
                files.insert(log.clone(), other[&log].clone());
                "the log of another record".to_owned()
            }
            _ => {
                files.insert(db.clone(), Vec::new());
                "a log alone".to_owned()
            }
        };
        match start_on(&files) {
            Came::Served => served += 1,
            Came::Refused => refused += 1,
            Came::Wrong(why) => wrong.push(format!("{what}: {why}")),
        }
    }
    Row {
        row: 21,
        hazard: "a torn or foreign database at the start".into(),
        load: format!("{mutations} mutations of a database and its WAL: bits flipped, cut, the WAL of another, alone"),
        observed: format!("{served} opened sound, {refused} rejected with a reason and left unchanged, {wrong:?} otherwise"),
        limit: "none otherwise".into(),
        control: "the unchanged database is served; a rejection that changed a file would count as otherwise".into(),
        pass: wrong.is_empty() && refused > 0 && served > 0 && matches!(start_on(&whole), Came::Served),
        scale,
    }
    .hold();
}

#[test]
fn unwritable_database_is_rejected_with_a_reason() {
    let scale = Scale::asked();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("closed");
    fs::create_dir(&folder).unwrap();
    // root may write everywhere except on a read-only mount.
    let mut shell = command("unshare", place.path());
    shell.args(["-m", "sh", "-c"]).arg(
        "mount -t tmpfs none closed && mount -o remount,ro closed && cd closed && exec \"$0\" serve :0 --quiet",
    );
    shell.arg(program("echoic"));
    let ended = Running::start(shell, false).unwrap().end(SOON).unwrap();
    Row {
        row: 21,
        hazard: "a read-only directory".into(),
        load: "serve in it".into(),
        observed: format!("code {:?}: {}", ended.code, ended.stderr.trim()),
        limit: "code 1, the path and the reason".into(),
        control: "in a writable directory it serves (above)".into(),
        pass: ended.code == Some(1)
            && ended.stderr.contains("echoic.db")
            && ended.stderr.contains("Read-only file system"),
        scale,
    }
    .hold();
}
