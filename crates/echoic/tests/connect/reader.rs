//! The reader of our output leaves (`| head -1`): that ends us, also while nothing comes.

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{echoic, ended, server};

fn start(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// Takes a line of the output and leaves; asserts a quiet success at once.
#[track_caller]
fn leave_after_a_line(mut process: Child) {
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4]).unwrap();
    // The program has written all it has.
    thread::sleep(Duration::from_millis(100));
    drop(stdout);
    let left = Instant::now();
    let code = ended(&mut process).code();
    assert!(
        left.elapsed() < Duration::from_secs(3),
        "{:?}",
        left.elapsed()
    );
    let mut err = String::new();
    process.stderr.unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

/// Sends a line and then nothing until `stopped`.
fn one_line(mut peer: TcpStream, stopped: &mpsc::Receiver<()>) {
    peer.write_all(b"one\n").unwrap();
    let _ = stopped.recv();
}

#[test]
fn reader_that_left_ends_it_while_nothing_comes() {
    for options in [&["--recv-only"][..], &[], &["--hold", "--send", "x"]] {
        let (stop, stopped) = mpsc::sync_channel(1);
        let (addr, peer) = server(move |peer| one_line(peer, &stopped));
        // Standard input stays open.
        leave_after_a_line(start(echoic().arg(&addr).args(options)));
        drop(stop);
        peer.join().unwrap();
    }
}

#[test]
fn reader_that_left_ends_rounds_of_datagrams() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("udp://{}", peer.local_addr().unwrap());
    let process = start(echoic().args([&endpoint, "--send", "one\\n", "--every", "1h"]));
    let (_, from) = peer.recv_from(&mut [0; 9]).unwrap();
    peer.send_to(b"one\n", from).unwrap();
    leave_after_a_line(process);
}

#[test]
fn input_that_is_there_is_sent_although_the_reader_left() {
    let (addr, peer) = server(|mut peer| {
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        all
    });
    let mut process = start(echoic().arg(&addr));
    process.stdin.take().unwrap().write_all(b"data").unwrap();
    drop(process.stdout.take());
    assert_eq!(ended(&mut process).code(), Some(0));
    assert_eq!(peer.join().unwrap(), "data");
}

#[test]
fn expectation_needs_no_reader() {
    let (addr, peer) = server(|mut peer| {
        peer.write_all(b"one\n").unwrap();
        thread::sleep(Duration::from_millis(300));
        peer.write_all(b"two\n").unwrap();
        peer.read_to_end(&mut Vec::new()).unwrap();
    });
    let mut process = start(echoic().args([addr.as_str(), "--recv-only", "--expect", "two"]));
    drop(process.stdout.take());
    assert_eq!(ended(&mut process).code(), Some(0));
    peer.join().unwrap();
}
