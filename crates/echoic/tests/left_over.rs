//! Bytes that made no message, as `log`, `serve` and `connect --store` show them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::{io::Write, net::TcpListener, sync::Arc, thread};

use serde_json::Value;

use self::harness::{Home, Serve, Talk, plain, until};

const HELLO: &[u8] = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xfc";

/// Sends `bytes` to a server with this framing and ends; returns the server.
fn sent(framing: &str, bytes: &[u8], more: &[&str]) -> Serve {
    let serve =
        Serve::start(&[&["upper=:0", "--frame", framing, "--console", "off"], more].concat());
    let mut talk = Talk::to(serve.at[0]);
    talk.send(bytes);
    talk.finish();
    serve
}

#[test]
fn log_shows_what_the_header_claimed() {
    let serve = sent("u16be", b"\0\x01a\xff\xffbc", &[]);
    let home = Arc::clone(&serve.home);
    until("its end is stored", || home.count(&["end:fin"]) == 1);
    let shown = plain(&home.run(&["log", "--show"]).good());
    assert!(
        shown.contains("4 B made no message: length 65535 claimed by ff ff"),
        "{shown}"
    );
    assert!(shown.contains("\\xff\\xffbc"), "{shown}");
    let left = &home.log(&[])[0]["left"];
    assert_eq!(left["claimed"], 65_535);
    assert_eq!(left["len"], 4);
    assert_eq!(left["note"], "length 65535 claimed by ff ff");
    assert_eq!(left["b64"], "//9iYw==");
}

#[test]
fn conversation_of_another_protocol_alone_is_shown_with_a_guess() {
    let serve = sent("u16be", HELLO, &["--max-message", "1k"]);
    let home = Arc::clone(&serve.home);
    let listed = || home.run(&["log", "end:limit", "--json"]).good();
    until("its end is stored", || !listed().is_empty());
    let end: Value = serde_json::from_str(listed().trim()).unwrap();
    assert_eq!(
        (&end["ev"], &end["reason"]),
        (&"end".into(), &"message-too-long".into())
    );
    let note = "length 5635 claimed by 16 03; looks like a TLS ClientHello";
    assert_eq!(end["left"]["note"], note);
    for filter in ["end:limit", "conv:1"] {
        let shown = plain(&home.run(&["log", filter, "--show"]).good());
        assert!(
            shown.contains(&format!("10 B made no message: {note}")),
            "{filter}: {shown}"
        );
    }
}

#[test]
fn serve_shows_left_over_bytes_at_the_end() {
    let serve = Serve::start_with_events(&["upper=:0", "--frame", "netstring", "--store", "none"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.send("hello\n");
    talk.finish();
    let end = serve.out.wait_for("\"ev\":\"end\"");
    let end: Value = serde_json::from_str(&end).unwrap();
    assert_eq!(end["left"]["text"], "hello\n");
    let note = "no length of netstring at their beginning; fits line";
    assert_eq!(end["left"]["note"], note);
    drop(serve);

    let serve = Serve::start_on_terminal(&["upper=:0", "--frame", "u16be", "--store", "none"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.send("\x05\0hello");
    talk.finish();
    let line = plain(&serve.out.wait_for("left over"));
    let expected = "left over ▸ \\x05\\x00hello (7 B): length 1280 claimed by 05 00; fits u16le";
    assert!(line.contains(expected), "{line}");
}

#[test]
fn client_records_what_made_no_reply() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let peer = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"\0\x02OK\xff\xffno").unwrap();
    });
    let arguments = [
        "connect",
        &at,
        "--frame",
        "u16be",
        "--recv-only",
        "--store",
        "c.db",
    ];
    home.run(&arguments);
    peer.join().unwrap();
    let shown = plain(&home.run(&["log", "--show", "--store", "c.db"]).good());
    assert!(shown.contains("length 65535 claimed by ff ff"), "{shown}");
    assert_eq!(home.count(&["end:fin", "--store", "c.db"]), 2);
}
