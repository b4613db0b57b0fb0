//! `echoic probe` as users run it, in networks where names do not resolve and packets get lost.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;
#[path = "probe/names.rs"]
mod names;
#[path = "probe/network.rs"]
mod network;

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use harness::{Home, Lines, Ran, Serve, obeyed, run, terminal, wait_for_end};
use names::DnsReply;
use network::{HOLE_V4, HOLE_V6, Network, in_a_network};
use serde_json::Value;

const LOCALHOST: &str = "127.0.0.1 localhost\n::1 localhost\n";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(text: &[&str]) -> DnsReply {
    DnsReply::Addresses(text.iter().map(|text| ip(text)).collect())
}

/// Asserts the exit code of a probe and the parts of its verdict.
#[track_caller]
fn ends(network: &Network, args: &str, code: i32, parts: &[&str]) -> Value {
    let ran = network.echoic(&format!("probe --json {args}"));
    let report = json(&ran);
    let verdict = report["verdict"].as_str().unwrap();
    assert_eq!(ran.code, Some(code), "{args}: {report}");
    for part in parts {
        assert!(verdict.contains(part), "{args}: no {part:?} in: {verdict}");
    }
    assert_eq!(
        (report["exit"].as_i64(), ran.err.as_str()),
        (Some(code.into()), ""),
        "{args}"
    );
    report
}

#[track_caller]
fn json(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn ms(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// How much later than planned it may be on a busy machine: less than the time limits of 20 addresses, one after the other.
const LATE_MS: f64 = 6000.0;

#[test]
fn unresolvable_name_reports_the_cause() {
    in_a_network(
        "unresolvable_name_reports_the_cause",
        LOCALHOST,
        |network| {
            names::serve(vec![
                ("fail.test", DnsReply::Code(2), DnsReply::Code(2)),
                ("refuse.test", DnsReply::Code(5), DnsReply::Code(5)),
                ("empty.test", DnsReply::NoRecord, DnsReply::NoRecord),
                ("mute.test", DnsReply::Nothing, DnsReply::Nothing),
            ]);
            ends(
                network,
                "nx.test:80",
                3,
                &["not resolved: there is no such name as nx.test (NXDOMAIN)"],
            );
            ends(network, "nx.test", 3, &["no such name"]);
            ends(network, "udp://nx.test:80", 3, &["no such name"]);
            ends(network, "nx.test:80 --all", 3, &["no such name"]);
            ends(
                network,
                "fail.test:80",
                3,
                &["the resolver failed (SERVFAIL from 127.0.0.53)"],
            );
            ends(
                network,
                "refuse.test:80",
                3,
                &["the resolver failed (REFUSED from 127.0.0.53)"],
            );
            ends(
                network,
                "empty.test:80",
                3,
                &["empty.test exists and has no address, neither AAAA nor A"],
            );
            for all in ["", " --all"] {
                let args = format!("mute.test:80 --timeout 1s{all}");
                let report = ends(
                    network,
                    &args,
                    3,
                    &[
                        "the resolver is silent, 127.0.0.53 gave no answer",
                        "within 1 s",
                    ],
                );
                assert!(
                    (1000.0..1000.0 + LATE_MS).contains(&ms(&report["took_ms"])),
                    "{report}"
                );
            }
        },
    );
}

#[test]
fn missing_resolver_is_reported() {
    in_a_network("missing_resolver_is_reported", LOCALHOST, |network| {
        ends(
            network,
            "some.test:80 --timeout 2s",
            3,
            &["not resolved: no name server listens at 127.0.0.53"],
        );
    });
}

#[test]
fn slow_resolver_is_waited_for() {
    in_a_network("slow_resolver_is_waited_for", LOCALHOST, |network| {
        network.have(ip("192.0.2.7"));
        let late = DnsReply::Late(Duration::from_millis(300), vec![ip("192.0.2.7")]);
        names::serve(vec![(
            "slow.test",
            DnsReply::Late(Duration::from_millis(300), vec![]),
            late,
        )]);
        let server = TcpListener::bind("192.0.2.7:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let report = ends(
            network,
            &format!("slow.test:{port}"),
            0,
            &["192.0.2.7", "connects in"],
        );
        assert!(ms(&report["tries"][0]["started_ms"]) >= 300.0, "{report}");
    });
}

#[test]
fn dns_records_show_their_ttl_and_are_escaped() {
    let test = "dns_records_show_their_ttl_and_are_escaped";
    in_a_network(test, LOCALHOST, |network| {
        network.have(ip("192.0.2.7"));
        names::serve(vec![
            ("plain.test", DnsReply::NoRecord, addresses(&["192.0.2.7"])),
            (
                "evil.test",
                DnsReply::NoRecord,
                DnsReply::Alias(b"\x1b]0;x\x07\xc2\x9b", vec![ip("192.0.2.7")]),
            ),
        ]);
        let server = TcpListener::bind("192.0.2.7:80").unwrap();
        let report = ends(network, "plain.test", 0, &["192.0.2.7:80 connects"]);
        assert_eq!(report["port_assumed"], true);
        let record = &report["dns"]["answers"][1]["records"][0];
        assert_eq!(
            (&record["value"], &record["ttl_s"]),
            (&"192.0.2.7".into(), &names::TTL.into()),
            "{report}"
        );
        let text = network.echoic("probe plain.test").good();
        assert!(text.contains("(port 80 by default)"), "{text}");
        assert!(
            text.contains("record  plain.test. A 192.0.2.7  TTL 77 s"),
            "{text}"
        );
        let ran = network.echoic("probe evil.test:80");
        assert_eq!(obeyed(&ran.out), [], "{ran:?}");
        assert!(ran.out.windows(5).any(|part| part == br"\\033"), "{ran:?}");
        let (ours, theirs) = terminal();
        let shown = Lines::of(ours);
        let mut child = network
            .command("probe evil.test:80")
            .stdout(theirs)
            .spawn()
            .unwrap();
        wait_for_end(&mut child, harness::SOON).expect("it ends");
        assert_eq!(obeyed(shown.all().join("\n").as_bytes()), []);
        drop(server);
    });
}

#[test]
fn d16_ipv4_wins_within_300_ms_when_ipv6_is_a_black_hole() {
    in_a_network(
        "d16_ipv4_wins_within_300_ms_when_ipv6_is_a_black_hole",
        LOCALHOST,
        |network| {
            let six = format!("{HOLE_V6}:2");
            network.lose(ip(&six));
            network.have(ip("192.0.2.7"));
            names::serve(vec![
                ("dual.test", addresses(&[&six]), addresses(&["192.0.2.7"])),
                ("mute6.test", DnsReply::Nothing, addresses(&["192.0.2.7"])),
            ]);
            let server = TcpListener::bind("192.0.2.7:0").unwrap();
            let port = server.local_addr().unwrap().port();
            // The best of three, since the machine may be busy.
            let took = (0..3).map(|_| {
                let report = ends(
                    network,
                    &format!("dual.test:{port}"),
                    0,
                    &["over IPv4, at 192.0.2.7", "had not answered"],
                );
                assert_eq!(report["tries"][0]["outcome"], "overtaken", "{report}");
                ms(&report["tries"][1]["ended_ms"]) - ms(&report["tries"][0]["started_ms"])
            });
            let took = took.fold(f64::MAX, f64::min);
            assert!((249.0..300.0).contains(&took), "{took} ms");
            let all = format!("dual.test:{port} --all --timeout 1200ms");
            ends(
                network,
                &all,
                0,
                &[
                    "over IPv4 only, at 192.0.2.7",
                    "gave no answer within 1.2 s",
                ],
            );
            // A resolver that does not answer AAAA costs 50 ms, and no more at the end. Again the best of three.
            let mute6 = format!("mute6.test:{port} --timeout 4s");
            let reports = [(); 3].map(|()| ends(network, &mute6, 0, &["192.0.2.7"]));
            let best = |time: fn(&Value) -> f64| reports.iter().map(time).fold(f64::MAX, f64::min);
            let started = best(|report| ms(&report["tries"][0]["started_ms"]));
            assert!((50.0..250.0).contains(&started), "{reports:?}");
            let took = best(|report| ms(&report["took_ms"]));
            assert!(took < 2500.0, "{reports:?}");
        },
    );
}

#[test]
fn twenty_addresses_are_tried_until_one_answers_or_all_fail() {
    in_a_network(
        "twenty_addresses_are_tried_until_one_answers_or_all_fail",
        LOCALHOST,
        |network| {
            let ours: Vec<String> = (1..=20).map(|n| format!("192.0.2.{n}")).collect();
            let lost: Vec<String> = (2..=21).map(|n| format!("{HOLE_V4}.{n}")).collect();
            for (ours, lost) in ours.iter().zip(&lost) {
                network.have(ip(ours));
                network.lose(ip(lost));
            }
            let zone =
                |addrs: &[String]| DnsReply::Addresses(addrs.iter().map(|addr| ip(addr)).collect());
            names::serve(vec![
                ("many.test", DnsReply::NoRecord, zone(&ours)),
                ("lost.test", DnsReply::NoRecord, zone(&lost)),
            ]);
            let server = TcpListener::bind("192.0.2.13:0").unwrap();
            let port = server.local_addr().unwrap().port();
            let report = ends(
                network,
                &format!("many.test:{port}"),
                0,
                &["192.0.2.13", "connects in"],
            );
            let last = report["tries"].as_array().unwrap().last().unwrap();
            assert_eq!(last["outcome"], "connected", "{report}");
            let report = ends(
                network,
                &format!("many.test:{port} --all --count 2"),
                0,
                &["and 16 more do not"],
            );
            assert_eq!(
                report["addresses"].as_array().unwrap().len(),
                20,
                "{report}"
            );
            assert!(
                report["addresses"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|addr| addr["tries"] == 2),
                "{report}"
            );
            let report = ends(
                network,
                "lost.test:80 --timeout 1200ms",
                5,
                &["filtered: no answer from", "and 17 more"],
            );
            assert!(
                (1200.0 + 250.0..19.0 * 250.0 + 1200.0 + LATE_MS).contains(&ms(&report["took_ms"])),
                "{report}"
            );
            let report = ends(
                network,
                "lost.test:80 --all --timeout 1200ms",
                5,
                &["filtered"],
            );
            assert!(
                (1200.0..1200.0 + LATE_MS).contains(&ms(&report["took_ms"])),
                "{report}"
            );
        },
    );
}

#[test]
fn d16_refused_filtered_timeout_unreachable_are_distinguished() {
    in_a_network(
        "d16_refused_filtered_timeout_unreachable_are_distinguished",
        LOCALHOST,
        |network| {
            let lost = format!("{HOLE_V4}.2");
            network.lose(ip(&lost));
            network.end_the_way("unreachable", "203.0.113.0/25");
            network.end_the_way("prohibit", "203.0.113.128/25");
            ends(
                network,
                ":9",
                4,
                &[
                    "refused: 127.0.0.1:9, [::1]:9 rejected the connection: nothing listens on that port",
                ],
            );
            ends(
                network,
                "127.0.0.1:9 --all",
                4,
                &[
                    "refused: 127.0.0.1:9 rejected the connection",
                    "or a firewall rejects it",
                ],
            );
            let filtered = format!(
                "no answer from {lost}:80 within 1.2 s, so it is filtered, or the host is down"
            );
            ends(
                network,
                &format!("{lost} --timeout 1200ms"),
                5,
                &["filtered", &filtered],
            );
            ends(
                network,
                &format!("{lost}:80 --timeout 300ms"),
                5,
                &["timed out", "within 300 ms, too short"],
            );
            ends(
                network,
                &format!("udp://{lost}:9 --timeout 300ms"),
                5,
                &["silent: nothing came back"],
            );
            ends(
                network,
                "203.0.113.1:80",
                4,
                &["unreachable: 203.0.113.1:80: no route to that host"],
            );
            ends(
                network,
                "203.0.113.129:80",
                4,
                &["unreachable: a firewall rule of this machine forbids"],
            );
            ends(
                network,
                "192.0.2.99:80",
                4,
                &["unreachable: this machine has no route to 192.0.2.99:80"],
            );
            ends(
                network,
                "udp://192.0.2.99:80",
                4,
                &["unreachable: this machine has no route"],
            );
        },
    );
}

/// The same server at each port, with a different rule before each: the firewall is recognised by its effect.
#[test]
fn firewall_rule_is_identified_by_its_response() {
    in_a_network(
        "firewall_rule_is_identified_by_its_response",
        LOCALHOST,
        |network| {
            let _servers: Vec<_> = (81..=86)
                .map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap())
                .collect();
            let _udp: Vec<_> = (87..=88)
                .map(|port| UdpSocket::bind(("127.0.0.1", port)).unwrap())
                .collect();
            for port in 81..=86 {
                let report = ends(
                    network,
                    &format!("127.0.0.1:{port} --all"),
                    0,
                    &["reachable"],
                );
                let mss = report["tries"][0]["mss"].as_u64();
                assert!(mss.is_some_and(|mss| mss > 500), "{report}");
            }
            ends(
                network,
                "udp://127.0.0.1:88 --timeout 300ms",
                5,
                &["silent"],
            );
            for (port, rule) in [
                (82, "drop"),
                (83, "reject with tcp reset"),
                (84, "reject with icmpx port-unreachable"),
                (85, "reject with icmpx host-unreachable"),
                (86, "reject with icmpx admin-prohibited"),
            ] {
                network.rule("input", &format!("tcp dport {port} {rule}"));
            }
            network.rule("input", "udp dport 87 drop");
            network.rule("input", "udp dport 88 reject");
            let far = format!("{HOLE_V4}.7");
            network.rule("output", &format!("ip daddr {far} drop"));

            let here = "1.2 s, and it is this machine: the server does not accept and its queue is full, or a rule here drops its packets";
            for (args, code, part) in [
                ("127.0.0.1:81", 0, "reachable"),
                ("127.0.0.1:82 --timeout 1200ms", 5, here),
                (
                    "127.0.0.1:83",
                    4,
                    "rejected the connection: nothing listens on that port, or a firewall rejects it",
                ),
                (
                    "127.0.0.1:84",
                    4,
                    "rejected the connection: nothing listens on that port, or a firewall rejects it",
                ),
                (
                    "127.0.0.1:85",
                    4,
                    "no route to that host: it is down, or a router on the way forbids it",
                ),
                (
                    "127.0.0.1:86",
                    4,
                    "no route to that host: it is down, or a router on the way forbids it",
                ),
                (
                    "udp://127.0.0.1:87 --timeout 300ms",
                    5,
                    "silent: nothing came back",
                ),
                ("udp://127.0.0.1:88 --timeout 300ms", 4, "closed"),
            ] {
                ends(network, args, code, &[part]);
            }
            let filtered = format!("no answer from {far}:80 within 1.2 s, so it is filtered");
            ends(
                network,
                &format!("{far}:80 --timeout 1200ms"),
                5,
                &[&filtered],
            );
        },
    );
}

#[test]
fn localhost_resolving_to_ipv6_first_is_reported() {
    in_a_network(
        "localhost_resolving_to_ipv6_first_is_reported",
        "::1 localhost\n127.0.0.1 localhost\n",
        |network| {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = server.local_addr().unwrap().port();
            let report = ends(
                network,
                &format!("localhost:{port}"),
                0,
                &[
                    "over IPv4 only",
                    "localhost gave ::1 first, and the server is v4-only",
                ],
            );
            assert_eq!(report["tries"][0]["address"], format!("[::1]:{port}"));
            let ran = network.echoic(&format!("probe localhost:{port} --explain"));
            for call in [
                format!("getaddrinfo(\"localhost\") = [::1]:{port}"),
                format!("getaddrinfo(\"localhost\") = 127.0.0.1:{port}"),
                format!("connect([::1]:{port}) ! "),
                format!("connect(127.0.0.1:{port})\n"),
            ] {
                assert!(ran.err.contains(&call), "no {call} in {}", ran.err);
            }
            let both = TcpListener::bind(format!("[::1]:{port}")).unwrap();
            let report = ends(network, &format!("localhost:{port}"), 0, &[]);
            assert!(
                !report["verdict"].as_str().unwrap().contains("only"),
                "{report}"
            );
            drop((server, both));
        },
    );
}

#[test]
fn connect_races_addresses_and_leaves_a_silent_resolver() {
    in_a_network(
        "connect_races_addresses_and_leaves_a_silent_resolver",
        LOCALHOST,
        |network| {
            let six = format!("{HOLE_V6}:2");
            network.lose(ip(&six));
            network.have(ip("192.0.2.7"));
            names::serve(vec![
                ("dual.test", addresses(&[&six]), addresses(&["192.0.2.7"])),
                ("mute.test", DnsReply::Nothing, DnsReply::Nothing),
            ]);
            let server = TcpListener::bind("192.0.2.7:0").unwrap();
            let port = server.local_addr().unwrap().port();
            let greeting = thread::spawn(move || {
                let (mut peer, _) = server.accept().unwrap();
                peer.write_all(b"hello").unwrap();
            });
            // An attempt at the lost address alone would take all of the time limit.
            let began = Instant::now();
            let ran = network.echoic(&format!("connect -v -w 10s dual.test:{port}"));
            assert!(began.elapsed() < Duration::from_secs(10), "{ran:?}");
            assert_eq!(
                (ran.code, ran.out.as_slice()),
                (Some(0), &b"hello"[..]),
                "{ran:?}"
            );
            assert!(
                ran.err.contains(&format!("[{six}]:{port} gave no answer")),
                "{ran:?}"
            );
            greeting.join().unwrap();
            let began = Instant::now();
            let ran = network.echoic("connect -w 500ms mute.test:80");
            assert_eq!(ran.code, Some(3), "{ran:?}");
            assert!(
                ran.err.contains("the resolver gave no answer within 500ms"),
                "{ran:?}"
            );
            // The resolver itself tries for ten seconds.
            assert!(
                began.elapsed() < Duration::from_secs(4),
                "{:?}",
                began.elapsed()
            );
        },
    );
}

#[test]
fn every_help_example_runs() {
    in_a_network("every_help_example_runs", LOCALHOST, |network| {
        network.have(ip("192.0.2.7"));
        names::serve(vec![(
            "example.test",
            DnsReply::NoRecord,
            addresses(&["192.0.2.7"]),
        )]);
        let _web = TcpListener::bind("192.0.2.7:80").unwrap();
        let server = TcpListener::bind("127.0.0.1:5000").unwrap();
        thread::spawn(move || {
            for mut peer in server.incoming().map(Result::unwrap) {
                thread::spawn(move || peer.write_all(b"HI\n"));
            }
        });
        let udp = UdpSocket::bind("127.0.0.1:5000").unwrap();
        thread::spawn(move || {
            while let Ok((n, peer)) = udp.recv_from(&mut [0; 99]) {
                udp.send_to(&b"????"[..n], peer).unwrap();
            }
        });
        let help = network.echoic("probe --help").good();
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_echoic"))
            .parent()
            .unwrap();
        let examples = help
            .lines()
            .filter_map(|line| line.strip_prefix("  echoic probe "))
            // tests/tls/probe.rs has peers for those of TLS.
            .filter(|example| !example.starts_with("tls://"))
            .collect::<Vec<_>>();
        assert!(examples.len() >= 6, "{help}");
        for example in examples {
            let (command, _) = example
                .split_once("   ")
                .expect("what it does stands behind it");
            let command = format!("PATH={}:$PATH; echoic probe {command}", program.display());
            let ran = run(std::process::Command::new("sh").args(["-c", &command]), b"");
            assert_eq!(ran.code, Some(0), "{command}: {ran:?}");
        }
    });
}

#[test]
fn udp_probe_reports_open_closed_or_silent() {
    let home = Home::new();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let silent = home.run(&["probe", &format!("udp://{addr}"), "--timeout", "200ms"]);
    assert_eq!(silent.code, Some(5), "{silent:?}");
    assert!(
        String::from_utf8_lossy(&silent.out).contains("verdict: silent"),
        "{silent:?}"
    );
    server.set_nonblocking(true).unwrap();
    while server.recv(&mut [0; 9]).is_ok() {}
    server.set_nonblocking(false).unwrap();
    let answering = thread::spawn(move || {
        let (_, peer) = server.recv_from(&mut [0; 9]).unwrap();
        server.send_to(b"yes", peer).unwrap();
    });
    let open = home.run(&["probe", &format!("udp://{addr}")]).good();
    assert!(
        open.contains("replied, 3 B") && open.contains("verdict: open"),
        "{open}"
    );
    answering.join().unwrap();
    let closed = home.run(&["probe", &format!("udp://{addr}")]);
    assert_eq!(closed.code, Some(4), "{closed:?}");
}

#[test]
fn exit_code_is_that_of_the_first_unreachable_target() {
    let home = Home::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = server.local_addr().unwrap().to_string();
    let gone = {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string()
    };
    assert_eq!(home.run(&["probe", &good, &good]).code, Some(0));
    let ran = home.run(&[
        "probe",
        "--json",
        &good,
        &gone,
        "no-such-name.invalid:80",
        &good,
    ]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let states: Vec<String> = String::from_utf8(ran.out)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["state"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        states,
        ["reachable", "refused", "not resolved", "reachable"]
    );
}

#[test]
fn waiting_ends_when_the_server_appears_or_at_the_deadline() {
    let home = Home::new();
    let gone = {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let late = home.run(&["probe", "--wait", "600ms", &gone.to_string()]);
    assert_eq!(late.code, Some(4), "{late:?}");
    assert!(
        String::from_utf8_lossy(&late.out).contains("still so at try"),
        "{late:?}"
    );
    let (mut child, out) = home.start(&["probe", "--wait", "20", "--json", &gone.to_string()]);
    let server = TcpListener::bind(gone).unwrap();
    let status = wait_for_end(&mut child, harness::SOON).expect("it ends");
    assert!(status.success(), "{:?}", out.all());
    drop(server);
}

#[test]
fn endpoints_share_the_wait_and_each_is_tried() {
    let home = Home::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = server.local_addr().unwrap().to_string();
    let gone = {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string()
    };
    let ran = home.run(&["probe", "--json", "--wait", "1s", &gone, &gone, &good]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let reports = String::from_utf8(ran.out).unwrap();
    let [first, second, third] = [0, 1, 2].map(|number| {
        let line = reports.lines().nth(number).unwrap();
        serde_json::from_str::<Value>(line).unwrap()
    });
    assert!(first["rounds"].as_u64().unwrap() > 1, "{first}");
    assert_eq!(
        (&second["state"], &second["rounds"]),
        (&"refused".into(), &1.into()),
        "the first has used up the wait"
    );
    assert_eq!(third["state"], "reachable", "{third}");
    // Nothing is left of the wait after an endpoint that gives no answer.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = format!("udp://{}", socket.local_addr().unwrap());
    let slow = UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = format!("udp://{}", slow.local_addr().unwrap());
    thread::spawn(move || {
        let (_, from) = slow.recv_from(&mut [0; 9]).unwrap();
        thread::sleep(Duration::from_millis(50));
        slow.send_to(b"here", from).unwrap();
    });
    let ran = home.run(&["probe", "--wait", "300ms", &silent, &good]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let out = String::from_utf8_lossy(&ran.out);
    assert!(out.contains("verdict: open"), "{out}");
}

/// Serves each connection with `serve`, which gets the number of those before.
fn tcp_server(mut serve: impl FnMut(usize, TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for (number, peer) in listener.incoming().enumerate() {
            serve(number, peer.unwrap());
        }
    });
    at
}

/// Probes for an answer, and asserts the exit code and parts of the verdict.
#[track_caller]
fn answers(home: &Home, args: &[&str], code: i32, parts: &[&str]) -> Value {
    let ran = home.run(&[&["probe", "--json"], args].concat());
    let report = json(&ran);
    assert_eq!(ran.code, Some(code), "{report}");
    for part in parts {
        let verdict = report["verdict"].as_str().unwrap();
        assert!(verdict.contains(part), "no {part:?} in {verdict}");
    }
    report
}

#[test]
fn waiting_for_an_answer_redials_until_the_service_is_up() {
    let home = Home::new();
    // A proxy: it accepts, and closes while its service is down.
    let at = tcp_server(|number, mut peer| {
        let mut request = [0; 5];
        if number >= 3 && peer.read_exact(&mut request).is_ok() {
            peer.write_all(request.to_ascii_uppercase().as_slice())
                .unwrap();
        }
    });
    let ask = ["--send", "ping\\n", "--expect", "/^PING$/", &at];
    let report = answers(
        &home,
        &ask,
        7,
        &["not ready", "received nothing", "--wait 30s"],
    );
    assert_eq!(report["state"], "not ready");
    let report = answers(
        &home,
        &[&["--wait", "20"], &ask[..]].concat(),
        0,
        &["ready: "],
    );
    assert!(report["rounds"].as_u64().unwrap() >= 2, "{report}");
    assert_eq!(report["answer"]["met"], true);
}

#[test]
fn service_that_never_answers_is_not_ready_at_the_deadline() {
    let home = Home::new();
    let mut held = Vec::new();
    let at = tcp_server(move |_, peer| held.push(peer));
    let since = Instant::now();
    let args = ["--wait", "700ms", "-w", "200ms", "--expect", "hello", &at];
    let parts = ["not ready", "no answer came within", "still so at try"];
    answers(&home, &args, 7, &parts);
    assert!(since.elapsed() < harness::SOON);
    // The last round is cut short by the end of the wait.
    answers(
        &home,
        &["--wait", "300ms", "--expect", "hello", &at],
        7,
        &["not ready"],
    );
    let at = tcp_server(|_, mut peer| {
        peer.write_all(b"OK").unwrap();
        thread::sleep(Duration::from_millis(200));
        peer.write_all(b": no\n").unwrap();
    });
    answers(&home, &["--expect", "/^OK$/", &at], 7, &["received OK: no"]);
}

#[test]
fn unexpected_answer_is_asked_for_again_over_a_new_connection() {
    let home = Home::new();
    let mut held = Vec::new();
    let at = tcp_server(move |number, mut peer| {
        let answer = if number == 0 { "starting\n" } else { "up\n" };
        peer.write_all(answer.as_bytes()).unwrap();
        held.push(peer);
    });
    let args = ["--wait", "6", "-w", "20", "--expect", "up", &at];
    let report = answers(&home, &args, 0, &["ready: ", "at try 2"]);
    assert_eq!(report["answer"]["met"], true);
    let args = ["--wait", "2500ms", "-w", "20", "--expect", "down", &at];
    answers(&home, &args, 7, &["expected down, received up"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = format!("udp://{}", socket.local_addr().unwrap());
    thread::spawn(move || {
        for answer in ["starting", "up"] {
            let (_, from) = socket.recv_from(&mut [0; 9]).unwrap();
            socket.send_to(answer.as_bytes(), from).unwrap();
        }
    });
    let args = [
        "--wait", "6", "-w", "20", "--send", "x", "--expect", "up", &at,
    ];
    answers(&home, &args, 0, &["ready: ", "at try 2"]);
}

#[test]
fn wait_is_used_to_its_end() {
    let home = Home::new();
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let at = gone.to_string();
    let ran = home.run(&["probe", "--json", "--wait", "1200ms", &at]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let waited = json(&ran)["waited_ms"].as_f64().unwrap();
    assert!(waited >= 1150.0, "{waited}");
}

#[test]
fn answer_is_asked_for_over_every_kind_of_endpoint() {
    let endpoints = [
        "upper=:0",
        "upper=udp://:0",
        "upper=unix:./s",
        "upper=unixgram:./g",
        "upper=unix:@echoic-ready",
    ];
    let serve = Serve::start(&endpoints);
    let home = &serve.home;
    let (tcp, udp) = (serve.at[0].port(), serve.at[serve.at.len() - 1].port());
    let endpoints = [
        &*format!(":{tcp}"),
        &format!("localhost:{tcp}"),
        &format!("udp://:{udp}"),
        &format!("udp://localhost:{udp}"),
        "./s",
        "unixgram:./g",
        "unix:@echoic-ready",
    ];
    for endpoint in endpoints {
        answers(
            home,
            &[endpoint, "--send", "hi", "--expect", "HI"],
            0,
            &["ready: "],
        );
    }
    // Each waits for more until the time is up.
    thread::scope(|scope| {
        for endpoint in endpoints {
            scope.spawn(move || {
                let wrong = [endpoint, "--send", "hi", "--expect", "hi", "-w", "3s"];
                answers(home, &wrong, 7, &["not ready", "received HI"]);
            });
        }
    });
    let free = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    answers(
        home,
        &[&format!("udp://{free}"), "--send", "x", "--expect", "x"],
        4,
        &["closed"],
    );
    answers(home, &["./missing", "--expect", "x"], 4, &["refused"]);
}

#[test]
fn invalid_usage_is_rejected_with_a_hint() {
    let home = Home::new();
    for (args, part) in [
        (vec!["probe"], "ENDPOINT"),
        (vec!["probe", "*:80"], "for listening"),
        (vec!["probe", ":0"], "port 0"),
        (
            vec!["probe", ":80", "--count", "0"],
            "at least 1 and at most 1000",
        ),
    ] {
        let ran = home.run(&args);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(part), "{ran:?}");
    }
}
