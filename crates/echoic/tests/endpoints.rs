//! Every kind of stream endpoint, used by foreign clients.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "endpoints/access.rs"]
mod access;
#[path = "endpoints/addresses.rs"]
mod addresses;
#[path = "endpoints/environment.rs"]
mod environment;
mod harness;
#[path = "endpoints/inherited.rs"]
mod inherited;
#[path = "endpoints/options.rs"]
mod options;
#[path = "endpoints/unix.rs"]
mod unix;

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    process::Stdio,
};

use self::harness::{Home, Lines, Ran, SOON, Serve, Talk, free_port, kill, run, tool};

#[test]
fn several_endpoints_share_one_process_and_record() {
    let serve = Serve::start(&[
        "upper=:0",
        "lower=unix:./lower.sock",
        "echo=:0?frame=line",
        "greet=unix:@echoic-test-several",
        "--frame",
        "nul",
    ]);
    let [upper, echo] = serve.at[..] else {
        panic!("{:?}", serve.addresses)
    };
    assert_eq!(serve.addresses[1], "unix:./lower.sock");
    assert_eq!(serve.addresses[3], "unix:@echoic-test-several");
    let mut one = Talk::to(upper);
    let mut two = unix::Talk::to(serve.home.path().join("lower.sock"));
    let mut three = Talk::to(echo);
    one.ask("one\0", "ONE\0");
    two.ask("TWO\0", "two\0");
    three.ask("Three\n", "Three\n");
    let four = unix::Talk::to_abstract("echoic-test-several").rest();
    assert_eq!(four, b"Thank you for connecting");
    drop((one.finish(), two.finish(), three.finish()));
    let home = serve.home.clone();
    assert_eq!(serve.stop().served, 4);

    let (upper, echo) = (upper.port(), echo.port());
    for (filter, services) in [
        (&["proto:unix"][..], &["lower", "greet"][..]),
        (&["proto:tcp"], &["upper", "echo"]),
        (&["ep:unix:./lower.sock"], &["lower"]),
        (&["ep:unix:@echoic-test-several"], &["greet"]),
        (&[&format!("ep:tcp:{upper}")], &["upper"]),
        (&[&format!("ep:tcp:{echo}"), "proto:unix"], &[]),
        (&["-proto:unix", "svc:echo"], &["echo"]),
    ] {
        let found = home.log(filter);
        let mut found: Vec<&str> = found.iter().map(|e| e["svc"].as_str().unwrap()).collect();
        let mut services = services.to_vec();
        found.sort_unstable();
        services.sort_unstable();
        assert_eq!(found, services, "{filter:?}");
        assert_eq!(home.count(filter), services.len() as u64, "{filter:?}");
    }
}

#[test]
fn printed_addresses_follow_the_order_of_endpoints() {
    let serve = Serve::start(&["echo=udp://:0", "upper=:0", "unix:./s", "lower=udp://:0"]);
    let [first, second, fourth] = serve.at[..] else {
        panic!("{:?}", serve.addresses)
    };
    assert_eq!(serve.addresses[2], "unix:./s");
    Talk::to(second).ask("stream", "STREAM");
    for (at, reply) in [(first, "Datagram"), (fourth, "datagram")] {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(SOON)).unwrap();
        peer.send_to(b"Datagram", at).unwrap();
        let mut room = [0; 64];
        let (bytes, from) = peer.recv_from(&mut room).unwrap();
        assert_eq!((&room[..bytes], from), (reply.as_bytes(), at));
    }
}

#[test]
fn star_with_port_0_is_one_port_in_both_families() {
    if TcpListener::bind("[::1]:0").is_err() {
        return trials_skip::skip("no IPv6 here");
    }
    let serve = Serve::start(&["upper=*:0", "echo=tcp://:0"]);
    let [everywhere, loopback] = serve.at[..] else {
        panic!("{:?}", serve.addresses)
    };
    assert_ne!(everywhere.port(), loopback.port());
    assert_eq!(
        everywhere.to_string(),
        format!("0.0.0.0:{}", everywhere.port())
    );
    for host in ["127.0.0.1", "::1", "127.0.0.9"] {
        let ip = host.parse().unwrap();
        Talk::to(SocketAddr::new(ip, everywhere.port())).ask("wide", "WIDE");
        let home = Talk::to_result(SocketAddr::new(ip, loopback.port()));
        assert_eq!(home.is_ok(), host != "127.0.0.9", "{host}");
    }
}

/// Holds a port until its standard input ends.
const HOLDER: &str = "
import socket, sys
held = socket.create_server(('127.0.0.1', 0))
print(held.getsockname()[1], flush=True)
sys.stdin.read()
";

#[test]
fn d13_address_in_use_names_its_owner() {
    let mut python = tool("python3", "python3");
    python.args(["-c", HOLDER]);
    let mut holder = python
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Lines::of(holder.stdout.take().unwrap());
    let port = lines.wait("port", |lines| lines.first().cloned());
    // The name in the process table: python3, or python3.11.
    let name = fs::read_to_string(format!("/proc/{}/comm", holder.id())).unwrap();
    let owner = format!("{} (pid {})", name.trim(), holder.id());

    let home = Home::new();
    for address in [
        format!(":{port}"),
        format!("127.0.0.1:{port}"),
        format!("*:{port}"),
    ] {
        let Ran { code, out, err } = home.run(&["serve", &address, "--print"]);
        assert_eq!((code, &*out), (Some(1), &b""[..]), "{err}");
        assert!(
            err.contains("in use by") && err.contains(&owner),
            "{address}: {err}"
        );
        assert!(err.contains("0 picks a free one"), "{err}");
        assert_eq!(err.lines().count(), 1, "nothing else went wrong: {err}");
    }
    // An address of this machine on which the endpoint does not listen.
    let other = Serve::start(&[&format!("127.0.0.2:{port}")]);
    let Ran { err, .. } = home.run(&["serve", &format!("127.0.0.2:{port}")]);
    let ours = format!("in use by echoic (pid {})", other.id());
    assert!(err.contains(&ours), "{err}");
    let Ran { err, .. } = home.run(&["serve", &format!("127.0.0.1:{port}")]);
    assert!(err.contains(&owner), "{err}");
    drop(other);
    kill(&mut holder);
}

#[test]
fn endpoint_given_twice_is_rejected() {
    let home = Home::new();
    let port = free_port().to_string();
    let Ran { code, err, .. } = home.run(&["serve", &port, &port]);
    assert_eq!(code, Some(1), "{err}");
    let expected = "in use by another endpoint of this same program";
    assert!(
        err.contains(expected) && err.contains("leave one of the two out"),
        "{err}"
    );
}

#[test]
fn address_of_no_interface_is_rejected() {
    let home = Home::new();
    // An address reserved for documentation (RFC 5737).
    for endpoint in ["192.0.2.1:0", "udp://192.0.2.1:0"] {
        let Ran { code, err, .. } = home.run(&["serve", endpoint]);
        assert_eq!(code, Some(1), "{err}");
        let expected = "192.0.2.1:0: no interface of this machine has that address";
        assert!(
            err.contains(expected) && err.contains("ip address"),
            "{err}"
        );
    }
}

#[test]
fn suggested_commands_get_an_answer() {
    let endpoints = [
        ":0",
        ":0?frame=line",
        ":0?frame=u16be",
        ":0?frame=delim:7c7c/netstring",
        "*:0?frame=crlf",
        "udp://:0",
        "unix:./try-me.sock?frame=nul",
    ];
    let serve = Serve::start(&endpoints);
    let tries = serve.err.wait("what to try", |lines| {
        let tries = lines
            .iter()
            .filter_map(|line| line.split_once("try: echoic "));
        let tries: Vec<_> = tries.map(|(_, words)| words.to_owned()).collect();
        (tries.len() >= endpoints.len()).then_some(tries)
    });
    let program = serve.home.echoic(&[]).get_program().to_owned();
    for words in tries {
        let mut shell = tool("sh", "dash");
        serve.home.settle(&mut shell);
        // The prompt uses line framing unless expected otherwise.
        let has_framing = words.contains("--frame") || words.contains("udp:");
        let frame = if has_framing { "" } else { "--frame line" };
        let line = format!("exec \"$0\" {words} {frame} --send hello --expect HELLO");
        let received = run(shell.args(["-c", &line]).arg(&program), b"");
        assert_eq!(received.code, Some(0), "{words}: {received:?}");
    }
}
