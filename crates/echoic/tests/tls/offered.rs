//! What a server does not offer: renegotiation, and early data (0-RTT).

use std::fs;

use super::{ENDPOINT, home, openssl::SClient};
use crate::harness::{Serve, run, tool};

/// The alert has to arrive although the server has nothing else to send: the client waits for it.
#[test]
fn renegotiation_is_refused_by_an_alert_and_ends_that_conversation_alone() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let port = serve.at[0].port();
    let mut other = SClient::start(&home, port, &["-tls1_2"]);
    other.send("before");
    other.out.wait_for("BEFORE");
    let mut client = SClient::start(&home, port, &["-tls1_2"]);
    client.send("hello");
    client.out.wait_for("HELLO");
    client.send("R");
    assert!(!client.ends().success());
    client.err.wait_for("no renegotiation");
    other.send("after");
    other.out.wait_for("AFTER");
    other.finish();
    serve.err.wait_for("NoRenegotiation");
    serve.stop();
    let ends = home.sql("SELECT reason FROM conversation ORDER BY reason");
    assert_eq!(ends, ["peer-closed", "peer-reset"]);
}

#[test]
fn early_data_is_not_offered_to_a_resumed_session() {
    let (home, _) = home();
    fs::write(home.path().join("early"), "early\n").unwrap();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let port = serve.at[0].port();
    let mut first = SClient::start(&home, port, &["-tls1_3", "-sess_out", "session"]);
    first.send("first");
    first.out.wait_for("FIRST");
    first.finish();
    let mut openssl = tool("openssl", "openssl");
    openssl.current_dir(home.path());
    let session = run(
        openssl.args(["sess_id", "-noout", "-text", "-in", "session"]),
        b"",
    )
    .good();
    assert!(session.contains("Max Early Data: 0\n"), "{session}");
    let args = ["-tls1_3", "-sess_in", "session", "-early_data", "early"];
    let mut second = SClient::start(&home, port, &args);
    second.out.wait_for("Reused, TLSv1.3");
    second.out.wait_for("Early data was not sent");
    second.send("second");
    second.out.wait_for("SECOND");
    second.finish();
    serve.stop();
    assert_eq!(home.count(&["req:early"]), 0);
    assert_eq!(home.count(&["tls:1.3"]), 2);
}
