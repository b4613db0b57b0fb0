//! `--allow` and `--deny`: a denied client gets a clean end of stream, and the record has the reason.

use std::net::SocketAddr;

use crate::harness::{Serve, python};

/// Connects from an address, sends something, and prints how the connection ended.
const CALLER: &str = "
import socket, sys
source, port = sys.argv[1], int(sys.argv[2])
with socket.create_connection(('127.0.0.1', port), 30, (source, 0)) as peer:
    peer.sendall(b'hello')
    peer.shutdown(socket.SHUT_WR)
    received = b''
    while part := peer.recv(1024):
        received += part
    print(repr(received))
";

#[track_caller]
fn call(from: &str, at: SocketAddr) -> String {
    python(CALLER, &[&from, &at.port()], "").good()
}

#[test]
fn allowed_peers_are_answered_and_denied_get_a_clean_close() {
    const IN: &str = "b'HELLO'\n";
    const OUT: &str = "b''\n";
    for (options, one, two) in [
        (&[][..], IN, IN),
        (&["--allow", "127.0.0.1"], IN, OUT),
        (&["--deny", "127.0.0.1"], OUT, IN),
        (&["--allow", "127.0.0.0/8", "--deny", "127.0.0.2"], IN, OUT),
        (&["--allow", "127.0.0.1", "--allow", "127.0.0.2/32"], IN, IN),
        (&["--allow", "::1"], OUT, OUT),
    ] {
        let args = [&["upper=127.0.0.1:0"], options].concat();
        let serve = Serve::start(&args);
        let (home, at) = (serve.home.clone(), serve.at[0]);
        let received = (call("127.0.0.1", at), call("127.0.0.2", at));
        assert_eq!((&*received.0, &*received.1), (one, two), "{options:?}");
        let admitted = [one, two].iter().filter(|end| **end == IN).count();
        assert_eq!(serve.stop().served, admitted as u64);
        for (source, end) in [("127.0.0.1", one), ("127.0.0.2", two)] {
            let how = home.sql(&format!(
                "SELECT reason FROM conversation WHERE remote LIKE '{source}:%'"
            ));
            assert_eq!(
                how,
                [if end == IN { "peer-closed" } else { "denied" }],
                "{options:?}"
            );
        }
    }
}

#[test]
fn each_endpoint_may_have_its_own_access_list() {
    let serve = Serve::start_with_events(&[
        "upper=127.0.0.1:0?allow=127.0.0.2,10.0.0.0/8",
        "upper=127.0.0.1:0?deny=127.0.0.2",
        "upper=127.0.0.1:0",
        "--deny",
        "127.0.0.1",
    ]);
    let received: Vec<String> = serve.at.iter().map(|at| call("127.0.0.2", *at)).collect();
    assert_eq!(received, ["b'HELLO'\n", "b''\n", "b'HELLO'\n"]);
    let received: Vec<String> = serve.at.iter().map(|at| call("127.0.0.1", *at)).collect();
    // An endpoint's own list replaces the list for all endpoints.
    assert_eq!(received, ["b''\n", "b'HELLO'\n", "b''\n"]);
    let out = serve.out.clone();
    serve.stop();
    let denied: Vec<serde_json::Value> = out
        .all()
        .iter()
        .filter(|line| line.contains("\"denied\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(denied.len(), 3, "{denied:?}");
    for end in denied {
        assert_eq!(
            (&end["end"], &end["sent"]),
            (&"limit".into(), &0.into()),
            "{end}"
        );
    }
}
