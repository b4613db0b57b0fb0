//! `echoic probe tls://`.

use std::{fs, net::TcpListener, time::Duration};

use serde_json::Value;

use super::{
    certs::{Ca, Pair, Valid},
    home,
    openssl::SServer,
};
use crate::harness::{Home, Ran, Serve, run};

fn probe(home: &Home, endpoint: &str, args: &[&str]) -> Ran {
    let timeout: &[&str] = if args.contains(&"-w") {
        &[]
    } else {
        &["-w", "20s"]
    };
    run(
        &mut home.echoic(&[&["probe", endpoint], timeout, args].concat()),
        b"",
    )
}

/// Probes with `--json`, and checks the exit code.
#[track_caller]
fn report(home: &Home, endpoint: &str, args: &[&str], code: i32) -> Value {
    let ran = probe(home, endpoint, &[&["--json"], args].concat());
    assert_eq!(ran.code, Some(code), "{ran:?}");
    let told: Value = serde_json::from_slice(&ran.out).unwrap();
    assert_eq!(told["exit"], code);
    told
}

#[test]
fn trusted_server_is_described_with_chain_names_and_days() {
    let (home, ca) = home();
    let between = ca.below("between");
    let pair = between.server(&["localhost", "127.0.0.1"], Valid::Now);
    pair.write(home.path(), "chain");
    fs::write(home.path().join("between.pem"), &between.pem).unwrap();
    let args = ["-cert", "chain.pem", "-cert_chain", "between.pem"];
    let server = SServer::start(
        &home,
        &[&args[..], &["-key", "chain.key", "-alpn", "a,b"]].concat(),
    );
    let at = server.named("localhost");
    let args = ["--ca", "ca.pem", "--alpn", "b"];
    let told = report(&home, &at, &args, 0);
    assert_eq!(told["state"], "trusted");
    let tls = &told["tls"][0];
    assert_eq!(tls["version"], "1.3");
    assert_eq!(tls["alpn"], "b");
    assert_eq!(tls["sni"], "localhost");
    assert_eq!(tls["trusted"], true);
    assert!(tls["cipher"].as_str().unwrap().starts_with("TLS13_"));
    assert!(tls["group"].as_str().is_some_and(|group| !group.is_empty()));
    assert_eq!(tls["chain"][0]["subject"], "CN=server");
    assert_eq!(
        tls["chain"][0]["names"],
        serde_json::json!(["localhost", "127.0.0.1"])
    );
    assert_eq!(tls["chain"][1]["subject"], "CN=between");
    assert_eq!(tls["chain"][1]["ca"], true);
    assert_eq!(tls["chain"][0]["not_after"], "2199-01-01T00:00:00Z");
    let today = jiff::Timestamp::now().as_second();
    let end = "2199-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let days = (end.as_second() - today) / 86_400;
    let days_left = tls["days_left"].as_i64().unwrap();
    assert!((days..=days + 1).contains(&days_left), "{days_left}");

    let text = probe(&home, &at, &args).good();
    for part in [
        "TLS     1.3, TLS13_",
        "ALPN b, server name localhost",
        "cert 1  CN=server, for localhost, 127.0.0.1, issued by CN=between",
        "cert 2  CN=between, for issuing (CA), issued by CN=test root",
        "valid 2020-01-01 to 2199-01-01, ",
        "days left",
        "verdict: trusted: ",
        "verified by the certificates in ca.pem",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The version is that of the server, and there is no half of the chain on the way.
    let server = SServer::start(
        &home,
        &["-cert", "chain.pem", "-key", "chain.key", "-tls1_2"],
    );
    let ran = probe(&home, &server.named("localhost"), &["--ca", "ca.pem"]);
    assert_eq!(ran.code, Some(8), "{ran:?}");
    let out = String::from_utf8_lossy(&ran.out);
    for part in [
        "TLS     1.2, ",
        "speaks TLS 1.2, but the server's certificate is signed by an unknown issuer, CN=between",
        "the server sent no certificate of an issuer",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn flaws_of_a_certificate_are_told_with_8_and_all_of_the_chain() {
    let (home, ca) = home();
    for (name, pair) in [
        ("past", ca.server(&["localhost"], Valid::Past)),
        ("future", ca.server(&["localhost"], Valid::Future)),
        (
            "other",
            ca.server(&["example.org", "example.net"], Valid::Now),
        ),
        ("alone", Pair::self_signed(&["localhost"])),
        (
            "stranger",
            Ca::new("stranger").server(&["localhost"], Valid::Now),
        ),
    ] {
        pair.write(home.path(), name);
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let server = SServer::start(&home, &["-cert", &cert, "-key", &key]);
        let told = report(&home, &server.named("localhost"), &["--ca", "ca.pem"], 8);
        let (reason, part) = match name {
            "past" => ("expired", "expired "),
            "future" => ("not-yet-valid", "is not valid before 2198"),
            "other" => (
                "wrong-name",
                "is not for localhost, but for example.org, example.net",
            ),
            "alone" => ("unknown-issuer", "signed by itself"),
            _ => ("unknown-issuer", "unknown issuer, CN=stranger"),
        };
        assert_eq!(told["state"], "not trusted", "{name}");
        let tls = &told["tls"][0];
        assert_eq!(tls["reason"], reason, "{name}");
        assert!(tls["why"].as_str().unwrap().contains(part), "{name}: {tls}");
        assert!(told["verdict"].as_str().unwrap().contains(part), "{told}");
        assert_eq!(tls["version"], "1.3", "{name}");
        assert_eq!(tls["chain"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!(tls["days_left"].as_i64().unwrap() < 0, name == "past");
        if name == "other" {
            let args = ["--ca", "ca.pem", "--servername", "example.net"];
            let told = report(&home, &server.named("localhost"), &args, 0);
            assert_eq!(told["tls"][0]["sni"], "example.net");
        }
    }
}

#[test]
fn server_that_wants_a_certificate_is_told_under_both_versions() {
    let (home, ca) = home();
    ca.client("someone", Valid::Now)
        .write(home.path(), "client");
    for version in ["-tls1_3", "-tls1_2"] {
        let args = [
            "-cert",
            "server.pem",
            "-key",
            "server.key",
            "-CAfile",
            "ca.pem",
        ];
        let server = SServer::start(&home, &[&args[..], &["-Verify", "2", version]].concat());
        let at = server.named("localhost");
        let told = report(&home, &at, &["--ca", "ca.pem"], 8);
        assert_eq!(told["state"], "handshake failed", "{version}");
        assert_eq!(told["tls"][0]["reason"], "client-certificate", "{told}");
        assert!(
            told["verdict"].as_str().unwrap().contains("--client-cert"),
            "{told}"
        );
        // Under 1.3 the refusal comes after the handshake; asking the service must not hide it.
        if version == "-tls1_3" {
            let args = ["--ca", "ca.pem", "--send", "x\n", "--expect", "x"];
            let asked = report(&home, &at, &args, 8);
            assert_eq!(asked["tls"][0]["reason"], "client-certificate", "{asked}");
            assert_eq!(asked["tls"][0]["chain"][0]["subject"], "CN=server");
        }
        let args = [
            "--ca",
            "ca.pem",
            "--client-cert",
            "client.pem",
            "--client-key",
            "client.key",
        ];
        let told = report(&home, &at, &args, 0);
        assert_eq!(told["tls"][0]["wants_certificate"], true);
    }
}

#[test]
fn peers_without_tls_and_without_an_answer_are_told_apart() {
    let (home, _) = home();
    let serve = Serve::start_in(
        &home,
        &[
            "greet=tcp://127.0.0.1:0",
            "echo=tcp://127.0.0.1:0",
            "upper=tcp://127.0.0.1:0",
        ],
    );
    let own = "our own ClientHello back";
    for (at, part) in serve.at.iter().zip(["no TLS record", own, own]) {
        let told = report(&home, &format!("tls://127.0.0.1:{}", at.port()), &[], 8);
        assert_eq!(told["state"], "handshake failed", "{told}");
        assert_eq!(told["tls"][0]["reason"], "not-tls", "{told}");
        let verdict = told["verdict"].as_str().unwrap();
        assert!(
            verdict.contains(part) && verdict.contains("try tcp://"),
            "{told}"
        );
    }
    // Accepts by its queue, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("tls://{}", silent.local_addr().unwrap());
    let told = report(&home, &at, &["-w", "300ms"], 5);
    assert_eq!(told["tls"][0]["reason"], "timed-out", "{told}");
    let closed = silent.local_addr().unwrap();
    drop(silent);
    assert_eq!(probe(&home, &format!("tls://{closed}"), &[]).code, Some(4));
    assert_eq!(probe(&home, "tls://nowhere.invalid:443", &[]).code, Some(3));
}

#[test]
fn expectation_is_asked_over_tls_and_every_address_is_shaken_hands_with() {
    let (home, _) = home();
    let endpoint = "upper=tls://127.0.0.1:0?cert=server.pem&key=server.key&frame=line";
    let serve = Serve::start_in(&home, &[endpoint]);
    let at = format!("tls://localhost:{}", serve.at[0].port());
    let args = ["--ca", "ca.pem", "--send", "hi\n", "--expect", "HI"];
    assert_eq!(report(&home, &at, &args, 0)["state"], "ready");
    let args = [
        "--ca", "ca.pem", "--send", "hi\n", "--expect", "no", "-w", "1s",
    ];
    assert_eq!(report(&home, &at, &args, 7)["state"], "not ready");
    let told = report(&home, &at, &["--ca", "ca.pem", "--all"], 0);
    assert_eq!(told["tls"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(
        told["tls"][0]["address"],
        format!("127.0.0.1:{}", serve.at[0].port())
    );
}

#[test]
fn wait_ends_once_the_server_is_trusted() {
    let (home, ca) = home();
    // An address of its own: between the two binds no other test takes the port.
    let place = TcpListener::bind("127.0.0.46:0").unwrap();
    let at = place.local_addr().unwrap();
    drop(place);
    let server = ca.server(&["127.0.0.46"], Valid::Now);
    server.write(home.path(), "server");
    let endpoint = format!("tls://{at}");
    let args = [
        "probe", &endpoint, "--ca", "ca.pem", "--wait", "30s", "-w", "5s",
    ];
    let waiting = home
        .echoic(&args)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300)); // at least one refused round, or none: both must end well
    let listen = format!("upper=tls://{at}?cert=server.pem&key=server.key");
    let _serve = Serve::start_in(&home, &[&listen]);
    let ran = waiting.wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
}
