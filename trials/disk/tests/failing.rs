//! A disk whose syncs fail: row 23.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers in a test file for the program"
)]

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;
use trials_crash::program::{Ended, Running, SOON, command};
use trials_disk::{
    load::{Load, LoadResult},
    record::{Record, last_words, read},
};
use trials_report::{Row, Scale, program};

/// The result of a server on a disk whose syncs fail.
struct Outcome {
    /// The replies until the failure was reported, or for a while; and those of a later conversation, if there was one.
    first: LoadResult,
    again: LoadResult,
    /// The first message about it, if there was any.
    reported: Option<String>,
    ended: Ended,
    record: Record,
    served: u64,
    recorded: u64,
    lost: u64,
}

const SERVE: [&str; 7] = [
    "serve",
    "upper=127.0.0.1:0",
    "--frame",
    "line",
    "--print",
    "--console",
    "off",
];

/// Returns an existing database, so that the counted syncs are not those of its creation.
fn begin(folder: &Path) {
    let mut serve = command(program("echoic"), folder);
    serve.args(SERVE);
    let mut serve = Running::start(serve, false).unwrap();
    serve.address().unwrap();
    serve.signal(Signal::TERM);
    assert_eq!(serve.end(SOON).unwrap().code, Some(0));
}

/// Serves under `durability` while strace makes syncs fail as `when` specifies, counted by thread; `until_reported`
/// waits for the message that it does not record.
fn serve(durability: &str, when: &str, span: Duration, until_reported: bool) -> Outcome {
    let place: TempDir = tempfile::tempdir().unwrap();
    let inject = format!("inject=fsync,fdatasync:error=EIO:when={when}");
    let options = [
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        &inject,
    ];
    let args: Vec<&str> = SERVE
        .into_iter()
        .chain(["--durability", durability])
        .collect();
    begin(place.path());
    let mut serve = Running::traced(&options, &program("echoic"), &args, place.path()).unwrap();
    let at = serve.address().unwrap();
    let load = Load::start(at, 2, 1_000, Duration::from_millis(1));
    let since = Instant::now();
    if until_reported {
        serve.wait_for_stderr("not recording since", SOON).unwrap();
    }
    thread::sleep(span.saturating_sub(since.elapsed()));
    let first = load.end();
    let again = Load::start(at, 1, 1_000, Duration::ZERO);
    thread::sleep(Duration::from_millis(300));
    let again = again.end();
    let stderr = serve.stderr();
    let reported = stderr.lines().find(|line| line.contains("not recording"));
    let reported = reported.map(str::to_owned);
    serve.signal(Signal::TERM);
    let ended = serve.end(SOON).unwrap();
    let [served, recorded, lost] = last_words(&ended.stderr).unwrap();
    Outcome {
        first,
        again,
        reported,
        ended,
        record: read(&place.path().join("echoic.db")).unwrap(),
        served,
        recorded,
        lost,
    }
}

impl Outcome {
    fn answered(&self) -> u64 {
        self.first.answered + self.again.answered
    }

    fn adds_up(&self) -> bool {
        self.served == self.recorded + self.lost
    }
}

#[test]
fn failed_sync_acknowledges_nothing() {
    let scale = Scale::asked();
    let span = Duration::from_secs(scale.pick(2, 10));
    // Once: the data is written again, and no reply is sent before it is on the disk.
    let once = serve("strict", "5", span, false);
    // Every sync from then on: nothing can be recorded.
    let strict = serve("strict", "20+", Duration::ZERO, true);
    let normal = serve("normal", "2+", Duration::ZERO, true);
    let never = serve("strict", "65000", span, false);

    let once_holds = once.first.failed == 0
        && once.answered() > 0
        && once.adds_up()
        && once.record.exchanges >= once.answered()
        && once.ended.code == Some(0);
    let strict_holds = strict.first.failed == 2
        && strict.again.answered == 0
        && strict.record.exchanges >= strict.answered()
        && strict.adds_up()
        && strict.ended.code == Some(1);
    let normal_holds = normal.first.failed + normal.again.failed == 0
        && normal.served == normal.answered()
        && normal.adds_up()
        && normal.ended.code == Some(1);
    let never_holds =
        never.reported.is_none() && never.ended.code == Some(0) && never.first.failed == 0;
    Row {
        row: 23,
        hazard: "a sync that fails (EIO)".into(),
        load: "two peers that send continuously; by strace, the fifth sync of each thread fails, or all from one on".into(),
        observed: format!(
            "once, strict: {} replies received, {} recorded, {} conversations broken off, code {:?}. For ever, strict: {} \
             replies received, {} recorded, {} of 2 conversations ended, {} answered afterwards, code {:?}; reported: {}. For \
             ever, normal: {} answered, {} failed, served {} = recorded {} + lost {}, code {:?}",
            once.answered(),
            once.record.exchanges,
            once.first.failed,
            once.ended.code,
            strict.answered(),
            strict.record.exchanges,
            strict.first.failed,
            strict.again.answered,
            strict.ended.code,
            strict.reported.as_deref().unwrap_or("nothing"),
            normal.answered(),
            normal.first.failed + normal.again.failed,
            normal.served,
            normal.recorded,
            normal.lost,
            normal.ended.code
        ),
        limit: "strict: every reply received is recorded, none is sent once nothing can be recorded; normal: none fails, lost counted \
                exactly; code 1 where not all of it is on the disk, and a message about it"
            .into(),
        control: format!(
            "without a failure {} replies received, nothing reported, code {:?}",
            never.answered(),
            never.ended.code
        ),
        pass: once_holds && strict_holds && normal_holds && never_holds,
        scale,
    }
    .hold();
}
