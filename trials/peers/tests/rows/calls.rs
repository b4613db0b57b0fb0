//! Rows 2, 3, 5, 12 and 13: many clients at once, more than the limit, many one after the other, and the ways they
//! close.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use trials_peers::{
    Process, Serve,
    meter::kib,
    naive::{BUFFERS, LEAKS, Naive, WANTS_NEWLINES},
    namespace::alone,
    peer::{GoodPeers, Seen, ask, call, call_from, calls, finish, reset, rest},
};
use trials_report::{Row, Scale};

/// Waits until a process has at most this many open files.
fn until_closed(process: Process, files: usize) -> usize {
    let deadline = Instant::now() + Duration::from_secs(20);
    while process.files() > files && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    process.files()
}

#[test]
fn idle_connections_cost_little() {
    alone("calls::idle_connections_cost_little", idle);
}

fn idle() {
    let scale = Scale::asked();
    let count = scale.pick(5_000, 10_000);
    let serve = Serve::start(&["upper=:0", "--max-connections", "16000"]);
    ask(&mut call(serve.at[0]), b"x", b"X").unwrap();
    let server = serve.process();
    let files = until_closed(server, server.files() - 1);
    let before = server.resident();
    let mut peers = calls(serve.at[0], count);
    for peer in &mut peers {
        ask(peer, b"hello", b"HELLO").unwrap();
    }
    let each = server.resident().saturating_sub(before) / count as u64;
    let open = server.files() - files;
    drop(peers);
    let left = until_closed(server, files).saturating_sub(files);
    let first = server.resident();
    let mut peers = calls(serve.at[0], count);
    for peer in &mut peers {
        ask(peer, b"hello", b"HELLO").unwrap();
    }
    let again = server.resident().saturating_sub(first);
    drop(peers);
    until_closed(server, files);
    let most = scale.pick(5_000, 15_000);
    let mut peers = calls(serve.at[0], most);
    for peer in &mut peers {
        ask(peer, b"hello", b"HELLO").unwrap();
    }
    drop(peers);

    let naive = Naive::start(BUFFERS);
    let (naive_before, naive_count) = (naive.process().resident(), 500);
    let mut peers = calls(naive.at, naive_count);
    for peer in &mut peers {
        ask(peer, b"hello", b"hello").unwrap();
    }
    let naive_each = naive.process().resident().saturating_sub(naive_before) / naive_count as u64;
    Row {
        row: 2,
        hazard: "many clients at once".into(),
        load: format!("{count}, idle after one exchange each"),
        observed: format!(
            "{count} right answers; {} each; {left} files open after they left; as many again take {} more; then {most} right \
             answers to {most} at once",
            kib(each),
            kib(again)
        ),
        limit: "12 KiB each; no file left; 4 MiB more, since freed memory is used again".into(),
        control: format!(
            "a server with a buffer for each client: {} each",
            kib(naive_each)
        ),
        pass: each <= 12 << 10
            && open >= count
            && left == 0
            && again <= 4 << 20
            && naive_each > 12 << 10,
        scale,
    }
    .hold();
}

#[test]
fn connection_churn_leaks_nothing() {
    alone("calls::connection_churn_leaks_nothing", churn);
}

/// Runs this many conversations, each a connect, a request, a reply and a close; four at a time.
fn connect_and_disconnect(at: SocketAddr, count: usize, reply: &'static [u8]) {
    let peers: Vec<_> = (0..4)
        .map(|peer| {
            let source = Ipv4Addr::new(127, 0, 0, 2 + peer);
            thread::spawn(move || {
                for _ in 0..count / 4 {
                    let mut stream = call_from(source, at).unwrap();
                    ask(&mut stream, b"hello", reply).unwrap();
                }
            })
        })
        .collect();
    for peer in peers {
        peer.join().unwrap();
    }
}

fn churn() {
    let scale = Scale::asked();
    let count = scale.pick(20_000, 50_000);
    let serve = Serve::start(&["upper=:0"]);
    let server = serve.process();
    connect_and_disconnect(serve.at[0], 4, b"HELLO");
    let files = until_closed(server, server.files() - 1);
    let warm = server.resident();
    connect_and_disconnect(serve.at[0], count, b"HELLO");
    let left = until_closed(server, files).saturating_sub(files);
    let grown = server.resident().saturating_sub(warm);
    let (stopped, _home) = serve.stop();

    // The same without a record, whose page cache takes up to 2 MiB: then memory must not grow.
    let plain = Serve::start(&["upper=:0", "--store", "none"]);
    connect_and_disconnect(plain.at[0], count / 4, b"HELLO");
    let warm = plain.process().resident();
    connect_and_disconnect(plain.at[0], count / 2, b"HELLO");
    let plainly = plain.process().resident().saturating_sub(warm);

    let naive = Naive::start(LEAKS);
    let naive_files = naive.process().files();
    connect_and_disconnect(naive.at, 400, b"hello");
    let naive_left = naive.process().files().saturating_sub(naive_files);
    Row {
        row: 5,
        hazard: "clients that connect and disconnect".into(),
        load: format!("{count} conversations, 4 at a time from 4 addresses"),
        observed: format!(
            "{count} right answers, {} recorded, {} lost; {left} files left; memory grew by {}, and by {} \
             over {} without a record",
            stopped.recorded - 4,
            stopped.lost,
            kib(grown),
            kib(plainly),
            count / 2
        ),
        limit: "every one recorded; no file; 10 MiB, of which 2 are the record's pages; 512 KiB without".into(),
        control: format!("a server that forgets to close: {naive_left} files left of 400"),
        pass: stopped.recorded == count as u64 + 4
            && stopped.lost == 0
            && stopped.in_order
            && left == 0
            && grown <= 10 << 20
            && plainly <= 512 << 10
            && naive_left == 400,
        scale,
    }
    .hold();
}

#[test]
fn resets_are_recorded_and_others_continue() {
    alone("calls::resets_are_recorded_and_others_continue", resets);
}

fn resets() {
    let scale = Scale::asked();
    let (count, bytes) = (scale.pick(200, 1_000), 1 << 20);
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::write(&text, "x".repeat(bytes)).unwrap();
    let greet = format!("greet:@{}", text.display());
    let serve = Serve::start(&[
        "upper=:0", ":0", "greet=:0", "--as", &greet, "--sndbuf", "64k",
    ]);
    let server = serve.process();
    ask(&mut call(serve.at[0]), b"x", b"X").unwrap();
    let files = until_closed(server, server.files() - 1);
    let good = GoodPeers::start(serve.at[0], 2, Duration::from_millis(5));
    for _ in 0..count {
        let mut peer = call(serve.at[1]);
        // Less than the reply minus what the kernels buffer between us: not all of it has been sent.
        let mut taken = vec![0; fastrand::usize(1..1024)];
        peer.read_exact(&mut taken).unwrap();
        reset(peer);
        // A short reply has been sent completely when its reader closes.
        let mut peer = call(serve.at[2]);
        peer.read_exact(&mut [0]).unwrap();
        reset(peer);
    }
    let orderly = 20;
    for _ in 0..orderly {
        let mut peer = call(serve.at[1]);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), bytes);
        finish(&peer);
    }
    let good = good.stop().map(|times| times.len());
    let left = until_closed(server, files).saturating_sub(files);
    let recorded = serve.ended("peer-reset", 2 * count);
    let in_order = serve.ended("service-closed", orderly);
    let warnings = serve.stderr().lines().count();
    Row {
        row: 13,
        hazard: "resets during a reply".into(),
        load: format!(
            "{count} clients that reset at a random byte of a reply of 1 MiB, with `--sndbuf 64k`, and as many at the first \
             of a short one"
        ),
        observed: format!(
            "{recorded} recorded as `peer-reset`; {left} files left; {warnings} lines on standard error; \
             {} answers to two good peers beside, all right",
            good.as_ref().map_or(0, |answers| *answers)
        ),
        limit: format!("{} so recorded; no file left; no more than 20 lines", 2 * count),
        control: format!(
            "{orderly} clients that read it all are recorded as `service-closed`: {in_order}"
        ),
        pass: recorded == 2 * count && in_order == orderly && left == 0 && warnings <= 20 && good.is_ok(),
        scale,
    }
    .hold();
}

#[test]
fn excess_connection_gets_a_clean_close() {
    alone("calls::excess_connection_gets_a_clean_close", too_many);
}

/// Of this many that each send something: how many are answered, end in order, and are reset.
fn crowd(at: SocketAddr, count: usize) -> (usize, usize, usize) {
    let mut peers = calls(at, count);
    let (mut answered, mut ended, mut reset) = (0, 0, 0);
    for peer in &mut peers {
        let mut received = [0; 5];
        match peer
            .write_all(b"hello")
            .and_then(|()| peer.read(&mut received))
        {
            Ok(5) => answered += 1,
            Ok(_) => ended += 1,
            Err(_) => reset += 1,
        }
    }
    (answered, ended, reset)
}

fn too_many() {
    let serve = Serve::start(&["upper=:0", "--max-connections", "100"]);
    let (answered, ended, reset) = crowd(serve.at[0], 150);
    let recorded = serve.ended("too-many-connections", 50);
    let open = Serve::start(&["upper=:0"]);
    let control = crowd(open.at[0], 150);
    Row {
        row: 3,
        hazard: "more clients than the limit".into(),
        load: "150 with `--max-connections 100`, each of which sends a request".into(),
        observed: format!(
            "{answered} answered, {ended} ended in order, {reset} reset; {recorded} recorded as `too-many-connections`"
        ),
        limit: "100, 50, 0; 50".into(),
        control: format!("without the option {} of 150 are answered", control.0),
        pass: (answered, ended, reset, recorded) == (100, 50, 0, 50) && control == (150, 0, 0),
        scale: Scale::asked(),
    }
    .hold();
}

#[test]
fn half_close_ends_requests_but_not_replies() {
    alone(
        "calls::half_close_ends_requests_but_not_replies",
        half_close,
    );
}

/// Sends a thousand lines and one unfinished, shuts down its half, and counts the right replies.
fn answered_after_half_close(at: SocketAddr) -> usize {
    let mut peer = call(at);
    let lines: Vec<String> = (0..1000).map(|i| format!("line {i}\n")).collect();
    let mut writer = peer.try_clone().unwrap();
    let request = lines.concat() + "the last";
    let saying = thread::spawn(move || {
        writer.write_all(request.as_bytes()).unwrap();
        finish(&writer);
    });
    let (received, seen) = rest(&mut peer);
    saying.join().unwrap();
    assert_eq!(seen, Seen::End);
    let received = String::from_utf8(received).unwrap();
    let expected = lines
        .iter()
        .map(|line| line.to_uppercase())
        .chain(["THE LAST".to_owned()]);
    received
        .split_inclusive('\n')
        .zip(expected)
        .filter(|(received, line)| received == line)
        .count()
}

fn half_close() {
    let scale = Scale::asked();
    let times = scale.pick(20, 200);
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    let right: usize = (0..times)
        .map(|_| answered_after_half_close(serve.at[0]))
        .sum();
    let (stopped, _home) = serve.stop();
    let naive = Naive::start(WANTS_NEWLINES);
    let control = answered_after_half_close(naive.at);
    Row {
        row: 12,
        hazard: "half-close".into(),
        load: format!("{times} × 1,000 lines and one without an end, then FIN, then reading"),
        observed: format!(
            "{right} right replies in order, then the end; {} recorded",
            stopped.recorded
        ),
        limit: format!("{}", times * 1001),
        control: format!("a server that waits for a newline: {control} of 1001"),
        pass: right == times * 1001 && stopped.recorded == right as u64 && control == 1000,
        scale,
    }
    .hold();
}
