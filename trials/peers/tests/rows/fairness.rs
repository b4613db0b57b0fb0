//! Row 6 again: what one conversation has recorded does not hold up another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use trials_peers::{
    Serve,
    meter::{kib, p99, time},
    namespace::alone,
    peer::{GoodPeers, calls, push},
};
use trials_report::{Row, Scale};

/// Pushes at `discard` through so many connections, all they take, until told to stop; how much that was.
fn pushers(serve: &Serve, count: usize, stop: &Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    let mut peers = calls(serve.at[0], count);
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let piece = vec![b'x'; 64 << 10];
        let mut pushed = 0;
        while !stop.load(Ordering::Relaxed) {
            let before = pushed;
            for peer in &mut peers {
                pushed += push(peer, &piece) as u64;
            }
            if before == pushed {
                thread::sleep(Duration::from_millis(1));
            }
        }
        pushed
    })
}

#[test]
fn peers_that_push_all_they_can_do_not_hold_up_the_others() {
    alone(
        "fairness::peers_that_push_all_they_can_do_not_hold_up_the_others",
        trial,
    );
}

/// What good peers at `upper` take while others push at `discard`, and how much those pushed.
fn pushed_at(serve: &Serve, count: usize) -> (Vec<Duration>, u64) {
    let stop = Arc::<AtomicBool>::default();
    let pushing = pushers(serve, count, &stop);
    let times = GoodPeers::during(serve.at[1], 4, Duration::from_secs(1)).unwrap();
    stop.store(true, Ordering::Relaxed);
    (times, pushing.join().unwrap())
}

fn trial() {
    let scale = Scale::asked();
    let (count, rounds) = scale.pick((50, 2), (200, 5));
    let serve = Serve::start(&["discard=:0", "upper=:0", "--keep", "all"]);
    let unrecorded = Serve::start(&["discard=:0", "upper=:0", "--store", "none"]);
    let before = serve.process().resident();
    let (mut quiet, mut busy, mut plain, mut pushed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    // By turns, since what a machine gives changes from one second to the next.
    for _ in 0..rounds {
        quiet.extend(GoodPeers::during(serve.at[1], 4, Duration::from_secs(1)).unwrap());
        let (times, bytes) = pushed_at(&serve, count);
        busy.extend(times);
        pushed += bytes;
        plain.extend(pushed_at(&unrecorded, count).0);
    }
    let (answers, plain_answers) = (busy.len(), plain.len());
    let grown = serve.process().resident_peak().saturating_sub(before);
    let (stopped, _home) = serve.stop();

    let drops = Serve::start(&[
        "discard=:0",
        "upper=:0",
        "--keep",
        "all",
        "--when-behind",
        "drop",
    ]);
    let stop = Arc::<AtomicBool>::default();
    let pushing = pushers(&drops, count, &stop);
    thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    pushing.join().unwrap();
    let (dropped, _home) = drops.stop();

    let (quiet, busy, plain) = (p99(&mut quiet), p99(&mut busy), p99(&mut plain));
    // Two cores are shared by them all: a good peer waits for the processor as well.
    let allowed = (quiet.max(plain) * 2).max(Duration::from_millis(50));
    // A busy machine stretches times beyond any limit, but it does so for all: the small run counts answers instead.
    let fair = answers * 10 >= plain_answers && scale.pick(true, busy <= allowed);
    Row {
        row: 6,
        hazard: "peers that push more than can be recorded".into(),
        load: format!(
            "{count} push at `discard` all they can, {} in all, {rounds} × 1 s, others each time; 4 good ones at `upper`",
            kib(pushed)
        ),
        observed: format!(
            "p99 of the good {}; {} where nothing is recorded, {} without the push; {answers} answers, {plain_answers} there; {} served, {} recorded, {} \
             lost; memory grew by {}",
            time(busy),
            time(plain),
            time(quiet),
            stopped.served,
            stopped.recorded,
            stopped.lost,
            kib(grown)
        ),
        limit: format!(
            "{} (twice the larger of the others, or 50 ms), and a tenth of the answers at least; served = recorded + lost, and 0 lost; 192 MiB (64 behind, as much \
             being kept, the record's pages)",
            time(allowed)
        ),
        control: format!("with `--when-behind drop` {} of {} are lost, and counted", dropped.lost, dropped.served),
        pass: fair
            && stopped.lost == 0
            && stopped.in_order
            && stopped.served == stopped.recorded
            && grown <= 192 << 20
            && dropped.lost > 0,
        scale,
    }
    .hold();
}
