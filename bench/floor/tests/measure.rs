//! The generator against the floor server, and against servers that answer wrongly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// A floor server in a process of its own, killed when the test ends.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_floor"))
            .args(["serve", "--port", "0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("floor serve starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("a first line");
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .expect("the address");
        let address = address.parse().expect("an address");
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connects");
        let deadline = Some(Duration::from_secs(10));
        stream.set_read_timeout(deadline).expect("a deadline");
        stream.set_write_timeout(deadline).expect("a deadline");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn floor(command: &str, address: SocketAddr, options: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_floor"))
        .args([command, &address.to_string()])
        .args(options.split_whitespace())
        .output()
        .expect("floor runs")
}

fn figures(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {output:?}",
            output = String::from_utf8_lossy(&output.stderr)
        )
    })
}

#[test]
fn every_load_gets_all_replies_in_every_server_mode() {
    for serve in [&[][..], &["--lines"][..], &["--tokio"][..]] {
        let server = Server::start(serve);
        let pid = server.child.id();
        for load in [
            "--connections 1",
            "--connections 50 --depth 16",
            "--connections 3 --depth 7 --size 5",
            "--connections 8 --size 65000 --depth 40",
            "--connections 20 --rate 5000",
            "--connections 20 --rate 5000 --bursts",
            "--connections 2 --rate 5000 --depth 4",
        ] {
            let output = floor(
                "load",
                server.address,
                &format!("{load} --seconds 0.2 --warmup 0.05 --pid {pid}"),
            );
            let report = figures(&output);
            assert!(output.status.success(), "{load}: {report}");
            assert_eq!(report["wrong"], 0, "{load}: {report}");
            assert_eq!(report["unanswered"], 0, "{load}: {report}");
            assert!(report["messages"].as_u64() > Some(10), "{load}: {report}");
            assert!(
                report["cpu_us_per_message"].as_f64() > Some(0.0),
                "{load}: {report}"
            );
            let order = ["p50_us", "p90_us", "p99_us", "max_us"].map(|name| report[name].as_f64());
            assert!(
                order.is_sorted() && order[0] > Some(0.0),
                "{load}: {report}"
            );
        }
    }
}

#[test]
fn datagram_replies_are_checked() {
    let server = Server::start(&["--udp"]);
    let options = format!(
        "--sockets 8 --seconds 0.2 --warmup 0.05 --pid {}",
        server.child.id()
    );
    let output = floor("udp", server.address, &options);
    let report = figures(&output);
    assert!(output.status.success(), "{report}");
    assert_eq!(report["wrong"], 0, "{report}");
    assert!(report["messages"].as_u64() > Some(10), "{report}");

    // The control: a server that sends back what it receives.
    let liar = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    let address = liar.local_addr().expect("an address");
    thread::spawn(move || {
        let mut buffer = [0; 128];
        while let Ok((read, peer)) = liar.recv_from(&mut buffer) {
            let _ = liar.send_to(&buffer[..read], peer);
        }
    });
    let output = floor("udp", address, "--sockets 2 --seconds 0.1 --warmup 0.05");
    assert_eq!(output.status.code(), Some(7));
    assert!(figures(&output)["wrong"].as_u64() > Some(0));
}

#[test]
fn feasible_rate_is_met_and_infeasible_rate_is_reported() {
    let server = Server::start(&[]);
    let paced = figures(&floor(
        "load",
        server.address,
        "--connections 10 --rate 2000 --seconds 0.5 --warmup 0.1",
    ));
    let messages = paced["messages"].as_f64().expect("a count");
    assert!((900.0..=1100.0).contains(&messages), "{paced}");

    let missed = figures(&floor(
        "load",
        server.address,
        "--connections 1 --rate 10000000 --seconds 0.2",
    ));
    assert!(missed["unsent"].as_u64() > Some(1000), "{missed}");
    assert!(
        missed["p50_us"].as_f64() > Some(10_000.0),
        "lateness counts: {missed}"
    );
}

#[test]
fn idle_and_churn_loads_report_figures() {
    let server = Server::start(&[]);
    let pid = server.child.id();
    let idle = figures(&floor(
        "idle",
        server.address,
        &format!("--connections 50 --hold 0.05 --pid {pid}"),
    ));
    assert_eq!(idle["wrong"], 0);
    assert!(idle["rss_before_kib"].as_u64() > Some(100), "{idle}");
    assert!(idle["rss_spoken_kib"].as_u64() >= idle["rss_before_kib"].as_u64());
    let churn = figures(&floor(
        "churn",
        server.address,
        &format!("--connections 4 --seconds 0.1 --pid {pid}"),
    ));
    assert_eq!(churn["wrong"], 0);
    assert!(churn["connections"].as_u64() >= Some(4), "{churn}");
    assert!(
        churn["cpu_us_per_connection"].as_f64() > Some(0.0),
        "{churn}"
    );
}

#[test]
fn late_reader_gets_the_whole_reply() {
    let server = Server::start(&[]);
    let stream = server.connect();
    let sent = b"all of it, in upper case and in order\n".repeat(200_000);
    let mut writer = stream.try_clone().expect("a second handle");
    let expected = sent.to_ascii_uppercase();
    let writing = thread::spawn(move || writer.write_all(&sent));
    let mut received = vec![0; expected.len()];
    (&stream)
        .read_exact(&mut received)
        .expect("the whole answer");
    assert!(received == expected);
    writing.join().expect("no panic").expect("all sent");
}

#[test]
fn line_is_answered_when_complete() {
    let server = Server::start(&["--lines"]);
    let mut stream = server.connect();
    stream.write_all(b"one\ntw").expect("sent");
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).expect("the first line");
    assert_eq!(&reply, b"ONE\n");
    stream.write_all(b"o\n").expect("sent");
    stream.read_exact(&mut reply).expect("the second line");
    assert_eq!(&reply, b"TWO\n");
}

/// A server that answers in upper case, after `lie` has changed each line.
fn liar(lie: fn(usize, Vec<u8>) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).split(b'\n');
        let mut stream = stream;
        for number in 0.. {
            let Some(Ok(mut line)) = lines.next() else {
                return;
            };
            line.make_ascii_uppercase();
            line.push(b'\n');
            if stream.write_all(&lie(number, line)).is_err() {
                return;
            }
        }
    });
    address
}

#[test]
fn wrong_replies_fail_the_run() {
    let one = "--connections 1 --depth 8 --seconds 0.2 --warmup 0.05";

    let honest = floor("load", liar(|_, line| line), one);
    assert!(honest.status.success(), "{}", figures(&honest));

    let corrupt = floor(
        "load",
        liar(|number, mut line| {
            if number == 10 {
                line[20] ^= 1;
            }
            line
        }),
        one,
    );
    assert_eq!(figures(&corrupt)["wrong"], 1);
    assert_eq!(corrupt.status.code(), Some(7));

    let lost = floor(
        "load",
        liar(|number, line| if number == 10 { Vec::new() } else { line }),
        one,
    );
    assert_eq!(lost.status.code(), Some(7));
    assert_eq!(figures(&lost)["unanswered"], 1);

    let lower = floor("load", liar(|_, line| line.to_ascii_lowercase()), one);
    let report = figures(&lower);
    assert!(
        report["wrong"].as_u64() >= report["messages"].as_u64(),
        "{report}"
    );

    let doubled = floor(
        "load",
        liar(|number, line| if number == 10 { line.repeat(2) } else { line }),
        one,
    );
    assert!(!doubled.status.success());
}
