//! Plain text on a port for TLS, and TLS on a plain port.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::Duration,
};

use super::{ENDPOINT, home, openssl::s_client};
use crate::harness::{SOON, Serve, Talk, plain, run, tool, until};

/// No peer is left waiting for the end of the handshake.
const ENDLESS: [&str; 2] = ["--handshake-timeout", "1h"];

/// Sends the parts one after the other, does not end the stream, and returns all that comes back.
fn answer(port: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    peer.set_nodelay(true).unwrap();
    for part in parts {
        peer.write_all(part).unwrap();
        thread::sleep(Duration::from_millis(2)); // most arrive alone; how they are cut changes nothing
    }
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn plain_text_on_a_tls_port_is_answered_by_an_alert_at_once() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[&[ENDPOINT][..], &ENDLESS].concat());
    let port = serve.at[0].port();
    // `q` is shorter than the header of a record, and the second may be the beginning of a request of HTTP.
    for text in [
        &b"q"[..],
        b"HELO example.org\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
    ] {
        let alert = answer(port, &[text]);
        assert_eq!(
            alert,
            b"\x15\x03\x01\0\x02\x02\x32",
            "{}",
            text.escape_ascii()
        );
    }
    let ran = run(
        &mut home.echoic(&["connect", &format!("127.0.0.1:{port}")]),
        b"hi\n",
    );
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.err.contains("the peer speaks TLS"), "{ran:?}");
    serve.stop();
    let why = home.sql("SELECT DISTINCT failure FROM tls");
    assert_eq!(
        why,
        ["the peer does not speak TLS: its first bytes are no TLS record"]
    );
}

#[test]
fn http_on_a_tls_port_is_answered_by_400() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[&[ENDPOINT][..], &ENDLESS].concat());
    let port = serve.at[0].port();
    let mut curl = tool("curl", "curl");
    let ran = run(
        curl.args(["-sS", "-w", "%{http_code}"])
            .arg(format!("http://127.0.0.1:{port}/a?b")),
        b"",
    );
    assert_eq!(
        ran.good(),
        "This port speaks TLS, and the request was plain HTTP: use https://\n400"
    );
    let request: Vec<&[u8]> = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".chunks(1).collect();
    let cut = answer(port, &request);
    assert!(cut.starts_with(b"HTTP/1.1 400 "), "{}", cut.escape_ascii());
    // With a large body that is still on its way, which must not become a reset that takes the answer along.
    let mut head = b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n".to_vec();
    head.resize(100_000, b'x');
    let posted = answer(port, &[&head]);
    assert!(posted.starts_with(b"HTTP/1.1 400 "));
    serve.stop();
    let why = home.sql("SELECT DISTINCT failure FROM tls");
    assert_eq!(
        why,
        ["the peer does not speak TLS: it sent a plain HTTP request, and was answered with 400"]
    );
}

#[test]
fn tls_on_a_plain_port_is_found_and_told() {
    let endpoints = ["upper=tcp://127.0.0.1:0", "echo=tcp://127.0.0.1:0"];
    let serve = Serve::start_on_terminal(&endpoints);
    let home = Arc::clone(&serve.home);
    let port = serve.at[0].port();
    s_client(&home, port, &[]).unwrap_err();
    let hint = "tls on a plain port";
    let line = plain(&serve.out.wait_for("plain port"));
    assert!(line.contains(hint), "{line}");
    let mut talk = Talk::to(serve.at[0]);
    talk.send("hello");
    talk.finish();
    until("both are stored", || home.count(&["port:1..65535"]) >= 2);
    assert_eq!(home.count(&["is:tls"]), 1);
    assert_eq!(home.count(&["tag:tls"]), 1);
    assert_eq!(home.log(&["is:tls"])[0]["tags"], serde_json::json!(["tls"]));
    let shown = plain(&home.run(&["log", "is:tls", "--show"]).good());
    assert!(shown.contains(hint), "{shown}");
    for at in &serve.at {
        let ran = run(
            &mut home.echoic(&["connect", &format!("tls://{at}"), "-w", "20s"]),
            b"",
        );
        assert_eq!(ran.code, Some(8), "{ran:?}");
        assert!(ran.err.contains("does not speak TLS"), "{ran:?}");
        assert!(ran.err.contains("try tcp://"), "{ran:?}");
    }
}
