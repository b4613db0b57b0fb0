//! Message boundaries: a stream is not divided where it was written.

use std::thread;

use crate::{
    client, client_fails,
    harness::{Home, Serve, Talk, run},
    server,
};

/// The tutorial's server, in the naive way: one client, one read a message, decoded at once.
const NAIVE: &str = "
while True:
    c, _ = s.accept()
    while data := c.recv(1024):
        print(len(data))
        c.send(data.decode().upper().encode())
";

#[test]
fn d01_idle_connection_does_not_block_others() {
    let program = "
quiet = socket.create_connection(c.getpeername())
quiet.send(b'mine'); print(quiet.recv(9)); c.send(b'theirs'); print(c.recv(9))";
    let serve = Serve::start(&[":0"]);
    let received = client(serve.at[0].port(), program);
    assert_eq!(received, "b'MINE'\nb'THEIRS'\n");

    let naive = server(NAIVE);
    let ran = client_fails(
        naive.port(),
        &format!(
            "c.settimeout(0.5)\n{}",
            program
                .replace("quiet = ", "time.sleep(0.1); quiet = ")
                .replace("quiet.send", "quiet.settimeout(0.5); quiet.send")
        ),
    );
    assert!(ran.err.contains("timed out"), "{}", ran.err);
}

#[test]
fn d02_one_read_is_not_one_message() {
    let program = "
c.send(b'one\\ntwo\\n' + b'x' * 3000 + b'\\n')
want = 8 + 3001
got = b''
while len(got) < want: got += c.recv(4096)
c.shutdown(socket.SHUT_WR)
print(len(got), c.recv(1))";
    let serve = Serve::start(&[":0", "--frame", "line"]);
    assert_eq!(client(serve.at[0].port(), program), "3009 b''\n");
    let home = serve.home.clone();
    serve.stop();
    let lengths: Vec<_> = home
        .log(&[])
        .iter()
        .map(|e| e["req"]["len"].as_u64().unwrap())
        .collect();
    assert_eq!(lengths, [4, 4, 3001]);

    let naive = server(NAIVE);
    client(
        naive.port(),
        "c.send(b'one\\ntwo\\n' + b'x' * 3000)\nn = 0\nwhile n < 3008: n += len(c.recv(4096))",
    );
    naive
        .out
        .wait("reads", |lines| (lines.len() >= 4).then_some(()));
    let first = naive
        .out
        .wait("a read", |lines| lines.get(1)?.parse::<usize>().ok());
    assert_eq!(first, 1024, "it took two lines and more for one message");
}

#[test]
fn d03_request_without_newline_is_answered() {
    let program = "c.send(b'hello'); print(c.recv(1024))";
    let serve = Serve::start(&[":0"]);
    assert_eq!(client(serve.at[0].port(), program), "b'HELLO'\n");
    // With line framing, the server waits for the whole line.
    let lines = Serve::start(&[":0", "--frame", "line"]);
    let ran = client_fails(lines.at[0].port(), &format!("c.settimeout(0.5); {program}"));
    assert!(ran.err.contains("timed out"), "{}", ran.err);
}

#[test]
fn d04_cut_or_invalid_character_ends_no_conversation() {
    let program = "
c.send(b'stra\\xc3'); time.sleep(0.1); c.send(b'\\x9fe \\xff\\xfe z\\xc3'); c.shutdown(socket.SHUT_WR)
got = b''
while more := c.recv(1024): got += more
print(got)";
    let serve = Serve::start(&[":0"]);
    let port = serve.at[0].port();
    assert_eq!(client(port, program), "b'STRASSE \\xff\\xfe Z\\xc3'\n");
    assert_eq!(client(port, "c.send(b'a'); print(c.recv(9))"), "b'A'\n");

    let mut naive = server(NAIVE);
    let received = client(naive.port(), "c.send(b'stra\\xc3'); print(c.recv(9))");
    assert_eq!(received, "b''\n");
    let code = naive.child.wait().unwrap().code();
    assert_eq!(code, Some(1), "for everybody");
}

#[test]
fn d05_case_mapping_covers_unicode() {
    let serve = Serve::start(&["upper=:0", "lower=:0", "--frame", "line"]);
    let mut upper = Talk::to(serve.at[0]);
    upper.ask("ΐ ß ŉ ﬃ i\n", "\u{399}\u{308}\u{301} SS \u{2bc}N FFI I\n");
    let mut lower = Talk::to(serve.at[1]);
    lower.ask("ΟΔΟΣ ΣΑΣ Σ İ\n", "οδος σας σ i\u{307}\n");
    // It does not wait for bytes beyond the end of the message.
    lower.ask("ΟΔΟΣ\n", "οδος\n");
}

#[test]
fn d06_slow_reader_gets_the_whole_reply() {
    const BYTES: usize = 20_000_000;
    let serve = Serve::start(&["echo=:0"]);
    let mut talk = Talk::to(serve.at[0]);
    let mut writer = talk.0.try_clone().unwrap();
    let writing = thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &vec![b'x'; BYTES]).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    thread::sleep(std::time::Duration::from_millis(300));
    assert!(!writing.is_finished(), "it is not taken in without end");
    assert_eq!(talk.rest().len(), BYTES);
    writing.join().unwrap();

    let naive = server(
        "c, _ = s.accept(); c.setblocking(False); print(c.send(b'x' * 20_000_000)); c.close()",
    );
    let received = client(
        naive.port(),
        "time.sleep(0.3)\nn = 0\nwhile d := c.recv(1 << 20): n += len(d)\nprint(n)",
    );
    assert!(
        received.trim().parse::<usize>().unwrap() < BYTES,
        "most of it was never sent"
    );
}

#[test]
fn d07_writing_and_reading_are_independent() {
    // A lock-step echo server: it reads nothing until its own reply is taken.
    let echo = server(
        "while True:\n  c, _ = s.accept()\n  while d := c.recv(65536): c.sendall(d)\n  c.close()",
    );
    let input: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
    let home = Home::new();
    let ran = run(
        &mut home.echoic(&["connect", &format!("127.0.0.1:{}", echo.port())]),
        &input,
    );
    assert!(
        ran.code == Some(0) && ran.out == input,
        "{:?} {}",
        ran.code,
        ran.err
    );

    let ran = client_fails(echo.port(), "c.settimeout(1); c.sendall(b'x' * 20_000_000)");
    assert!(ran.err.contains("timed out"), "{}", ran.err);
}

#[test]
fn d08_empty_message_is_a_message() {
    let serve = Serve::start(&[":0", "udp://:0", "--frame", "line"]);
    assert_eq!(
        client(serve.at[0].port(), "c.send(b'\\n'); print(c.recv(9))"),
        "b'\\n'\n"
    );
    let program = "
import socket, sys
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(10)
u.sendto(b'', ('127.0.0.1', int(sys.argv[1]))); print(u.recvfrom(9)[0])";
    let udp = serve.at[1].port();
    assert_eq!(crate::python(program, &[&udp], "").good(), "b''\n");
    // The client does not wait for a given reply, and prints what arrives.
    let received = run(
        &mut serve
            .home
            .echoic(&["connect", &serve.addresses[0], "--frame", "line"]),
        b"\n\na\n",
    );
    assert_eq!(received.good(), "\n\nA\n");
    let home = serve.home.clone();
    serve.stop();
    assert_eq!(home.count(&["size:0"]), 1, "the datagram is recorded");
    assert_eq!(home.count(&["size:2"]), 3);
}

#[test]
fn d09_q_is_an_ordinary_message() {
    let serve = Serve::start(&[":0"]);
    let received = run(
        &mut serve.home.echoic(&["connect", &serve.addresses[0]]),
        b"q\nexit\nhello\n",
    );
    assert_eq!(received.good(), "Q\nEXIT\nHELLO\n");
}

#[test]
fn d10_half_close_is_not_the_end() {
    let serve = Serve::start(&[":0", "--frame", "line"]);
    let program = "
c.send(b'a\\n' * 50000 + b'the last'); c.shutdown(socket.SHUT_WR)
got = b''
while more := c.recv(65536): got += more
print(len(got), got[-8:])";
    assert_eq!(client(serve.at[0].port(), program), "100008 b'THE LAST'\n");

    let patient = server(
        "c, _ = s.accept()\nwhile c.recv(1024): pass\ntime.sleep(0.3); c.sendall(b'only now'); c.close()",
    );
    let at = format!("127.0.0.1:{}", patient.port());
    let ran = run(&mut serve.home.echoic(&["connect", &at]), b"hello");
    assert_eq!(ran.good(), "only now");
}
