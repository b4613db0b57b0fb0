//! Rows 6 and 9: peers that never read, and a line without an end.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use trials_peers::{
    Serve,
    meter::{kib, send_queues, time},
    naive::{BUFFERS, Naive},
    namespace::alone,
    peer::{GoodPeers, Seen, call, calls, finish, look, push, rest},
};
use trials_report::{Row, Scale};

/// Each sends what it can of this many bytes and reads nothing, until no more is taken.
pub(crate) fn push_all(peers: &mut [TcpStream], bytes: usize) -> usize {
    let chunk = vec![b'x'; 64 << 10];
    let mut left = vec![bytes; peers.len()];
    let (mut pushed, mut moved_at) = (0, Instant::now());
    while moved_at.elapsed() < Duration::from_millis(700) {
        for (peer, left) in peers.iter_mut().zip(&mut left) {
            let n = push(peer, &chunk[..chunk.len().min(*left)]);
            *left -= n;
            pushed += n;
            if n > 0 {
                moved_at = Instant::now();
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    pushed
}

#[test]
fn peers_that_never_read_cost_little_and_are_closed() {
    alone(
        "memory::peers_that_never_read_cost_little_and_are_closed",
        never_read,
    );
}

/// Measures the memory for this many peers that send and do not read.
fn unread(count: usize, more: &[&str]) -> u64 {
    let args = ["echo=:0", "--sndbuf", "64k", "--write-timeout", "1h"];
    let serve = Serve::start(&[&args, more].concat());
    let before = serve.process().resident();
    let mut peers = calls(serve.at[0], count);
    push_all(&mut peers, 20 << 20);
    serve.process().resident().saturating_sub(before)
}

fn never_read() {
    let scale = Scale::asked();
    let count = scale.pick(50, 500);
    let stall = Duration::from_secs(scale.pick(4, 10));
    let stall_text = format!("{}s", stall.as_secs());
    let args = [
        "echo=:0",
        "upper=:0",
        "--sndbuf",
        "64k",
        "--write-timeout",
        &stall_text,
    ];
    let serve = Serve::start(&args);
    let server = serve.process();
    let good = GoodPeers::start(serve.at[1], 5, Duration::from_millis(5));
    let before = server.resident();
    let mut peers = calls(serve.at[0], count);
    let pushed = push_all(&mut peers, 20 << 20);
    let grown = server.resident().saturating_sub(before);
    let queue = send_queues(serve.at[0]).into_iter().max().unwrap_or(0);
    let still = Instant::now();
    let recorded = serve.ended_within("write-timeout", count, stall + Duration::from_secs(10));
    let took = still.elapsed();
    let good = good.stop().map(|times| times.len());
    drop(peers);

    let plain = unread(count, &["--store", "none"]);
    // A reply of one read each, its buffer and its task.
    let own = count as u64 * (68 << 10);
    // Their requests are recorded too, until the kernel buffers are full.
    let memory = own + (64 << 20) + (8 << 20);
    let naive = Naive::start(BUFFERS);
    let naive_before = naive.process().resident();
    let mut few = calls(naive.at, 10);
    push_all(&mut few, 20 << 20);
    let naive_grown = naive.process().resident().saturating_sub(naive_before);
    Row {
        row: 6,
        hazard: "peers that never read".into(),
        load: format!(
            "{count} push up to 20 MiB each at `echo` and read nothing, with `--sndbuf 64k --write-timeout {stall_text}`"
        ),
        observed: format!(
            "the kernels took {} of it; memory grew by {}, and by {} where nothing is recorded; at most {} unsent in the kernel for one; {recorded} recorded as \
             `write-timeout` within {} of the last byte; {} answers to five good peers, all right",
            kib(pushed as u64),
            kib(grown),
            kib(plain),
            kib(queue),
            time(took),
            good.as_ref().map_or(0, |answers| *answers)
        ),
        limit: format!(
            "{}, and {} without a record (68 KiB each; 64 MiB may wait for the record, and 8 are its pages and what is being committed); 256 KiB; all \
             ended within {}",
            kib(memory),
            kib(own),
            time(stall + Duration::from_secs(6))
        ),
        control: format!("a server that buffers what it cannot send, with 10 such peers: {}", kib(naive_grown)),
        pass: grown <= memory
            && plain <= own
            && queue <= 256 << 10
            && recorded == count
            && took <= stall + Duration::from_secs(6)
            && good.is_ok()
            && naive_grown > 64 << 20,
        scale,
    }
    .hold();
}

#[test]
fn endless_line_is_answered_in_chunks_or_closed() {
    alone(
        "memory::endless_line_is_answered_in_chunks_or_closed",
        endless,
    );
}

/// Sends this many bytes of one line, and counts the right bytes that come back.
fn endless_line(at: SocketAddr, bytes: u64) -> (u64, Seen) {
    let mut stream = call(at);
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let piece = vec![b'a'; 64 << 10];
        for _ in 0..bytes / piece.len() as u64 {
            if writer.write_all(&piece).is_err() {
                return;
            }
        }
        finish(&writer);
    });
    let (mut room, right_answer, mut right) = (vec![0; 64 << 10], vec![b'A'; 64 << 10], 0);
    let seen = loop {
        match stream.read(&mut room) {
            Ok(0) => break Seen::End,
            Ok(n) => {
                right += if room[..n] == right_answer[..n] {
                    n as u64
                } else {
                    0
                }
            }
            Err(_) => break Seen::Reset,
        }
    };
    writing.join().unwrap();
    (right, seen)
}

fn endless() {
    let scale = Scale::asked();
    let bytes = scale.pick(64 << 20, 4_u64 << 30);
    let serve = Serve::start(&["upper=:0", "--store", "none"]);
    assert_eq!(endless_line(serve.at[0], 1 << 20), (1 << 20, Seen::End));
    let before = serve.process().resident();
    let (right, _) = endless_line(serve.at[0], bytes);
    let grown = serve.process().resident().saturating_sub(before);

    let lines = Serve::start(&["upper=:0", "--frame", "line"]);
    let mut peer = call(lines.at[0]);
    for _ in 0..40 {
        push(&mut peer, &vec![b'a'; 64 << 10]);
        thread::sleep(Duration::from_millis(10));
        if look(&mut peer) != Seen::Open {
            break;
        }
    }
    let (received, _) = rest(&mut peer);
    drop(peer);
    let recorded = lines.ended("message-too-long", 1);
    let peak = lines.process().resident_peak();

    let large = Serve::start(&[
        "upper=:0",
        "--frame",
        "line",
        "--store",
        "none",
        "--max-message",
        "1G",
    ]);
    let large_before = large.process().resident();
    endless_line(large.at[0], 64 << 20);
    let large_grown = large.process().resident_peak().saturating_sub(large_before);
    Row {
        row: 9,
        hazard: "a line that never ends".into(),
        load: format!("{} of `a` to `upper`", kib(bytes)),
        observed: format!(
            "{} of `A` back; memory grew by {}; with `--frame line` nothing is answered, and {recorded} recorded as \
             `message-too-long` (at most {} of memory)",
            kib(right),
            kib(grown),
            kib(peak)
        ),
        limit: "all of it; 1 MiB; one ended at 1 MiB".into(),
        control: format!("`--frame line --max-message 1G`, 64 MiB: memory grows by {}", kib(large_grown)),
        pass: right == bytes
            && grown <= 1 << 20
            && recorded == 1
            && received.is_empty()
            && large_grown > 32 << 20,
        scale,
    }
    .hold();
}
