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

use self::harness::{Home, SOON, Serve};

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

/// Reads `step` bytes at a time with a pause after each for `slow`, then as fast as it can. Returns how many there were.
fn read_slowly(
    mut reader: impl Read,
    step: usize,
    pause: Duration,
    slow: Duration,
) -> io::Result<usize> {
    let (began, mut all) = (Instant::now(), 0);
    let mut buffer = vec![0; step];
    while began.elapsed() < slow {
        match reader.read(&mut buffer)? {
            0 => return Ok(all),
            n => all += n,
        }
        thread::sleep(pause);
    }
    io::copy(&mut reader, &mut io::sink()).map(|rest| all + rest as usize)
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
        let serve = Serve::start(&[&BOTH[..], &["--write-timeout", "1s"]].concat());
        let peers = call(&serve).map(|(kind, mut reader, writer)| {
            let reading = thread::spawn(move || {
                let all = read_slowly(&mut reader, step, pause, 3500 * MS);
                (all, reader)
            });
            (kind, reading, send(writer, ALL))
        });
        for (kind, reading, sent) in peers {
            let (all, _reader) = reading.join().unwrap();
            assert_eq!(all.unwrap(), ALL, "{kind}, {step} at a time");
            sent.join().unwrap();
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
    let serve = Serve::start(&[
        "echo=127.0.0.1:0",
        "--frame",
        "line",
        "--max-message",
        "100",
    ]);
    let stream = TcpStream::connect(serve.at[0]).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let line = [&[b'x'; 79][..], b"\n"].concat();
        writer.write_all(&line.repeat(LINES)).unwrap();
        writer.write_all(&[b'y'; 200]).unwrap();
        // More than the 2 s that a silent peer gets.
        for _ in 0..8 {
            thread::sleep(500 * MS);
            writer.write_all(b"z").unwrap();
        }
    });
    thread::sleep(500 * MS);
    serve.signal(Signal::TERM);
    let all = read_slowly(&stream, 50_000, 300 * MS, 4 * SECOND).unwrap();
    assert_eq!(all, 80 * LINES);
    writing.join().unwrap();
    drop(stream);
    let mut serve = serve;
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.lost), (Some(0), 0));
}

#[test]
fn idle_connections_end_in_milliseconds_at_the_stop() {
    let args = [&BOTH[..], &["echo=udp://127.0.0.1:0"]].concat();
    for connections in [0, 1, 100] {
        let serve = Serve::start(&args);
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
        let stopped = serve.stop();
        assert!(stopped.took < 1000 * MS, "{connections}: {stopped:?}");
        for (mut reader, _writer) in idle {
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "a clean end");
        }
    }
}

/// A peer of `connect` that reads `step` bytes every 200 ms for 3 s, then the rest; it returns how many there were.
fn slow_peer<S: Read + Send + 'static>(
    accept: impl FnOnce() -> S + Send + 'static,
    step: usize,
) -> JoinHandle<usize> {
    thread::spawn(move || read_slowly(accept(), step, 200 * MS, 3 * SECOND).unwrap())
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
                let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
                let at = tcp.local_addr().unwrap().to_string();
                let peer = slow_peer(move || tcp.accept().unwrap().0, 20_000);
                assert_eq!(
                    upload(home, &at, args),
                    (Some(0), String::new()),
                    "{args:?}"
                );
                assert_eq!(peer.join().unwrap(), UPLOAD, "{args:?}");
            });
            scope.spawn(move || {
                let path = home.path().join(format!("s{i}"));
                let unix = UnixListener::bind(&path).unwrap();
                let peer = slow_peer(move || unix.accept().unwrap().0, 10_000);
                let at = format!("unix:{}", path.display());
                assert_eq!(
                    upload(home, &at, args),
                    (Some(0), String::new()),
                    "{args:?}"
                );
                assert_eq!(peer.join().unwrap(), UPLOAD, "{args:?}");
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
