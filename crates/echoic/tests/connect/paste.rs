//! Much typed at once at the prompt, and bytes that are no text: nothing is lost without a word.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{pty::Pty, server};

/// Reads everything, from when it is told to.
fn reader(start: mpsc::Receiver<()>) -> (String, JoinHandle<Vec<u8>>) {
    server(move |mut peer: TcpStream| {
        let _ = start.recv();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    })
}

fn lines(count: usize) -> String {
    let lines: Vec<_> = (0..count).map(|n| format!("pasted line {n}\n")).collect();
    lines.concat()
}

/// Without bracketed paste each line is entered on its own, far faster than lines are sent.
#[test]
fn three_hundred_lines_in_one_write_arrive_in_order() {
    for end in ["\n", "\r"] {
        // Replies to show take time as well.
        let (addr, peer) = server(|mut peer| {
            let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
            while let n @ 1.. = peer.read(&mut buffer).unwrap() {
                all.extend_from_slice(&buffer[..n]);
                peer.write_all(&buffer[..n]).unwrap();
            }
            all
        });
        let mut pty = Pty::start(&[&addr]);
        pty.press(&lines(300).replace('\n', end));
        // The reply: its latency is in a column of its own.
        pty.wait_for("pasted line 299    ");
        pty.wait_for("▸ ");
        pty.press("q\r");
        assert_eq!(pty.code(), Some(0));
        let received = String::from_utf8(peer.join().unwrap()).unwrap();
        assert_eq!(received, lines(300), "{end:?}");
        let output = String::from_utf8_lossy(&pty.output()).into_owned();
        assert!(!output.contains("not sent"), "{output}");
    }
}

/// The peer reads nothing until all is typed, and the file is more than socket buffers hold.
#[test]
fn lines_typed_while_a_file_is_sent_follow_it() {
    let (go, start) = mpsc::sync_channel(1);
    let (addr, peer) = reader(start);
    let mut pty = Pty::start(&[&addr]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("big");
    fs::write(&file, vec![b'y'; 20_000_000]).unwrap();
    pty.press(&format!(":file {}\r", file.display()));
    pty.wait_for("▸ ");
    pty.press(&lines(100));
    pty.wait_for("pasted line 99");
    pty.press(":frame line\r:stat\rq\r");
    pty.wait_for("100 lines wait to be sent; Ctrl-C twice quits");
    go.send(()).unwrap();
    assert_eq!(pty.code(), Some(0));
    let received = peer.join().unwrap();
    assert_eq!(received.len(), 20_000_000 + lines(100).len());
    assert!(received.ends_with(lines(100).as_bytes()));
    let output = String::from_utf8_lossy(&pty.output()).into_owned();
    assert!(
        output.contains("100 sent, 0 received"),
        "in its order: {output}"
    );
}

#[test]
fn write_timeout_ends_it_while_lines_wait() {
    let (stop, stopped) = mpsc::sync_channel::<()>(1);
    let (addr, peer) = server(move |peer| {
        let _ = stopped.recv();
        drop(peer);
    });
    let mut pty = Pty::start(&[&addr, "--write-timeout", "1s"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("big");
    fs::write(&file, vec![b'y'; 20_000_000]).unwrap();
    pty.press(&format!(":file {}\rlast words\r", file.display()));
    pty.wait_for("the peer read nothing for 1s (--write-timeout)");
    pty.wait_for(" unsent");
    assert_eq!(pty.code(), Some(5));
    drop(stop);
    peer.join().unwrap();
}

#[test]
fn interrupt_ends_it_while_lines_wait() {
    let (stop, stopped) = mpsc::sync_channel::<()>(1);
    let (addr, peer) = server(move |peer| {
        let _ = stopped.recv();
        drop(peer);
    });
    let mut pty = Pty::start(&[&addr, "--write-timeout", "60s"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("big");
    fs::write(&file, vec![b'y'; 20_000_000]).unwrap();
    pty.press(&format!(":file {}\r{}", file.display(), lines(100)));
    pty.wait_for("pasted line 99");
    pty.wait_for("▸ ");
    pty.press("\x03");
    pty.wait_for("press Ctrl-C again to quit");
    pty.wait_for("▸ ");
    pty.press("\x03");
    assert_eq!(pty.code(), Some(130));
    drop(stop);
    peer.join().unwrap();
}

#[test]
fn latin_1_byte_drops_its_line_and_does_not_end_the_conversation() {
    for environment in [&[][..], &[("TERM", "dumb")]] {
        let (go, start) = mpsc::sync_channel(1);
        let (addr, peer) = reader(start);
        go.send(()).unwrap();
        let mut pty = Pty::start_with(&[&addr], environment);
        pty.wait_for("▸ ");
        pty.press_bytes(b"caf\xe9\n");
        pty.wait_for("a byte that is not UTF-8");
        thread::sleep(Duration::from_millis(300));
        pty.press("after\n");
        thread::sleep(Duration::from_millis(300));
        pty.press("q\n");
        assert_eq!(pty.code(), Some(0));
        assert_eq!(peer.join().unwrap(), b"after\n");
    }
}
