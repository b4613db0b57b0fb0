//! Row 6 again: recording of one conversation does not delay another.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use trials_peers::{
    Serve,
    meter::{ByTurns, kib, time},
    naive::{BUFFERS, Naive},
    namespace::alone,
    peer::{GoodPeers, calls, push},
};
use trials_report::{Row, Scale};

/// Sends to the first endpoint over this many connections as much as they take, and reads nothing, until stopped;
/// returns the number of bytes.
fn start_heavy_senders(
    at: SocketAddr,
    count: usize,
    stop: &Arc<AtomicBool>,
) -> thread::JoinHandle<u64> {
    let mut peers = calls(at, count);
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

/// Sends for a second.
fn push_a_second(at: SocketAddr, count: usize) {
    let stop = Arc::<AtomicBool>::default();
    let pushing = start_heavy_senders(at, count, &stop);
    thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    pushing.join().unwrap();
}

/// Measures good peers at `upper` while others flood the first endpoint, and how much those sent.
fn latency_under_heavy_senders(serve: &Serve, count: usize) -> (Vec<Duration>, u64) {
    let stop = Arc::<AtomicBool>::default();
    let pushing = start_heavy_senders(serve.at[0], count, &stop);
    let times = GoodPeers::during(serve.at[1], 4, Duration::from_secs(1)).unwrap();
    stop.store(true, Ordering::Relaxed);
    (times, pushing.join().unwrap())
}

#[test]
fn heavy_senders_do_not_delay_others() {
    alone("fairness::heavy_senders_do_not_delay_others", || {
        let scale = Scale::asked();
        let count = scale.pick(50, 200);
        let drops = Serve::start(&[
            "discard=:0",
            "upper=:0",
            "--retention",
            "all",
            "--when-full",
            "drop",
        ]);
        push_a_second(drops.at[0], count);
        let (dropped, _home) = drops.stop();
        let control = format!(
            "with `--when-full drop` {} of {} are lost, and counted",
            dropped.lost, dropped.served
        );
        trial("discard", count, scale, &control, dropped.lost > 0);
    });
}

#[test]
fn heavy_senders_that_never_read_do_not_delay_others() {
    alone(
        "fairness::heavy_senders_that_never_read_do_not_delay_others",
        || {
            let scale = Scale::asked();
            let naive = Naive::start(BUFFERS);
            let before = naive.process().resident();
            push_a_second(naive.at, 50);
            let grown = naive.process().resident_peak().saturating_sub(before);
            drop(naive);
            let control = format!(
                "a server that buffers what it cannot send, with 50 such peers: {}",
                kib(grown)
            );
            trial(
                "echo",
                scale.pick(50, 200),
                scale,
                &control,
                grown > 64 << 20,
            );
        },
    );
}

/// Measures good peers beside `count` that flood `service`, with everything recorded and with nothing recorded.
fn trial(service: &str, count: usize, scale: Scale, control: &str, control_fails: bool) {
    let rounds = scale.pick(2, 5);
    let endpoint = format!("{service}=:0");
    let serve = Serve::start(&[&endpoint, "upper=:0", "--retention", "all"]);
    let unrecorded = Serve::start(&[&endpoint, "upper=:0", "--store", "none"]);
    let before = serve.process().resident();
    let (mut fair, mut quiet) = (ByTurns::saturating(), ByTurns::default());
    let (mut answers, mut plain_answers, mut pushed) = (0, 0, 0);
    for _ in 0..rounds {
        let alone = GoodPeers::during(serve.at[1], 4, Duration::from_secs(1)).unwrap();
        let (busy, bytes) = latency_under_heavy_senders(&serve, count);
        let (plain, _) = latency_under_heavy_senders(&unrecorded, count);
        pushed += bytes;
        answers += busy.len();
        plain_answers += plain.len();
        quiet.add(alone, Vec::new());
        fair.add(plain, busy);
    }
    let grown = serve.process().resident_peak().saturating_sub(before);
    let (stopped, _home) = serve.stop();
    // A busy machine stretches times beyond any limit, but for all alike: replies are counted as well.
    let is_fair = answers * 10 >= plain_answers && fair.holds(scale);
    let reads = if service == "discard" {
        ""
    } else {
        ", and read nothing"
    };
    Row {
        row: 6,
        hazard: format!("peers that send more than can be recorded{reads}"),
        load: format!(
            "{count} push at `{service}` all they can{reads}, {} in all, {rounds} × 1 s, others each time; 4 good peers at `upper`",
            kib(pushed)
        ),
        observed: format!(
            "p99 of the good peers {}; {} beside the same push where nothing is recorded, {} without the push; {answers} answers, \
             {plain_answers} where nothing is recorded; {} served, {} recorded, {} lost; memory grew by {}",
            time(fair.with()),
            time(fair.without()),
            time(quiet.without()),
            stopped.served,
            stopped.recorded,
            stopped.lost,
            kib(grown)
        ),
        // All share the cores: the flood's own CPU use is not caused by the record.
        limit: format!(
            "{} (twice that where nothing is recorded, or {} where all cores are full), and a tenth of the answers at least; served = \
             recorded + lost, and 0 lost; 192 MiB (64 behind, as much being committed, the record's pages)",
            time(fair.allowed(scale)),
            time(fair.floor(scale))
        ),
        control: control.to_owned(),
        pass: is_fair
            && stopped.lost == 0
            && stopped.in_order
            && stopped.served == stopped.recorded
            && grown <= 192 << 20
            && control_fails,
        scale,
    }
    .hold();
}
