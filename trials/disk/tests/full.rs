//! A disk without room: row 22.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers in a test file for the program"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use trials_crash::program::{Running, SOON, command};
use trials_disk::{
    load::Load,
    record::{last_words, read},
};
use trials_report::{Row, Scale, program};

/// Starts a server on a disk of its own that is almost full; the disk stays until the server's parent has exited.
struct OnFullDisk {
    serve: Running,
    disk: PathBuf,
    _place: tempfile::TempDir,
}

impl OnFullDisk {
    fn start(durability: &str, megabytes: u32, ballast: u32) -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().canonicalize().unwrap();
        let mut shell = command("unshare", &folder);
        // The shell stays until its input ends, and with it the disk.
        shell.args(["-m", "sh", "-c"]).arg(format!(
            "mount -t tmpfs -o size={megabytes}m none . && cd \"$PWD\" &&
             head -c {ballast}000000 /dev/zero >ballast &&
             \"$0\" serve upper=127.0.0.1:0 --frame line --print --console off --durability {durability}
             echo code $?; read -r line"
        ));
        shell.arg(program("echoic"));
        let serve = Running::start(shell, true).unwrap();
        let disk = Path::new(&format!("/proc/{}/root", serve.started()))
            .join(folder.strip_prefix("/").unwrap());
        Self {
            serve,
            disk,
            _place: place,
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.disk.join("ballast")).unwrap();
    }
}

#[test]
fn full_disk_is_reported_and_recording_resumes() {
    let scale = Scale::asked();
    let mut on = OnFullDisk::start("normal", 300, 290);
    let at = on.serve.address().unwrap();
    let load = Load::start(at, 2, 60_000, Duration::from_millis(2));
    on.serve
        .wait_for_stderr("not recording since", SOON)
        .unwrap();
    // Until the queue for the store is over its limit: then exchanges are lost, and counted.
    let before = load.replies();
    let until = Instant::now() + SOON;
    let much = scale.pick(900, 3_000);
    while load.replies() < before + much && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let while_full = load.replies() - before;
    on.make_room();
    let resumed = on.serve.wait_for_stderr("recording again", SOON).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let result = load.end();
    on.serve.signal(Signal::TERM);
    let mut code = String::new();
    std::io::BufRead::read_line(&mut on.serve.lines, &mut code).unwrap();
    let record = read(&on.disk.join("echoic.db")).unwrap();
    let stderr = on.serve.stderr();
    let ended = on.serve.end(SOON).unwrap();
    let [served, recorded, lost] = last_words(&ended.stderr).unwrap();
    let adds_up = served == result.answered
        && served == recorded + lost
        && (record.exchanges, record.missing) == (recorded, lost);
    Row {
        row: 22,
        hazard: "the disk is full, normal".into(),
        load: format!("{while_full} exchanges of 60 KB on a full disk, then room"),
        observed: format!(
            "{} answered, {} failed; reported; recording resumed after {resumed:.1?}; served {served} = recorded {recorded} \
             + lost {lost}; the record has {} and gaps of {}; {}",
            result.answered, result.failed, record.exchanges, record.missing, code.trim()
        ),
        limit: "none failed, resumed within 5 s, lost counted exactly, exit code 0".into(),
        control: format!("reported: {}", stderr.lines().find(|line| line.contains("not recording")).unwrap_or_default()),
        pass: adds_up && result.failed == 0 && lost > 0 && resumed <= Duration::from_secs(5) && code == "code 0\n" && while_full >= much,
        scale,
    }
    .hold();
}

#[test]
fn strict_full_disk_ends_conversations_and_withholds_replies() {
    let scale = Scale::asked();
    let mut on = OnFullDisk::start("strict", 20, 15);
    let at = on.serve.address().unwrap();
    let load = Load::start(at, 3, 10_000, Duration::ZERO);
    on.serve
        .wait_for_stderr("not recording since", SOON)
        .unwrap();
    let result = load.end();
    on.make_room();
    let resumed = on.serve.wait_for_stderr("recording again", SOON).unwrap();
    let again = Load::start(at, 1, 1_000, Duration::ZERO);
    let until = Instant::now() + SOON;
    while again.replies() < 20 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let again = again.end();
    on.serve.signal(Signal::TERM);
    let mut code = String::new();
    std::io::BufRead::read_line(&mut on.serve.lines, &mut code).unwrap();
    let record = read(&on.disk.join("echoic.db")).unwrap();
    let ended = on.serve.end(SOON).unwrap();
    let [served, recorded, lost] = last_words(&ended.stderr).unwrap();
    let answered = result.answered + again.answered;
    Row {
        row: 22,
        hazard: "the disk is full, strict".into(),
        load: "3 peers until the disk is full, then room, then one more".into(),
        observed: format!(
            "{} answered, {} conversations ended, endings {:?}; resumed after {resumed:.1?}, {} answered then; \
             {} recorded, {lost} lost of {served}; {}",
            result.answered, result.failed, record.endings, again.answered, record.exchanges, code.trim()
        ),
        limit: "every reply received is recorded, conversations end as `store-failed`, then it serves again".into(),
        control: "normal continues to answer (above)".into(),
        pass: result.failed == 3 && record.endings.contains(&"store-failed".to_owned()) && again.answered >= 20
            && again.failed == 0 && answered <= record.exchanges && recorded == record.exchanges
            && resumed <= Duration::from_secs(5),
        scale,
    }
    .hold();
}
