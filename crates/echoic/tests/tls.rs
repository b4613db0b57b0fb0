//! TLS from outside, with OpenSSL, Python, curl and echoic itself at the other end.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "tls/bench.rs"]
mod bench;
#[path = "tls/certs.rs"]
mod certs;
mod harness;
#[path = "tls/load.rs"]
mod load;
#[path = "tls/mix_ups.rs"]
mod mix_ups;
#[path = "tls/offered.rs"]
mod offered;
#[path = "tls/openssl.rs"]
mod openssl;
#[path = "tls/probe.rs"]
mod probe;
#[path = "tls/reported.rs"]
mod reported;
#[path = "tls/starttls.rs"]
mod starttls;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    sync::Arc,
    time::{Duration, Instant},
};

use harness::{Home, Ran, SOON, Serve, run, tool, until};

use self::{
    certs::{Ca, Pair, Valid},
    openssl::{SServer, s_client},
};

/// A directory with a root in `ca.pem`, and a certificate of `localhost` and 127.0.0.1 by it in `server.pem`.
fn home() -> (Arc<Home>, Ca) {
    let home = Arc::new(Home::new());
    let ca = Ca::new("test root");
    fs::write(home.path().join("ca.pem"), &ca.pem).unwrap();
    let server = ca.server(&["localhost", "127.0.0.1"], Valid::Now);
    server.write(home.path(), "server");
    (home, ca)
}

const ENDPOINT: &str = "upper=tls://127.0.0.1:0?cert=server.pem&key=server.key&frame=line";

/// Runs `echoic connect` with a line of input.
fn connect(home: &Home, endpoint: &str, args: &[&str]) -> Ran {
    let args = [&["connect", endpoint, "-w", "20s"], args].concat();
    run(&mut home.echoic(&args), b"hello\n")
}

#[track_caller]
fn assert_refused(ran: &Ran, parts: &[&str]) {
    assert_eq!(ran.code, Some(8), "{ran:?}");
    for part in parts {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

/// Each has arguments of `openssl s_client`, and the version that is agreed on or the reason of the alert.
const VERSIONS: [(&[&str], Result<&str, &str>); 6] = [
    (&["-tls1_3"], Ok("1.3")),
    (&["-tls1_2"], Ok("1.2")),
    (&["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"], Err("alert")),
    (&["-tls1", "-cipher", "DEFAULT:@SECLEVEL=0"], Err("alert")),
    (
        &["-tls1_2", "-cipher", "AES128-SHA"],
        Err("alert handshake failure"),
    ),
    (
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
        Err("alert handshake failure"),
    ),
];

#[test]
fn old_versions_and_weak_ciphers_are_refused_by_an_alert() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let port = serve.at[0].port();
    for (args, expected) in VERSIONS {
        match (s_client(&home, port, args), expected) {
            (Ok(reply), Ok(_)) => assert_eq!(reply, "HELLO", "{args:?}"),
            (Err(err), Err(why)) => assert!(err.contains(why), "{args:?}: {err}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
    serve.stop();
    for (_, version) in VERSIONS
        .iter()
        .filter_map(|(args, v)| v.ok().map(|v| (args, v)))
    {
        assert_eq!(home.count(&[&format!("tls:{version}")]), 1, "{version}");
    }
    let failed = home.sql("SELECT failure FROM tls WHERE failure IS NOT NULL");
    assert_eq!(failed.len(), 4, "{failed:?}");
    assert_eq!(
        home.sql("SELECT count(*) FROM conversation WHERE reason = 'handshake-failed'"),
        ["4"]
    );
}

#[test]
fn tls_min_refuses_the_version_below() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[&format!("{ENDPOINT}&tls-min=1.3")]);
    let port = serve.at[0].port();
    assert_eq!(s_client(&home, port, &["-tls1_3"]), Ok("HELLO".to_owned()));
    let err = s_client(&home, port, &["-tls1_2"]).unwrap_err();
    assert!(err.contains("protocol version"), "{err}");
}

#[test]
fn server_name_is_recorded_whatever_it_is() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let port = serve.at[0].port();
    for args in [&["-noservername"][..], &["-servername", "Unknown.Example"]] {
        assert_eq!(
            s_client(&home, port, args),
            Ok("HELLO".to_owned()),
            "{args:?}"
        );
    }
    // By an address, which is no server name, and is verified all the same.
    let ran = connect(
        &home,
        &format!("tls://127.0.0.1:{port}"),
        &["--ca", "ca.pem"],
    );
    assert_eq!(ran.good(), "HELLO\n");
    let ran = connect(
        &home,
        &format!("tls://localhost:{port}"),
        &["--ca", "ca.pem"],
    );
    assert_eq!(ran.good(), "HELLO\n");
    serve.stop();
    let all = home.log(&["tls:1.3"]);
    let names: Vec<_> = all
        .iter()
        .map(|exchange| exchange["tls"]["sni"].as_str())
        .collect();
    let mut names: Vec<_> = names
        .into_iter()
        .map(|name| name.unwrap_or("none"))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["localhost", "none", "none", "unknown.example"]);
    assert_eq!(home.count(&["sni:LOCALHOST,other"]), 1);
    assert_eq!(home.count(&["-sni:localhost", "proto:tls"]), 3);
    assert_eq!(home.count(&["tls:1.2"]), 0);
    let shown = home.run(&["log", "--show", "sni:localhost"]).good();
    assert!(
        shown.contains("TLS 1.3, TLS13_") && shown.contains("server name localhost"),
        "{shown}"
    );
}

#[test]
fn client_certificates_are_verified_and_recorded() {
    let (home, ca) = home();
    let dir = home.path();
    ca.client("alice", Valid::Now).write(dir, "alice");
    ca.client("expired", Valid::Past).write(dir, "expired");
    Ca::new("other root")
        .client("mallory", Valid::Now)
        .write(dir, "mallory");
    let serve = Serve::start_in(&home, &[&format!("{ENDPOINT}&client-ca=ca.pem")]);
    let endpoint = format!("tls://localhost:{}", serve.at[0].port());
    for (name, why) in [
        ("expired", "refuses our certificate"),
        ("mallory", "refuses our certificate"),
    ] {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let args = [
            "--ca",
            "ca.pem",
            "--client-cert",
            &cert,
            "--client-key",
            &key,
        ];
        assert_refused(&connect(&home, &endpoint, &args), &[why]);
    }
    let ran = connect(&home, &endpoint, &["--ca", "ca.pem"]);
    assert_refused(
        &ran,
        &["wants a certificate of the client", "--client-cert FILE"],
    );
    let args = [
        "--ca",
        "ca.pem",
        "--client-cert",
        "alice.pem",
        "--client-key",
        "alice.key",
    ];
    assert_eq!(connect(&home, &endpoint, &args).good(), "HELLO\n");
    serve.stop();
    let client = &home.log(&[])[0]["tls"]["client"];
    assert_eq!(client["subject"], "CN=alice");
    let digest = "openssl x509 -in alice.pem -outform DER | sha256sum | cut -d' ' -f1";
    let mut shell = tool("sh", "dash");
    let digest = run(shell.current_dir(home.path()).args(["-c", digest]), b"").good();
    assert_eq!(client["sha256"], digest.trim());
    let failed =
        home.sql("SELECT failure FROM tls WHERE failure IS NOT NULL ORDER BY conversation");
    let [expired, mallory, none] = &failed[..] else {
        panic!("{failed:?}")
    };
    assert!(expired.contains("expired"), "{expired}");
    assert!(mallory.contains("unknown issuer"), "{mallory}");
    assert!(none.contains("sent no certificate"), "{none}");
}

#[test]
fn alpn_is_negotiated_and_refused_without_a_protocol_in_common() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[&format!("{ENDPOINT}&alpn=h2,http/1.1")]);
    let endpoint = format!("tls://localhost:{}", serve.at[0].port());
    let ca = ["--ca", "ca.pem", "--alpn"];
    let ran = connect(&home, &endpoint, &[&ca[..], &["http/1.1", "-v"]].concat());
    assert!(ran.err.contains("ALPN http/1.1"), "{}", ran.err);
    assert_eq!(ran.good(), "HELLO\n");
    let ran = connect(&home, &endpoint, &[&ca[..], &["mqtt"]].concat());
    assert_refused(&ran, &["knows none of the application protocols", "--alpn"]);
    assert_eq!(
        connect(&home, &endpoint, &["--ca", "ca.pem"]).good(),
        "HELLO\n"
    );
    serve.stop();
    let alpn = home.sql("SELECT coalesce(alpn, '-') FROM tls ORDER BY conversation");
    assert_eq!(alpn, ["http/1.1", "-", "-"]);
}

/// Certificates that a client must refuse: the name of the file, the host to connect to, and what is told.
#[test]
fn connect_refuses_flawed_certificates_and_says_what_to_do() {
    let (home, ca) = home();
    let dir = home.path();
    ca.server(&["localhost"], Valid::Past).write(dir, "past");
    ca.server(&["localhost"], Valid::Future)
        .write(dir, "future");
    ca.server(&["a.example", "*.b.example"], Valid::Now)
        .write(dir, "other");
    Pair::self_signed(&["localhost"]).write(dir, "alone");
    Ca::new("other root")
        .server(&["localhost"], Valid::Now)
        .write(dir, "unknown");
    let between = ca.below("between");
    let chained = between.server(&["localhost"], Valid::Now);
    chained.write(dir, "missing");
    let full = Pair {
        certificate: format!("{}{}", chained.certificate, between.pem),
        key: chained.key,
    };
    full.write(dir, "full");
    let cases: [(&str, &[&str]); 6] = [
        ("past", &["expired", "days ago, on 2021-01-01", "renew it"]),
        ("future", &["not valid before 2198-01-01", "clocks"]),
        (
            "other",
            &[
                "not for localhost, but for a.example, *.b.example",
                "--servername",
            ],
        ),
        ("alone", &["signed by itself", "--ca FILE"]),
        ("unknown", &["unknown issuer, CN=other root", "--ca FILE"]),
        ("missing", &["unknown issuer, CN=between", "--ca FILE"]),
    ];
    for (name, parts) in cases {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let server = SServer::start(&home, &["-cert", &cert, "-key", &key]);
        let endpoint = server.named("localhost");
        assert_refused(&connect(&home, &endpoint, &["--ca", "ca.pem"]), parts);
        let ran = connect(&home, &endpoint, &["--ca", "ca.pem", "--insecure"]);
        assert!(
            ran.err.contains("not verified (--insecure)") && ran.err.contains(parts[0]),
            "{}",
            ran.err
        );
        assert_eq!(ran.good(), "olleh\n", "{name}");
    }
    let server = SServer::start(
        &home,
        &[
            "-cert",
            "full.pem",
            "-key",
            "full.key",
            "-cert_chain",
            "full.pem",
        ],
    );
    assert_eq!(
        connect(&home, &server.named("localhost"), &["--ca", "ca.pem"]).good(),
        "olleh\n"
    );
    let server = SServer::start(&home, &["-cert", "other.pem", "-key", "other.key"]);
    let args = ["--ca", "ca.pem", "--servername", "www.b.example"];
    assert_eq!(
        connect(&home, &server.named("localhost"), &args).good(),
        "olleh\n"
    );
}

/// The certificate of the server itself may be named, with the flag of an issuer or without. Its name and dates count, and it
/// is no issuer of others.
#[test]
fn own_certificate_of_the_server_is_accepted_by_ca() {
    let (home, ca) = home();
    let dir = home.path();
    let alone = Pair::self_signed(&["localhost"]);
    alone.write(dir, "alone");
    let server = SServer::start(&home, &["-cert", "alone.pem", "-key", "alone.key"]);
    assert_eq!(
        connect(&home, &server.named("localhost"), &["--ca", "alone.pem"]).good(),
        "olleh\n"
    );
    let ran = connect(&home, &server.named("127.0.0.1"), &["--ca", "alone.pem"]);
    assert_refused(&ran, &["not for 127.0.0.1, but for localhost"]);
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout both.key -out both.pem -days 3 -subj /CN=localhost -addext subjectAltName=DNS:localhost";
    let mut shell = tool("sh", "dash");
    run(shell.current_dir(dir).args(["-c", make]), b"").good();
    let server = SServer::start(&home, &["-cert", "both.pem", "-key", "both.key"]);
    assert_eq!(
        connect(&home, &server.named("localhost"), &["--ca", "both.pem"]).good(),
        "olleh\n"
    );
    ca.server(&["localhost"], Valid::Past).write(dir, "past");
    let server = SServer::start(&home, &["-cert", "past.pem", "-key", "past.key"]);
    let ran = connect(&home, &server.named("localhost"), &["--ca", "past.pem"]);
    assert_refused(&ran, &["expired"]);
}

#[test]
fn connect_trusts_the_roots_of_the_system() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let endpoint = format!("tls://localhost:{}", serve.at[0].port());
    let with_roots = |file: &str| {
        let mut command = home.echoic(&["connect", &endpoint]);
        command
            .env("SSL_CERT_FILE", home.path().join(file))
            .env_remove("SSL_CERT_DIR");
        run(&mut command, b"hello\n")
    };
    assert_eq!(with_roots("ca.pem").good(), "HELLO\n");
    fs::write(home.path().join("other.pem"), Ca::new("other").pem).unwrap();
    assert_refused(&with_roots("other.pem"), &["unknown issuer, CN=test root"]);
}

#[test]
fn connect_tells_an_old_server_and_one_that_wants_a_certificate_and_one_without_tls() {
    let (home, _) = home();
    let pair = ["-cert", "server.pem", "-key", "server.key"];
    let start = |args: &[&str]| SServer::start(&home, &[&pair[..], args].concat());
    let ca = ["--ca", "ca.pem"];
    let old = start(&["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]);
    assert_refused(
        &connect(&home, &old.named("localhost"), &ca),
        &["no version of TLS", "1.2 and 1.3"],
    );
    for version in ["-tls1_3", "-tls1_2"] {
        let strict = start(&[version, "-Verify", "1", "-verify_return_error"]);
        let ran = connect(&home, &strict.named("localhost"), &ca);
        assert_refused(&ran, &["certificate of the client", "--client-cert FILE"]);
    }
    let plain = Serve::start(&["greet=127.0.0.1:0"]);
    let ran = connect(&home, &format!("tls://{}", plain.at[0]), &["--insecure"]);
    assert_refused(&ran, &["does not speak TLS", "tcp://"]);
}

/// Under TLS 1.2 a client cannot end its half alone. It is told, and the reply to a line that was sent before still comes.
#[test]
fn connect_tells_that_tls_1_2_has_no_half_close() {
    let (home, _) = home();
    let args = ["-cert", "server.pem", "-key", "server.key"];
    let server = SServer::start(&home, &[&args[..], &["-tls1_2"]].concat());
    let args = ["--ca", "ca.pem", "--send", "hello\\n", "--expect", "olleh"];
    let ran = home.run(&[&["connect", &server.named("localhost")], &args[..]].concat());
    assert!(ran.err.contains("TLS 1.2 has no half-close"), "{ran:?}");
    assert_eq!(ran.good(), "olleh\n");
    let server = SServer::start(
        &home,
        &["-cert", "server.pem", "-key", "server.key", "-tls1_3"],
    );
    let ran = home.run(&[&["connect", &server.named("localhost")], &args[..]].concat());
    assert!(!ran.err.contains("half-close"), "{ran:?}");
    assert_eq!(ran.good(), "olleh\n");
}

const PYTHON: &str = "
import socket, ssl, sys
context = ssl.create_default_context(cafile='ca.pem')
raw = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 20)
peer = context.wrap_socket(raw, server_hostname='localhost', suppress_ragged_eofs=False)
peer.sendall(b'hello\\n')
print(peer.recv(99).decode(), end='')
peer.unwrap()
";

#[test]
fn python_and_curl_are_served() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let port = serve.at[0].port();
    let mut python = tool("python3", "python3");
    python
        .current_dir(home.path())
        .args(["-c", PYTHON, &port.to_string()]);
    assert_eq!(run(&mut python, b"").good(), "HELLO\n");
    let mut curl = tool("curl", "curl");
    curl.current_dir(home.path())
        .args(["-sS", "--max-time", "20", "--cacert", "ca.pem"]);
    // Our answer is no HTTP/1: curl takes it for HTTP/0.9, and closes when it has all of it.
    let url = format!("https://localhost:{port}/");
    curl.args(["--http0.9", "--output", "-", "--max-filesize", "9999", &url]);
    let ran = run(&mut curl, b"");
    assert!(
        String::from_utf8_lossy(&ran.out).starts_with("GET / HTTP/1.1\r\n"),
        "{ran:?}"
    );
    serve.stop();
    assert!(home.count(&["tls:1.3"]) > 1);
}

/// A client that ends without `close_notify`.
#[test]
fn cut_stream_is_told_at_both_ends() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let port = serve.at[0].port();
    let cutting = "
import socket, ssl, sys
context = ssl.create_default_context(cafile='ca.pem')
raw = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 20)
peer = context.wrap_socket(raw, server_hostname='localhost')
peer.sendall(b'hello\\n')
print(peer.recv(99).decode(), end='')
peer.shutdown(socket.SHUT_WR)
";
    let mut python = tool("python3", "python3");
    python
        .current_dir(home.path())
        .args(["-c", cutting, &port.to_string()]);
    assert_eq!(run(&mut python, b"").good(), "HELLO\n");
    serve.stop();
    assert_eq!(home.sql("SELECT reason FROM conversation"), ["truncated"]);
    assert_eq!(home.count(&["is:truncated"]), 1);

    let server = "
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server.key')
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
raw, _ = listener.accept()
peer = context.wrap_socket(raw, server_side=True)
peer.sendall(b'half of')
peer.recv(99)
peer.shutdown(socket.SHUT_RDWR)
";
    let mut python = tool("python3", "python3");
    let mut child = python
        .current_dir(home.path())
        .args(["-c", server])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let port = harness::Lines::of(child.stdout.take().unwrap())
        .wait("its port", |lines| lines.first().cloned());
    let ran = connect(
        &home,
        &format!("tls://localhost:{port}"),
        &["--ca", "ca.pem", "--store", "client.db"],
    );
    harness::kill(&mut child);
    assert_eq!((ran.code, &*ran.out), (Some(6), &b"half of"[..]), "{ran:?}");
    assert!(
        ran.err
            .contains("truncated: the peer closed without a close_notify"),
        "{}",
        ran.err
    );
    let ends = home
        .run(&["log", "--store", "client.db", "is:truncated", "--count"])
        .good();
    assert_eq!(ends, "1\n");
}

#[test]
fn throw_away_certificate_is_made_told_and_reused() {
    let home = Arc::new(Home::new());
    let folder = {
        let serve = Serve::start_in(&home, &["upper=tls://127.0.0.1:0"]);
        let told = serve.err.wait_for("made by echoic");
        let ca = told
            .split("--ca ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        assert!(told.contains("SHA-256"), "{told}");
        let hint = serve.err.wait_for("listening on tls://127.0.0.1");
        assert!(hint.contains(&format!("--ca {ca}")), "{hint}");
        for host in ["localhost", "127.0.0.1"] {
            let endpoint = format!("tls://{host}:{}", serve.at[0].port());
            assert_eq!(connect(&home, &endpoint, &["--ca", ca]).good(), "HELLO\n");
        }
        let mode = fs::metadata(home.path().join(ca))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        home.path().join(ca)
    };
    let before = fs::read(&folder).unwrap();
    let serve = Serve::start_in(
        &home,
        &[
            "upper=tls://127.0.0.1:0",
            "upper=tls://127.0.0.1:0?tls-min=1.3",
        ],
    );
    assert_eq!(fs::read(&folder).unwrap(), before);
    drop(serve);
    // Without a file of SQLite it is in the folder of the user's state.
    let serve = Serve::start_in(&home, &["tls://127.0.0.1:0", "--store", "memory"]);
    serve.err.wait_for("/echoic/tls/ca.pem");
}

#[test]
fn certificate_without_a_key_and_files_of_no_use_are_named() {
    let (home, _) = home();
    Pair::self_signed(&["localhost"]).write(home.path(), "alone");
    let key = fs::read_to_string(home.path().join("server.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    for (options, why) in [
        ("cert=server.pem", "?cert= is given and ?key= is not"),
        ("key=server.key", "?key= is given and ?cert= is not"),
        ("cert=none.pem&key=server.key", "cannot read none.pem"),
        (
            "cert=server.key&key=server.key",
            "server.key has no certificate",
        ),
        (
            "cert=server.pem&key=server.pem",
            "server.pem has no private key",
        ),
        (
            "cert=server.pem&key=alone.key",
            "the key in alone.key is not that of the certificate in server.pem",
        ),
        (
            "cert=server.pem&key=server.key&tls-min=1.1",
            "expected 1.2 or 1.3",
        ),
        (
            "client-ca=server.key&cert=server.pem&key=server.key",
            "server.key has no certificate",
        ),
    ] {
        let ran = home.run(&["serve", &format!("tls://127.0.0.1:0?{options}")]);
        assert_eq!(ran.code, Some(2), "{options}: {ran:?}");
        assert!(ran.err.contains(why), "{options}: {}", ran.err);
        assert!(!ran.err.contains(secret), "{}", ran.err);
    }
    let ran = home.run(&["serve", "127.0.0.1:0?cert=a.pem"]);
    assert!(ran.err.contains("applies to tls:// only"), "{ran:?}");
}

#[test]
fn new_certificate_is_used_by_new_connections_and_a_bad_one_is_not() {
    let (home, ca) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let port = serve.at[0].port();
    let endpoint = format!("tls://localhost:{port}");
    let mut open = load::Open::to(home.path(), port);
    open.ask("before", "BEFORE");
    let fingerprint = || {
        let ran = connect(&home, &endpoint, &["--ca", "ca.pem", "-v"]);
        ran.err
            .lines()
            .find(|line| line.contains("certificate CN="))
            .unwrap()
            .to_owned()
    };
    assert!(fingerprint().contains("CN=server"));
    fs::write(
        home.path().join("server.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
    )
    .unwrap();
    serve.err.wait_for("cannot be used, the old one stays");
    assert!(fingerprint().contains("CN=server"));
    let renewed = ca.server(&["localhost"], Valid::Now);
    renewed.write(home.path(), "server");
    serve.err.wait_for("new certificate for new connections");
    assert!(fingerprint().contains("CN=server"));
    // A name that only the old one has.
    let address = format!("tls://127.0.0.1:{port}");
    assert_eq!(connect(&home, &address, &["--ca", "ca.pem"]).code, Some(8));
    open.ask("after", "AFTER");
}

#[test]
fn handshake_that_stalls_ends_on_time_and_costs_others_nothing() {
    const STALLED: usize = 1000;
    harness::raise_open_files();
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT, "--handshake-timeout", "2s"]);
    let port = serve.at[0].port();
    let mut open = load::Open::to(home.path(), port);
    let began = Instant::now();
    let stalled: Vec<_> = (0..STALLED)
        .map(|i| {
            let mut peer = TcpStream::connect(serve.at[0]).unwrap();
            // None, the beginning of a record, and half of a ClientHello. If this process pauses here, it may be too late.
            let _ = peer.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..[0, 5, 11][i % 3]]);
            peer.set_read_timeout(Some(SOON)).unwrap();
            peer
        })
        .collect();
    let connected = Instant::now();
    for i in 0..50 {
        let line = format!("line {i}");
        open.ask(&line, &line.to_uppercase());
    }
    let worked = began.elapsed();
    for mut peer in stalled {
        // Reset if it wrote after the end.
        match peer.read(&mut [0; 9]) {
            Ok(n) => assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    let took = began.elapsed();
    println!("1000 connections in {worked:?} with 50 exchanges, all ended after {took:?}");
    assert!(took >= Duration::from_secs(2), "{took:?}");
    // The default would be 10 s.
    let after = connected.elapsed();
    assert!(after < Duration::from_secs(8), "{after:?}");
    open.end();
    serve.stop();
    let ends =
        home.sql("SELECT reason, count(*) FROM conversation GROUP BY reason ORDER BY reason");
    assert_eq!(ends, ["handshake-timeout|1000", "peer-closed|1"]);
}

#[test]
fn stop_answers_and_records_all_that_was_received_over_tls() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let load = load::Load::start(home.path(), serve.at[0].port(), 8);
    load.wait_for(2000);
    let stopped = serve.stop();
    let replies = load.end();
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert_eq!(
        (stopped.lost, stopped.recorded),
        (0, stopped.served),
        "{stopped:?}"
    );
    assert_eq!(stopped.served, replies, "every answer arrived");
}

#[test]
fn megabytes_go_both_ways_at_once() {
    let (home, _) = home();
    let endpoint = "echo=tls://127.0.0.1:0?cert=server.pem&key=server.key";
    let serve = Serve::start_in(&home, &[endpoint, "--store", "none"]);
    let bytes = load::both_ways(home.path(), serve.at[0].port(), 100 << 20);
    assert_eq!(bytes, 100 << 20);
}

#[test]
fn keys_are_written_to_sslkeylogfile_and_that_is_told() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let endpoint = format!("tls://localhost:{}", serve.at[0].port());
    let mut command = home.echoic(&["connect", &endpoint, "--ca", "ca.pem", "--explain"]);
    command.env("SSLKEYLOGFILE", home.path().join("keys"));
    let ran = run(&mut command, b"hello\n");
    assert!(ran.err.contains("SSLKEYLOGFILE is set"), "{}", ran.err);
    let keys = fs::read_to_string(home.path().join("keys")).unwrap();
    let secret = keys
        .lines()
        .find(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 "))
        .unwrap();
    let secret = secret.rsplit(' ').next().unwrap();
    assert!(!ran.err.contains(secret));
    for step in [
        "TLS: ClientHello: server name localhost",
        "TLS: ServerHello: TLS 1.3",
        "TLS: certificate 1: CN=server",
        "TLS: certificate verified by",
        "TLS: Finished",
    ] {
        assert!(ran.err.contains(step), "{step}: {}", ran.err);
    }
    assert_eq!(ran.good(), "HELLO\n");
    until("it is recorded", || home.count(&["tls:1.3"]) == 1);
}
