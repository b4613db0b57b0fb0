//! Situations from public bug reports of other tools (docs/field-reports.md) that no other test file has.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print why it is skipped"
)]

mod harness;
#[allow(dead_code, reason = "two of its functions are used here")]
#[path = "probe/network.rs"]
mod network;

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, fcntl_setfl, mkfifoat},
    process::{Pid, Signal, kill_process},
};

use self::{
    harness::{Home, Lines, Ran, Serve, Talk, kill, run, signal, tool, wait_for_end},
    network::{RESOLVER, in_a_network},
};

/// Runs `echoic ARGS` under `ulimit -f`, in units of 512 bytes (POSIX).
fn limited(home: &Home, blocks: u32, args: &[&str]) -> Command {
    let mut shell = tool("sh", "dash");
    home.settle(&mut shell);
    let program = home.echoic(&[]);
    shell
        .args(["-c", &format!("ulimit -f {blocks}; exec \"$0\" \"$@\"")])
        .arg(program.get_program())
        .args(args);
    shell
}

#[test]
fn file_size_limit_does_not_end_the_server() {
    let home = Arc::new(Home::new());
    let args = ["echo=:0", "--frame", "line"];
    let command = limited(&home, 2048, &[&["serve"], &args[..], &["--print"]].concat());
    let serve = Serve::from(&home, &args, command);
    let mut line = vec![b'x'; 100_000];
    line.push(b'\n');
    // Twice 1.2 MB, past the limit of 1 MiB.
    let mut talk = Talk::to(serve.at[0]);
    for _ in 0..12 {
        talk.ask(&line, &line);
    }
    serve.err.wait_for("not recording since");
    talk.ask("still here\n", "still here\n");
    serve.kill();
}

#[test]
fn store_that_is_no_regular_file_is_refused_without_a_trace() {
    let home = Home::new();
    let fifo = home.path().join("fifo");
    mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let link = home.path().join("null.db");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    for (command, store) in [
        (&["serve", ":0"][..], "fifo"),
        (&["serve", ":0"], "null.db"),
        (&["log"], "fifo"),
        (&["log"], "null.db"),
        (&["connect", ":1", "--send", "x"], "fifo"),
    ] {
        let ran = home.run(&[command, &["--store", store]].concat());
        assert_eq!(ran.code, Some(1), "{command:?} {store}: {ran:?}");
        assert!(
            ran.err.contains("it is a pipe, a socket or a device"),
            "{command:?} {store}: {}",
            ran.err
        );
    }
    let mut left: Vec<_> = fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["fifo", "null.db"]);
}

#[test]
fn database_with_two_names_is_read_and_not_written() {
    let serve = Serve::start(&["echo=:0"]);
    let home = Arc::clone(&serve.home);
    Talk::to(serve.at[0]).ask("hello", "hello");
    serve.stop();
    let other = home.path().join("other.db");
    fs::hard_link(home.store(), &other).unwrap();
    for store in ["echoic.db", "other.db"] {
        let ran = home.run(&["serve", ":0", "--store", store]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(
            ran.err.contains("it has 2 names (hard links)"),
            "{}",
            ran.err
        );
        assert_eq!(home.count(&["--store", store]), 1);
    }
    fs::remove_file(other).unwrap();
    Serve::start_in(&home, &["echo=:0"]).stop();
}

/// Runs `connect` to an echo server with this standard input.
fn connect_with(input: impl Into<Stdio>, more: &[&str], meanwhile: impl FnOnce()) -> Ran {
    let serve = Serve::start(&["echo=:0", "--store", "none"]);
    let home = Home::new();
    let args = ["connect", &serve.addresses[0], "--linger-timeout", "10s"];
    let mut child = home
        .echoic(&[&args, more].concat())
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    meanwhile();
    if wait_for_end(&mut child, harness::SOON).is_none() {
        kill(&mut child);
    }
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        out: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn input_that_cannot_be_read_is_an_error_and_not_its_end() {
    for more in [&[][..], &["--frame", "line"]] {
        let write_only = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let ran = connect_with(write_only, more, || {});
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(
            ran.err.contains("cannot read standard input"),
            "{}",
            ran.err
        );
        let folder = File::open("/").unwrap();
        let ran = connect_with(folder, more, || {});
        assert_eq!(ran.code, Some(1), "{ran:?}");
    }
}

#[test]
fn non_blocking_input_is_waited_for() {
    for more in [&[][..], &["--frame", "line"]] {
        let (theirs, mut ours) = std::io::pipe().unwrap();
        fcntl_setfl(&theirs, OFlags::NONBLOCK).unwrap();
        let ran = connect_with(theirs, more, move || {
            for part in ["one\n", "two\n"] {
                // Long enough for a read that finds nothing.
                thread::sleep(Duration::from_millis(300));
                // Fails if it has exited, which the assertion below reports.
                let _ = ours.write_all(part.as_bytes());
            }
        });
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.out, b"one\ntwo\n", "{ran:?}");
    }
}

#[test]
fn inherited_connection_is_told_from_a_listening_socket() {
    // systemd passes one with Accept=yes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (connection, _) = listener.accept().unwrap();
    let home = Home::new();
    let mut serve = home.echoic(&["serve", "fd:0", "--store", "none"]);
    let output = serve.stdin(OwnedFd::from(connection)).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("it is a connection") && err.contains("Accept=no"),
        "{err}"
    );
}

#[test]
fn signal_ends_serve_while_a_name_is_resolved() {
    in_a_network(
        "signal_ends_serve_while_a_name_is_resolved",
        "",
        |network| {
            // It never answers. getaddrinfo(3) waits for it for ten seconds.
            let resolver = UdpSocket::bind((RESOLVER, 53)).unwrap();
            resolver.set_read_timeout(Some(harness::SOON)).unwrap();
            for (which, name) in [(Signal::INT, "mute"), (Signal::TERM, "silent")] {
                let command = format!("serve {name}.test:5000");
                let mut serve = network.command(&command).spawn().unwrap();
                wait_for_query(&resolver, name);
                let since = Instant::now();
                signal(&serve, which);
                let ended = wait_for_end(&mut serve, Duration::from_secs(9));
                if ended.is_none() {
                    kill(&mut serve);
                }
                let code = ended.and_then(|status| status.code());
                assert_eq!(code, Some(130), "{which:?} after {:?}", since.elapsed());
            }
            // Nor does the lookup that still runs delay the end after the time limit of 5 s.
            let since = Instant::now();
            let ran = network.echoic("serve mute.test:5000 --store none");
            assert_eq!(ran.code, Some(3), "{ran:?}");
            assert!(
                since.elapsed() < Duration::from_secs(8),
                "{:?}",
                since.elapsed()
            );
        },
    );
}

/// Waits until a name is asked for. Queries for names before it may still be there.
fn wait_for_query(resolver: &UdpSocket, name: &str) {
    let mut query = [0; 512];
    loop {
        let n = resolver.recv(&mut query).unwrap();
        let mut parts = query[..n].windows(name.len());
        if parts.any(|part| part == name.as_bytes()) {
            return;
        }
    }
}

#[test]
fn localhost_needs_no_hosts_file() {
    in_a_network("localhost_needs_no_hosts_file", "", |network| {
        for name in ["localhost", "app.localhost", "LOCALHOST."] {
            let home = Arc::new(Home::new());
            let serve = Serve::start_in(&home, &[&format!("echo={name}:0"), "--store", "none"]);
            let port = serve.at[0].port();
            let ran = network.echoic(&format!("connect {name}:{port} --send hello"));
            assert_eq!(
                (ran.code, &ran.out[..]),
                (Some(0), &b"hello"[..]),
                "{ran:?}"
            );
            let ran = network.echoic(&format!("probe {name}:{port}"));
            assert_eq!(ran.code, Some(0), "{ran:?}");
            serve.stop();
        }
        let ran = network.echoic("probe localhost.test:80");
        assert_eq!(ran.code, Some(3), "{ran:?}");
    });
}

#[test]
fn exhausted_local_ports_are_not_called_a_missing_route() {
    in_a_network(
        "exhausted_local_ports_are_not_called_a_missing_route",
        "",
        |network| {
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50001").unwrap();
            let serve = Serve::start(&["echo=:5000", "--store", "none"]);
            let at = serve.at[0];
            let held: Vec<_> = (0..2).map(|_| Talk::to(at)).collect();
            let ran = network.echoic(&format!("probe {at}"));
            assert_eq!(ran.code, Some(4), "{ran:?}");
            let out = String::from_utf8_lossy(&ran.out).into_owned();
            assert!(
                out.contains("local port") && !out.contains("no route"),
                "{out}"
            );
            drop(held);
            serve.stop();
        },
    );
}

/// Each connection that the generator closes holds its local port for a time.
#[test]
fn bench_names_the_want_of_local_ports() {
    in_a_network("bench_names_the_want_of_local_ports", "", |network| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50019").unwrap();
        let serve = Serve::start(&["echo=:5000", "--store", "none"]);
        let load = "--churn 1 -c 2 -d 1s --warmup 0 --no-floor --frame line -o json";
        let ran = network.echoic(&format!("bench {} {load}", serve.at[0]));
        let run: serde_json::Value = serde_json::from_slice(&ran.out).unwrap();
        assert!(run["failures"]["no_port"].as_u64().unwrap() > 0, "{run}");
        assert_eq!(run["failures"]["refused"], 0, "{run}");
        assert_eq!(run["verdict"], "generator", "{run}");
        let why = run["verdict_why"].as_str().unwrap();
        assert!(why.contains("no free local port"), "{why}");
        serve.stop();
    });
}

/// Stopped within the run, and beyond its end.
#[test]
fn bench_that_was_stopped_says_so() {
    let serve = Serve::start(&["echo=:0", "--store", "none"]);
    let at = serve.at[0].to_string();
    for length in ["4s", "2500ms"] {
        let args = ["bench", &at, "-r", "100", "--frame", "line"];
        let rest = ["-d", length, "--warmup", "0", "--no-floor", "-o", "json"];
        let mut bench = serve.home.echoic(&[&args[..], &rest].concat());
        bench.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut bench = bench.spawn().unwrap();
        let pid = Pid::from_child(&bench);
        // The first comes a second after the start of the run: 1.5 s before its end at the least.
        Lines::of(bench.stderr.take().unwrap()).wait_for("\"ev\":\"progress\"");
        kill_process(pid, Signal::STOP).unwrap();
        thread::sleep(Duration::from_secs(2));
        kill_process(pid, Signal::CONT).unwrap();
        let ran = bench.wait_with_output().unwrap();
        let run: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(run["verdict"], "generator", "{run}");
        let why = run["verdict_why"].as_str().unwrap();
        assert!(why.contains("this generator did not run for "), "{why}");
        assert!(
            run["generator"]["standstill"]["seconds"].as_f64() > Some(1.2),
            "{run}"
        );
    }
    serve.stop();
}

#[test]
fn request_that_arrived_while_the_server_was_stopped_is_answered() {
    let args = ["--frame", "line", "--store", "none"];
    let limits = ["--idle-timeout", "1s", "--message-timeout", "1s"];
    let endpoints = ["echo=:0", "echo=./stopped.sock"];
    let serve = Serve::start(&[&endpoints[..], &args, &limits].concat());
    let path = serve.home.path().join("stopped.sock");
    // Whether the timers or the bytes are noticed first is a matter of chance: the test of `Wait` leaves nothing to it.
    for _ in 0..4 {
        let mut whole = Talk::to(serve.at[0]);
        let mut parts = Talk::to(serve.at[0]);
        let mut local = UnixStream::connect(&path).unwrap();
        local.set_read_timeout(Some(harness::SOON)).unwrap();
        whole.ask("one\n", "one\n");
        parts.send("a request ");
        serve.signal(Signal::STOP);
        whole.send("two\n");
        parts.send("in parts\n");
        local.write_all(b"three\n").unwrap();
        thread::sleep(Duration::from_millis(1500));
        serve.signal(Signal::CONT);
        whole.expect_reply("two\n");
        parts.expect_reply("a request in parts\n");
        let mut reply = [0; 6];
        local.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"three\n");
    }
    serve.stop();
}

#[test]
fn reply_that_arrived_while_connect_was_stopped_is_read() {
    for (args, code) in [
        (&["--expect", "hello", "-w", "1s"][..], 0),
        (&["--hold", "--idle-timeout", "1s"], 5),
        (&["--linger-timeout", "1s"], 0),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let home = Home::new();
        let mut client = home
            .echoic(&[&["connect", &address, "--send", "hello"], args].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.read_exact(&mut [0; 5]).unwrap();
        signal(&client, Signal::STOP);
        peer.write_all(b"hello").unwrap();
        thread::sleep(Duration::from_millis(1500));
        signal(&client, Signal::CONT);
        if wait_for_end(&mut client, harness::SOON).is_none() {
            kill(&mut client);
        }
        let output = client.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.stdout, b"hello", "{args:?}: {err}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
    }
}

#[test]
fn message_that_is_too_long_for_a_datagram_is_named() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("udp://{}", peer.local_addr().unwrap());
    let home = Home::new();
    let line = vec![b'x'; 65_508];
    let ran = run(&mut home.echoic(&["connect", &endpoint]), &line);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("too long for a datagram"), "{ran:?}");
    let ran = run(
        &mut home.echoic(&["bench", &endpoint, "--size", "65508", "-n", "3"]),
        b"",
    );
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.err.contains("more than a UDP datagram holds"),
        "{ran:?}"
    );
}

#[test]
fn shell_understands_the_limit() {
    // If `ulimit -f` did nothing, the test of the limit would prove nothing.
    let home = Home::new();
    let mut shell = tool("sh", "dash");
    home.settle(&mut shell);
    let ran = run(shell.args(["-c", "ulimit -f 640; ulimit -f"]), b"");
    assert_eq!(ran.good().trim(), "640");
}
