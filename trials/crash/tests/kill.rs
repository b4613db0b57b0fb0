//! kill -9 at the N-th write or sync of the record: row 19.

use std::fmt::Write;

use trials_crash::visit::visit;
use trials_report::{Row, Scale, program};

#[test]
fn kill_at_any_write_leaves_a_sound_database() {
    let scale = Scale::asked();
    let each: usize = scale.pick(10, 75);
    let echoic = program("echoic");
    for durability in ["strict", "normal"] {
        let (mut kills, mut lost_most, mut received) = (0, 0, 0);
        let mut failures = String::new();
        // Once while the database is created, and once later: strace counts by thread, and the thread that opens it
        // writes first.
        for begun in [false, true] {
            for round in 1..=each {
                let when = if begun { 2 + round } else { round * 90 / each };
                let folder = tempfile::tempdir().unwrap();
                if begun {
                    visit(
                        &echoic,
                        folder.path(),
                        "strict",
                        "pwrite64:error=EIO:when=9999",
                        "k0",
                    )
                    .unwrap();
                }
                let inject = format!("pwrite64,fsync,fdatasync:signal=SIGKILL:when={when}");
                match visit(&echoic, folder.path(), durability, &inject, "k1") {
                    Err(why) => _ = writeln!(failures, "at {when}: {why:#}"),
                    Ok(visit) => {
                        kills += usize::from(visit.ended.code.is_none() || visit.struck > 0);
                        received += visit.received.len();
                        lost_most = lost_most.max(visit.lost());
                    }
                }
            }
        }
        // A peer that waits for each reply has one in flight; it receives the next only after a round is over, 20 ms
        // later.
        let limit = if durability == "strict" { 0 } else { 20 };
        Row {
            row: 19,
            hazard: format!("kill -9 at the N-th write or sync, {durability}"),
            load: format!("{} runs, a visit of 20 exchanges each", 2 * each),
            observed: format!(
                "{kills} killed, {received} replies received, at most {lost_most} of a run lost; {}",
                if failures.is_empty() {
                    "all sound"
                } else {
                    &failures
                }
            ),
            limit: format!("sound, and {limit} lost"),
            control: "power loss with synchronous=OFF is caught (row 20)".into(),
            pass: failures.is_empty() && lost_most <= limit && kills >= each / 2,
            scale,
        }
        .hold();
    }
}
