//! Slow but steady readers, over TCP and Unix sockets: they get everything, from `serve` and from `connect`; readers that
//! have stopped do not; and connections that are only idle do not delay the stop.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    process::Stdio,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use self::harness::{Home, SOON, Serve, repeat_while};

/// A stream of either kind.
trait Peer: Read + Write + Send {
    /// Ends our half.
    fn finish(&self) -> io::Result<()>;
}

impl Peer for TcpStream {
    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Peer for UnixStream {
    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// The kind of a connection, its reader and its writer.
type Connection = (&'static str, Box<dyn Peer>, Box<dyn Peer>);

/// Endpoints of both kinds in the server's directory.
const BOTH: [&str; 2] = ["echo=127.0.0.1:0", "echo=unix:s"];

/// Connects to each endpoint of [`BOTH`].
fn call(serve: &Serve) -> [Connection; 2] {
    let tcp = TcpStream::connect(serve.at[0]).unwrap();
    tcp.set_read_timeout(Some(SOON)).unwrap();
    let unix = UnixStream::connect(serve.home.path().join("s")).unwrap();
    unix.set_read_timeout(Some(SOON)).unwrap();
    [
        ("tcp", Box::new(tcp.try_clone().unwrap()), Box::new(tcp)),
        ("unix", Box::new(unix.try_clone().unwrap()), Box::new(unix)),
    ]
}

/// Sends `bytes` bytes and the end of the stream from a thread of its own, as far as the server takes them.
fn send(mut writer: Box<dyn Peer>, bytes: usize) -> JoinHandle<()> {
    thread::spawn(move || {
        let _ = writer.write_all(&vec![b'x'; bytes]);
        let _ = writer.finish();
    })
}

/// What a slow reader has read.
struct Slowly {
    /// How many bytes there were until the end of the stream.
    all: io::Result<usize>,
    /// The longest time from one read to the next.
    longest: Duration,
}

impl Slowly {
    /// Whether this process itself paused for about as long as a timeout of a second allows: the test is then no test.
    fn is_spoilt(&self) -> bool {
        self.longest >= 800 * MS
    }
}

/// Reads `step` bytes at a time with a pause after each for `slow`, then as fast as it can.
fn read_slowly(mut reader: impl Read, step: usize, pause: Duration, slow: Duration) -> Slowly {
    let began = Instant::now();
    let (mut all, mut last, mut longest) = (0, began, Duration::ZERO);
    let mut buffer = vec![0; step.max(100_000)];
    let all = loop {
        let is_slow = began.elapsed() < slow;
        let room = if is_slow { step } else { buffer.len() };
        let read = reader.read(&mut buffer[..room]);
        longest = longest.max(last.elapsed());
        last = Instant::now();
        match read {
            Ok(0) => break Ok(all),
            Ok(n) => all += n,
            Err(error) => break Err(error),
        }
        if is_slow {
            thread::sleep(pause);
        }
    };
    Slowly { all, longest }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Bytes that a client sends to a slow peer.
const UPLOAD: usize = 2_000_000;

/// For three write timeouts the peer takes so little that epoll reports no room; a byte at a time, too.
#[test]
fn slow_reader_gets_all_that_was_echoed() {
    const ALL: usize = 8_000_000;
    for (step, pause) in [(20_000, 200 * MS), (1, 20 * MS)] {
        let attempt = || {
            let serve = Serve::start(&[&BOTH[..], &["--write-timeout", "1s"]].concat());
            let peers = call(&serve).map(|(kind, mut reader, writer)| {
                let reading = thread::spawn(move || {
                    let slowly = read_slowly(&mut reader, step, pause, 3500 * MS);
                    (slowly, reader)
                });
                (kind, reading, send(writer, ALL))
            });
            let peers = peers.map(|(kind, reading, sent)| {
                let (slowly, _reader) = reading.join().unwrap();
                sent.join().unwrap();
                (kind, slowly)
            });
            (serve, peers)
        };
        let is_spoilt =
            |(_, peers): &(_, [(_, Slowly); 2])| peers.iter().any(|peer| peer.1.is_spoilt());
        let (serve, peers) = repeat_while(5, is_spoilt, attempt);
        for (kind, slowly) in peers {
            assert_eq!(slowly.all.unwrap(), ALL, "{kind}, {step} at a time");
        }
        let home = Arc::clone(&serve.home);
        serve.stop();
        let ended = home.sql("SELECT DISTINCT received, sent, unsent FROM conversation");
        assert_eq!(ended, [format!("{ALL}|{ALL}|0")]);
    }
}

#[test]
fn stalled_reader_is_ended_by_the_write_timeout() {
    let serve = Serve::start(&[&BOTH[..], &["--write-timeout", "1s"]].concat());
    let peers = call(&serve).map(|(_, reader, writer)| (reader, send(writer, 20_000_000)));
    let began = Instant::now();
    let sql = "SELECT count(*) FROM conversation WHERE reason = 'write-timeout' AND unsent > 0";
    harness::until("both are ended", || serve.home.sql(sql) == ["2"]);
    // A second without progress, an eighth for the looks, 2 s of linger, and time for a busy machine.
    assert!(began.elapsed() < 12 * SECOND, "{:?}", began.elapsed());
    for (reader, sent) in peers {
        drop(reader);
        sent.join().unwrap();
    }
}

/// The server ends the conversation (its last line is too long) while most of the replies are on their way; the peer
/// sends on, so a close would reset the connection. The stop comes meanwhile.
#[test]
fn slow_reader_gets_all_although_the_server_has_ended_the_conversation() {
    const LINES: usize = 10_000;
    let attempt = || {
        let args = ["--frame", "line", "--max-message", "100"];
        let mut serve = Serve::start(&[&["echo=127.0.0.1:0"], &args[..]].concat());
        let stream = TcpStream::connect(serve.at[0]).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || {
            let line = [&[b'x'; 79][..], b"\n"].concat();
            let whole = writer.write_all(&line.repeat(LINES));
            let longer = whole.and_then(|()| writer.write_all(&[b'y'; 200]));
            // More than the 2 s that a silent peer gets.
            write_slowly(&writer, longer)
        });
        thread::sleep(500 * MS);
        serve.signal(Signal::TERM);
        let read = read_slowly(&stream, 50_000, 300 * MS, 4 * SECOND);
        let written = writing.join().unwrap();
        drop(stream);
        (read, written, serve.ends())
    };
    let is_spoilt = |(read, (_, longest), _): &(Slowly, (_, Duration), _)| {
        read.longest.max(*longest) >= 1500 * MS
    };
    let (read, (written, _), stopped) = repeat_while(5, is_spoilt, attempt);
    assert_eq!(read.all.unwrap(), 80 * LINES);
    written.unwrap();
    assert_eq!((stopped.code, stopped.lost), (Some(0), 0));
}

/// Goes on for 4 s with a byte every 500 ms. Returns the longest time between two of them as well.
fn write_slowly(mut writer: &TcpStream, mut written: io::Result<()>) -> (io::Result<()>, Duration) {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    for _ in 0..8 {
        thread::sleep(500 * MS);
        written = written.and_then(|()| writer.write_all(b"z"));
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    (written, longest)
}

#[test]
fn idle_connections_end_in_milliseconds_at_the_stop() {
    for connections in [0, 1, 100] {
        // The best of three: a fault makes each take the 2 s of a lingering close.
        let took = (0..3).map(|_| stop_with_idle(connections)).min().unwrap();
        assert!(took < 1000 * MS, "{connections}: {took:?}");
    }
}

/// Stops a server with idle connections; returns how long that took. It has no store, since a disk may take long for the
/// last commit.
fn stop_with_idle(connections: usize) -> Duration {
    let args = ["echo=udp://127.0.0.1:0", "--store", "none"];
    let serve = Serve::start(&[&BOTH[..], &args].concat());
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"x", serve.at[1]).unwrap();
    udp.recv(&mut [0; 9]).unwrap();
    let idle: Vec<_> = (0..connections).flat_map(|_| call(&serve)).collect();
    let idle: Vec<_> = idle
        .into_iter()
        .enumerate()
        .map(|(i, (_, reader, mut writer))| {
            let mut reader = reader;
            // Some never say anything.
            if i % 4 < 2 {
                writer.write_all(b"x").unwrap();
                reader.read_exact(&mut [0]).unwrap();
            }
            (reader, writer)
        })
        .collect();
    let took = serve.stop().took;
    for (mut reader, _writer) in idle {
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "a clean end");
    }
    took
}

/// A peer of `connect` that reads `step` bytes every 200 ms for 3 s, then the rest.
fn slow_peer<S: Read + Send + 'static>(
    accept: impl FnOnce() -> S + Send + 'static,
    step: usize,
) -> JoinHandle<Slowly> {
    thread::spawn(move || {
        let began = Instant::now();
        let peer = accept();
        // The connection was there before `accept` returned, at a time not known.
        let late = began.elapsed();
        let slowly = read_slowly(peer, step, 200 * MS, 3 * SECOND);
        Slowly {
            longest: slowly.longest.max(late),
            ..slowly
        }
    })
}

/// Uploads to a slow peer: `start` returns its address and the peer.
#[track_caller]
fn assert_uploaded(home: &Home, args: &[&str], start: impl Fn() -> (String, JoinHandle<Slowly>)) {
    let attempt = || {
        let (at, peer) = start();
        (upload(home, &at, args), peer.join().unwrap())
    };
    let is_spoilt = |(_, peer): &(_, Slowly)| peer.is_spoilt();
    let (ended, peer) = repeat_while(5, is_spoilt, attempt);
    assert_eq!(ended, (Some(0), String::new()), "{args:?}");
    assert_eq!(peer.all.unwrap(), UPLOAD, "{args:?}");
}

/// Runs `connect` with 2 MB of input; returns its exit code and standard error.
fn upload(home: &Home, at: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = home.echoic(&[&["connect", at], args].concat());
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let feeding = thread::spawn(move || {
        let _ = stdin.write_all(&vec![b'x'; UPLOAD]);
    });
    let output = process.wait_with_output().unwrap();
    feeding.join().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), error)
}

/// Each wait of `connect` goes on while the peer takes bytes.
#[test]
fn upload_to_a_slow_reader_succeeds() {
    let home = Home::new();
    let cases: [&[&str]; 4] = [
        &["--linger-timeout", "1s"],
        &["--linger-timeout", "1s", "--write-timeout", "1s"],
        &["--idle-timeout", "1s"],
        &[
            "--send-only",
            "--linger-timeout",
            "1s",
            "--write-timeout",
            "1s",
        ],
    ];
    thread::scope(|scope| {
        for (i, args) in cases.into_iter().enumerate() {
            let home = &home;
            scope.spawn(move || {
                assert_uploaded(home, args, || {
                    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
                    let at = tcp.local_addr().unwrap().to_string();
                    let peer = slow_peer(move || tcp.accept().unwrap().0, 20_000);
                    (at, peer)
                });
            });
            scope.spawn(move || {
                let path = home.path().join(format!("s{i}"));
                assert_uploaded(home, args, || {
                    let _ = std::fs::remove_file(&path);
                    let unix = UnixListener::bind(&path).unwrap();
                    let peer = slow_peer(move || unix.accept().unwrap().0, 10_000);
                    (format!("unix:{}", path.display()), peer)
                });
            });
        }
    });
}

#[test]
fn upload_to_a_reader_that_has_stopped_times_out() {
    let home = Home::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap().to_string();
    for args in [
        &["--linger-timeout", "1s"][..],
        &["--send-only", "--linger-timeout", "1s"],
    ] {
        let began = Instant::now();
        let (code, error) = upload(&home, &at, args);
        assert_eq!(code, Some(5), "{error}");
        assert!(error.contains("the peer took nothing for 1s"), "{error}");
        assert!(error.contains("did not arrive"), "{error}");
        assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    }
    let path = home.path().join("s");
    let _unix = UnixListener::bind(&path).unwrap();
    let at = format!("unix:{}", path.display());
    let (code, error) = upload(&home, &at, &["--write-timeout", "1s"]);
    assert_eq!(code, Some(5), "{error}");
    assert!(error.contains("--write-timeout"), "{error}");
}

/// What has arrived at the peer's system is not waited for, as before.
#[test]
fn send_only_does_not_wait_for_the_peers_program_to_read() {
    let home = Home::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap().to_string();
    let began = Instant::now();
    let output = home
        .echoic(&["connect", &at, "--send-only", "--send", "x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
    let (mut peer, _) = tcp.accept().unwrap();
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    peer.shutdown(Shutdown::Both).ok();
    assert!(all.starts_with(b"x"), "{all:?}");
}
