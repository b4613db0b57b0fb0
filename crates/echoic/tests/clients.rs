//! Common clients: nc, ncat and socat, each set to shut down its half when its input ends.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{net::SocketAddr, process::Command};

use self::harness::{Home, Ran, Serve, run, tool};

/// `nc -N`: the OpenBSD nc shuts down its half only with this option.
fn nc(at: SocketAddr) -> Command {
    let mut nc = tool("nc", "netcat-openbsd");
    nc.args(["-N", &at.ip().to_string(), &at.port().to_string()]);
    nc
}

fn ncat(at: SocketAddr) -> Command {
    let mut ncat = tool("ncat", "ncat");
    ncat.args([at.ip().to_string(), at.port().to_string()]);
    ncat
}

/// socat waits half a second for the rest by default.
fn socat(at: SocketAddr) -> Command {
    let mut socat = tool("socat", "socat");
    socat.args(["-t30", "-", &format!("TCP:{at}")]);
    socat
}

/// A client's name, and the command that connects it to an address.
type Peer = (&'static str, fn(SocketAddr) -> Command);

const PEERS: [Peer; 3] = [("nc", nc), ("ncat", ncat), ("socat", socat)];

#[test]
fn each_client_gets_its_lines_back_whole() {
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    let long: Vec<String> = (0..20_000).map(|i| format!("line {i} of ßome\n")).collect();
    let long = long.concat();
    for input in ["hello\n", "", "\n", "one\ntwo\nthe last", &long] {
        for (name, peer) in PEERS {
            let Ran { code, out, err } = run(&mut peer(serve.at[0]), input.as_bytes());
            assert_eq!((code, &*err), (Some(0), ""), "{name}");
            assert!(
                out == input.to_uppercase().as_bytes(),
                "{name}: {} bytes",
                out.len()
            );
        }
    }
    let home = serve.home.clone();
    let served = serve.stop().served;
    assert_eq!(served, 3 * (1 + 1 + 3 + 20_000));
    assert_eq!(
        home.sql("SELECT DISTINCT reason FROM conversation"),
        ["peer-closed"]
    );
}

#[test]
fn each_client_gets_the_greeting() {
    let serve = Serve::start(&["greet=:0"]);
    for input in ["", "hello\n"] {
        for (name, peer) in PEERS {
            let Ran { code, out, err } = run(&mut peer(serve.at[0]), input.as_bytes());
            assert_eq!((code, &*err), (Some(0), ""), "{name} with {input:?}");
            assert_eq!(out, b"Thank you for connecting", "{name} with {input:?}");
        }
    }
    assert_eq!(serve.stop().served, 6);
}

#[test]
fn each_client_connects_over_ipv4_and_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return trials_skip::skip("no IPv6 here");
    }
    let serve = Serve::start(&["upper=:0"]);
    for host in ["127.0.0.1", "::1"] {
        let at = SocketAddr::new(host.parse().unwrap(), serve.at[0].port());
        for (name, peer) in PEERS {
            let received = run(&mut peer(at), b"hello").good();
            assert_eq!(received, "HELLO", "{name} to {at}");
        }
    }
    let home: &Home = &serve.home.clone();
    serve.stop();
    assert_eq!(home.count(&["peer:127.0.0.1"]), 3);
    assert_eq!(home.count(&["peer:::1"]), 3);
}
