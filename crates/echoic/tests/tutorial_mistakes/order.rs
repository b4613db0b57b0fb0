//! Order of exchanges, and the clocks used.

use crate::{client, harness::Serve};

/// `trials/disk/tests/clock.rs` tests the same while the clock jumps.
#[test]
fn d26_latency_is_measured_and_order_is_numbered() {
    let serve = Serve::start(&[":0", "--frame", "line"]);
    client(
        serve.at[0].port(),
        "for i in range(200):\n  c.send(b'x\\n'); c.recv(9)",
    );
    let home = serve.home.clone();
    serve.stop();
    let log = home.log(&[]);
    let of = |key: &str| -> Vec<i64> { log.iter().map(|e| e[key].as_i64().unwrap()).collect() };
    assert_eq!(of("id"), (1..=200).collect::<Vec<_>>());
    assert_eq!(of("n"), (1..=200).collect::<Vec<_>>());
    assert!(
        of("t_us").is_sorted(),
        "the wall clock is read once a conversation"
    );
    assert!(
        of("lat_ns")
            .iter()
            .all(|ns| *ns > 0 && *ns < 30_000_000_000)
    );
}

#[test]
fn d27_replies_keep_the_order_of_requests() {
    let serve = Serve::start(&[":0", "--frame", "line"]);
    let program = "
c.sendall(b''.join(b'%d a\\n' % i for i in range(20000))); c.shutdown(socket.SHUT_WR)
got = c.makefile('rb').read()
print(got == b''.join(b'%d A\\n' % i for i in range(20000)))";
    // As much as both buffers hold, so that writing everything first does not deadlock.
    assert_eq!(client(serve.at[0].port(), program), "True\n");
}
