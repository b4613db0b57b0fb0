//! The server as a process: start, restart, excess connections, and exhausted resources.

use std::{net::TcpListener, sync::Arc, thread, time::Duration};

use rustix::process::Signal;

use crate::{
    bash, client,
    harness::{Home, Serve, Talk, free_port, python, run, tool, until},
};

#[test]
fn d13_restart_does_not_wait_for_old_connections() {
    let port = free_port();
    let at = format!("greet=127.0.0.1:{port}");
    for _ in 0..2 {
        let serve = Serve::start(&[&at]);
        // The server closes first, so TIME_WAIT is on its side.
        assert_eq!(
            client(port, "print(c.recv(99), c.recv(9))"),
            "b'Thank you for connecting' b''\n"
        );
        serve.stop();
    }
    let naive = python(
        "import socket, sys; socket.socket().bind(('127.0.0.1', int(sys.argv[1])))",
        &[&port],
        "",
    );
    assert!(naive.err.contains("Address already in use"), "{naive:?}");
}

#[test]
fn d14_excess_connections_are_rejected_not_left_in_the_backlog() {
    let serve = Serve::start(&["127.0.0.1:0", "--max-connections", "2"]);
    let mut first = Talk::to(serve.at[0]);
    let mut second = Talk::to(serve.at[0]);
    first.ask("a", "A");
    second.ask("b", "B");
    assert_eq!(
        client(serve.at[0].port(), "print(c.recv(9))"),
        "b''\n",
        "a clean end"
    );
    drop(first);
    until("there is room again", || {
        let received = client(serve.at[0].port(), "c.send(b'c'); print(c.recv(9))");
        received == "b'C'\n"
    });
    let home = serve.home.clone();
    drop(second);
    serve.stop();
    let turned_away =
        home.sql("SELECT count(*) FROM conversation WHERE reason = 'too-many-connections'");
    assert_ne!(turned_away, ["0"]);

    // The backlog of listen(2) rejects no connection: the third client waits.
    let program = "
import socket
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(1)
ends = []
for _ in range(4):
    c = socket.socket(); c.settimeout(0.3)
    try: c.connect(s.getsockname()); ends.append('in')
    except TimeoutError: ends.append('waits')
    globals()[f'held{_}'] = c
print(*ends)";
    assert_eq!(python(program, &[], "").good(), "in in waits waits\n");
}

#[test]
fn d15_server_out_of_files_waits_and_recovers() {
    let serve = Serve::start(&["127.0.0.1:0"]);
    let limit = |files: &str| {
        let mut prlimit = tool("prlimit", "util-linux");
        prlimit.args([
            &format!("--pid={}", serve.id()),
            &format!("--nofile={files}:"),
        ]);
        run(&mut prlimit, b"").good();
    };
    // A new file gets the lowest free descriptor, and none below this is free.
    limit("3");
    let mut waits = Talk::to(serve.at[0]);
    waits.send("hello");
    waits
        .0
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let nothing = std::io::Read::read(&mut waits.0, &mut [0; 9]);
    assert!(
        !matches!(nothing, Ok(1..)),
        "there was a file for it after all"
    );
    limit("1000");
    if nothing.is_err() {
        waits
            .0
            .set_read_timeout(Some(crate::harness::SOON))
            .unwrap();
        waits.expect_reply("HELLO");
    }
    Talk::to(serve.at[0]).ask("again", "AGAIN");
}

#[test]
fn d21_stop_answers_received_requests_first() {
    let mut serve = Serve::start(&["127.0.0.1:0", "--frame", "line"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("one\n", "ONE\n");
    talk.send("two\n".repeat(1000));
    serve.signal(Signal::TERM);
    assert_eq!(talk.rest().len(), 4000, "all of it, and then the end");
    let stopped = serve.ends();
    assert_eq!(
        (stopped.code, stopped.served, stopped.lost),
        (Some(0), 1001, 0)
    );
    assert!(
        TcpListener::bind(serve.at[0]).is_ok(),
        "the address is free again"
    );
}

#[test]
fn d25_failing_store_is_reported_and_answering_continues() {
    let home = Arc::new(Home::new());
    let args = ["127.0.0.1:0", "--frame", "line"];
    let mut command = bash("trap '' XFSZ; ulimit -f 1000; exec \"$@\"");
    command
        .arg(env!("CARGO_BIN_EXE_echoic"))
        .arg("serve")
        .args(args)
        .arg("--print");
    home.settle(&mut command);
    let mut serve = Serve::from(&home, &args, command);
    let line = "x".repeat(50_000) + "\n";
    let mut talk = Talk::to(serve.at[0]);
    for _ in 0..20 {
        talk.ask(&line, line.to_uppercase());
    }
    serve.err.wait_for("not recording");
    talk.ask("still here\n", "STILL HERE\n");
    drop(talk);
    thread::sleep(Duration::from_millis(50));
    serve.signal(Signal::TERM);
    let stopped = serve.ends();
    assert_eq!(stopped.served, 21);
    assert!(stopped.lost > 0, "{stopped:?}");
    // The colour was escaped instead of applied.
    let err = serve.err.all();
    let colours = err.iter().filter(|line| line.contains("1b["));
    assert_eq!(colours.count(), 0, "{err:#?}");
}
