//! Addresses that are unusual, or not what they seem: what the commands make of them.

use std::{
    fs,
    net::TcpListener,
    os::unix::net::{UnixDatagram, UnixListener},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::harness::{Home, Ran, Serve, run, tool};

#[track_caller]
fn assert_fails(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    for part in parts {
        assert!(ran.err.contains(part), "no {part:?} in {ran:?}");
    }
}

/// `connect`, `probe` and `bench` reach `endpoint`, which answers `hi` with `HI`.
#[track_caller]
fn all_commands_reach(home: &Home, endpoint: &str) {
    let connect = home.run(&["connect", endpoint, "--send", "hi", "--expect", "HI"]);
    assert_eq!(connect.code, Some(0), "{connect:?}");
    home.run(&["probe", endpoint]).good();
    let bench = [
        "bench",
        endpoint,
        "-n",
        "5",
        "-r",
        "100",
        "--warmup",
        "0",
        "-q",
        "--no-floor",
        "--message",
        "hi",
        "--expect",
        "upper",
    ];
    assert_eq!(home.run(&bench).code, Some(0), "{:?}", home.run(&bench));
}

#[test]
fn address_in_time_wait_is_told_as_such() {
    // A server that does not set SO_REUSEADDR and closes first.
    const SERVER: &str = "
import socket
server = socket.socket()
server.bind(('127.0.0.1', 0))
server.listen()
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
peer.close()
client.recv(1)
client.close()
print(server.getsockname()[1])
";
    let mut python = tool("python3", "python3");
    let port = run(python.args(["-c", SERVER]), b"").good();
    let endpoint = format!("127.0.0.1:{}", port.trim());
    let home = Home::new();
    let ran = home.run(&["serve", &endpoint]);
    assert_fails(&ran, 1, &["TIME_WAIT", "60 s", "wait until they end"]);
    // A program that listens is named instead.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = home.run(&["serve", &held.local_addr().unwrap().to_string()]);
    let us = format!("(pid {})", std::process::id());
    assert_fails(&ran, 1, &[&us]);
    assert!(!ran.err.contains("TIME_WAIT"), "{ran:?}");
}

/// The link-local addresses of this machine with their interfaces; `::1` of `lo` has a zone too.
fn zoned_addresses() -> Vec<String> {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let link_local = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bytes = u128::from_str_radix(fields.first()?, 16).ok()?;
        let ip = std::net::Ipv6Addr::from(bytes);
        // Flags 0x40 and 0x08: the address is tentative, or a duplicate.
        let is_usable = u32::from_str_radix(fields.get(4)?, 16).ok()? & 0x48 == 0;
        (ip.is_unicast_link_local() && is_usable).then(|| format!("{ip}%{}", fields[5]))
    });
    link_local.chain(["::1%lo".to_owned()]).collect()
}

#[test]
fn zone_of_a_link_local_address_works_in_all_commands() {
    for address in zoned_addresses() {
        for scheme in ["tcp", "udp"] {
            let serve = Serve::start(&[&format!("upper={scheme}://[{address}]:0")]);
            let port = serve.at[0].port();
            all_commands_reach(&serve.home, &format!("{scheme}://[{address}]:{port}"));
            let two_words = [
                "connect",
                &address,
                &port.to_string(),
                "--send",
                "hi",
                "--expect",
                "HI",
            ];
            if scheme == "tcp" {
                serve.home.run(&two_words).good();
            }
        }
    }
    let home = Home::new();
    let missing = "[fe80::1%no-such-if]:7001";
    let why = ["no interface no-such-if"];
    assert_fails(&home.run(&["connect", missing, "--send", "x"]), 3, &why);
    assert_fails(&home.run(&["bench", missing, "-n", "1"]), 3, &why);
    assert_fails(&home.run(&["serve", missing]), 3, &why);
    let probe = home.run(&["probe", missing]);
    assert_eq!(probe.code, Some(3));
    assert!(
        String::from_utf8_lossy(&probe.out).contains(why[0]),
        "{probe:?}"
    );
}

#[test]
fn unix_path_may_have_a_question_mark_and_an_equals_sign() {
    let serve = Serve::start(&["upper=unix:./a%3Fb=c.sock", "upper=unixgram:./d=e%3ff.sock"]);
    let home = &serve.home;
    assert!(home.path().join("a?b=c.sock").exists());
    assert!(home.path().join("d=e?f.sock").exists());
    all_commands_reach(home, "unix:./a%3Fb%3Dc.sock");
    all_commands_reach(home, "unixgram:./d=e%3Ff.sock");
    let found = home.log(&["ep:unix:./a?b=c.sock"]);
    assert!(!found.is_empty());
    let how = ["write %3F for ?"];
    assert_fails(
        &home.run(&["connect", "./a?b=c.sock", "--send", "x"]),
        2,
        &how,
    );
    assert_fails(&home.run(&["serve", "./a?b=c.sock"]), 2, &how);
    assert_fails(&home.run(&["serve", "./a?b.sock"]), 2, &how);
    assert_fails(&home.run(&["probe", "./a?b.sock"]), 2, &how);
    assert_fails(&home.run(&["bench", "./a?b=c.sock", "-n", "1"]), 2, &how);
}

#[test]
fn broadcast_needs_its_option_on_both_sides() {
    // The broadcast address of 127.0.0.0/8: datagrams to it stay on this machine.
    let serve = Serve::start(&[
        "upper=udp://*:0?broadcast=on",
        "upper=udp://127.255.255.255:0?broadcast=on",
        "--explain",
    ]);
    let home = &serve.home;
    for at in [serve.at[0], serve.at[serve.at.len() - 1]] {
        let endpoint = format!("udp://127.255.255.255:{}", at.port());
        let args = ["--send", "hi", "--expect", "HI", "-w", "5"];
        let ran = home.run(&[&["connect", &*endpoint], &args[..]].concat());
        assert_fails(&ran, 4, &["?broadcast=on"]);
        let ran = home.run(
            &[
                &["connect", &*format!("{endpoint}?broadcast=on")],
                &args[..],
            ]
            .concat(),
        );
        assert_eq!((ran.code, &*ran.out), (Some(0), &b"HI"[..]), "{ran:?}");
    }
    serve
        .err
        .wait_for("setsockopt(SOL_SOCKET, SO_BROADCAST, 1)");
    // A unicast address is reached all the same.
    let unicast = format!("udp://127.0.0.1:{}?broadcast=on", serve.at[0].port());
    home.run(&["connect", &unicast, "--send", "hi", "--expect", "HI"])
        .good();
    let serve = Serve::start(&["upper=udp://*:0"]);
    let endpoint = format!("udp://127.255.255.255:{}?broadcast=on", serve.at[0].port());
    let args = [
        "connect", &endpoint, "--send", "hi", "--expect", "HI", "-w", "500ms",
    ];
    assert_fails(&serve.home.run(&args), 7, &[]);
    assert_fails(
        &serve.home.run(&["serve", ":0?broadcast=on"]),
        2,
        &["udp:// only"],
    );
}

#[test]
fn call_to_a_socket_of_another_type_names_the_endpoint_to_use() {
    let home = Home::new();
    let _datagrams = UnixDatagram::bind(home.path().join("d.sock")).unwrap();
    let _stream = UnixListener::bind(home.path().join("s.sock")).unwrap();
    for (endpoint, right) in [
        (
            "unix:./d.sock",
            "it is a datagram socket; expected unixgram:./d.sock",
        ),
        (
            "unixgram:./s.sock",
            "it is a stream socket; expected unix:./s.sock",
        ),
    ] {
        assert_fails(
            &home.run(&["connect", endpoint, "--send", "x"]),
            4,
            &[right],
        );
        assert_fails(&home.run(&["bench", endpoint, "-n", "1"]), 4, &[right]);
        let probe = home.run(&["probe", endpoint]);
        assert_eq!(probe.code, Some(4), "{probe:?}");
        let scheme = right.rsplit(' ').next().unwrap().split_once('.').unwrap().0;
        let out = String::from_utf8_lossy(&probe.out).into_owned();
        assert!(out.contains(&format!("probe {scheme}")), "{out}");
    }
}

#[test]
fn full_backlog_of_a_unix_socket_times_out() {
    let home = Home::new();
    let path = home.path().join("full.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = SocketAddrUnix::new(&path).unwrap();
    let mut waiting = Vec::new();
    loop {
        let kind = SocketType::STREAM;
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK, None).unwrap();
        if connect(&socket, &address).is_err() {
            break;
        }
        waiting.push(socket);
    }
    for args in [
        &["connect", "./full.sock", "--send", "x", "-w", "1"][..],
        &["probe", "./full.sock", "-w", "1"],
        &["bench", "./full.sock", "-n", "1", "--timeout", "1"],
    ] {
        let since = Instant::now();
        let ran = home.run(args);
        assert_eq!(ran.code, Some(5), "{ran:?}");
        let took = since.elapsed();
        assert!(took < Duration::from_secs(4), "{args:?}: {took:?}");
    }
    // Once there is room, it is reached: a call that waited goes on.
    let (mut child, _) = home.start(&["probe", "./full.sock", "-w", "20"]);
    std::thread::sleep(Duration::from_millis(200));
    drop(listener.accept().unwrap());
    let ended = crate::harness::wait_for_end(&mut child, Duration::from_secs(10));
    assert!(ended.is_some_and(|ended| ended.success()), "{ended:?}");
}

#[test]
fn explain_has_every_option_and_says_why_there_are_two_sockets() {
    let serve = Serve::start(&[
        "upper=:0",
        "upper=udp://127.0.0.1:0",
        "--workers",
        "2",
        "--explain",
    ]);
    for line in [
        "setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)",
        "setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)",
        "setsockopt(IPPROTO_IP, IP_PKTINFO, 1)",
        "setsockopt(SOL_SOCKET, SO_RCVBUF, 1048576)",
        "setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)",
        "# the same address once more: each worker has a socket",
    ] {
        serve.err.wait_for(line);
    }
    if TcpListener::bind("[::1]:0").is_ok() {
        serve
            .err
            .wait_for("# no host means this machine, which has an address in IPv4 and in IPv6");
    }
    let port = serve.at[0].port().to_string();
    let ran = serve
        .home
        .run(&["connect", "127.0.0.1", &port, "--send", "x", "--explain"]);
    assert!(
        ran.err.contains("setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)"),
        "{ran:?}"
    );
}

#[test]
fn every_explained_socket_is_closed() {
    let serve = Serve::start(&[
        "upper=:0",
        "upper=udp://:0",
        "upper=unix:./s",
        "upper=unixgram:./g",
    ]);
    let home = &serve.home;
    let (tcp, udp) = (serve.at[0], serve.at[serve.at.len() - 1]);
    let refused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for endpoint in [
        tcp.to_string(),
        format!("udp://{udp}"),
        "./s".to_owned(),
        "unixgram:./g".to_owned(),
        refused.to_string(),
        format!("localhost:{}", tcp.port()),
    ] {
        for args in [
            &["probe", &*endpoint, "-w", "2"][..],
            &[
                "connect",
                &endpoint,
                "--send",
                "x",
                "--linger-timeout",
                "300ms",
            ],
        ] {
            let ran = home.run(&[args, &["--explain"]].concat());
            let count = |call: &str| ran.err.lines().filter(|line| line.contains(call)).count();
            let sockets = count("  socket(AF_");
            assert!(sockets > 0, "{args:?}: {ran:?}");
            assert_eq!(count("  close()"), sockets, "{args:?}:\n{}", ran.err);
        }
    }
}
