//! Rows 1, 2 and 6 at once, with a limit on all memory.

use std::{thread, time::Duration};

use trials_peers::{
    Serve,
    cgroup::MemoryGroup,
    meter::{ByTurns, kib, time},
    naive::{BUFFERS, Naive},
    namespace::alone,
    peer::{GoodPeers, ask, calls, push},
};
use trials_report::{Row, Scale};

use crate::memory::push_all;

const MEMORY: u64 = 256 << 20;

#[test]
fn idle_slow_and_non_reading_peers_fit_in_256_mib() {
    alone(
        "together::idle_slow_and_non_reading_peers_fit_in_256_mib",
        trial,
    );
}

fn trial() {
    let scale = Scale::asked();
    let (idle, unread, slow) = scale.pick((1_000, 50, 200), (10_000, 500, 2_000));
    let group = match MemoryGroup::of("together", MEMORY) {
        Ok(group) => group,
        Err(why) => {
            assert!(
                scale == Scale::Test,
                "no group for memory can be made: {why}"
            );
            return trials_skip::skip(format_args!("no group for memory can be made: {why}"));
        }
    };
    let args = [
        "upper=:0",
        "echo=:0?frame=chunk",
        "--frame",
        "line",
        "--sndbuf",
        "64k",
        "--max-connections",
        "15000",
        "--message-timeout",
        "1h",
        "--write-timeout",
        "1h",
    ];
    let serve = Serve::start(&args);
    group.hold(serve.process().0);
    // The same without a load, alternately, to measure the machine's own noise.
    let calm = Serve::start(&args);
    let mut idle_peers = calls(serve.at[0], idle);
    for peer in &mut idle_peers {
        ask(peer, b"hello\n", b"HELLO\n").unwrap();
    }
    let mut slow_peers = calls(serve.at[0], slow);
    let mut unread_peers = calls(serve.at[1], unread);
    push_all(&mut unread_peers, 20 << 20);
    let (turns, seconds) = scale.pick((1, 3), (3, 10));
    let mut fair = ByTurns::default();
    for _ in 0..turns {
        let without = GoodPeers::during(calm.at[0], 10, Duration::from_secs(2)).unwrap();
        let good = GoodPeers::start(serve.at[0], 10, Duration::from_millis(5));
        for _ in 0..seconds {
            for peer in &mut slow_peers {
                push(peer, b"x");
            }
            thread::sleep(Duration::from_secs(1));
        }
        let with = good.stop().expect("good peers are answered rightly");
        fair.add(without, with);
    }
    let held = serve.process().files();
    let resident = serve.process().resident();
    let still_right = idle_peers
        .iter_mut()
        .filter_map(|peer| ask(peer, b"again\n", b"AGAIN\n").ok())
        .count();
    let (peak, killed) = (group.peak(), group.has_killed());
    drop((idle_peers, slow_peers, unread_peers));
    drop(serve);

    let naive_group = MemoryGroup::of("naive", MEMORY).unwrap();
    let naive = Naive::start(BUFFERS);
    naive_group.hold(naive.process().0);
    let mut peers = calls(naive.at, 50);
    push_all(&mut peers, 20 << 20);
    let naive_killed = naive_group.has_killed();
    drop(naive);

    Row {
        row: 6,
        hazard: "all of these at once, in 256 MiB".into(),
        load: format!(
            "{idle} idle, {unread} that never read, {slow} that send a byte a second, and 10 good peers, in a cgroup of 256 MiB"
        ),
        observed: format!(
            "{held} files open; {} of memory, {} of the group at most; {still_right} of {idle} idle ones answered again; p99 of the \
             good {}, {} without",
            kib(resident),
            peak.map_or_else(|| "unknown".to_owned(), kib),
            time(fair.with()),
            time(fair.without())
        ),
        limit: format!(
            "not killed; all answered; p99 {} (twice that without, or 5 ms in the full run)",
            time(fair.allowed(scale))
        ),
        control: format!("a server that buffers what it cannot send, with 50 that never read: killed: {naive_killed}"),
        pass: !killed && still_right == idle && fair.holds(scale) && held >= idle + unread + slow && naive_killed,
        scale,
    }
    .hold();
}
