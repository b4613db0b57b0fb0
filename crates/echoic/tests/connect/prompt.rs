//! `connect` on a terminal: what a user types and sees.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    sync::mpsc,
    thread::JoinHandle,
};

use rustix::process::Signal;

use crate::{GREET, Tutorial, UPPER, pty::Pty, server};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// Answers each line in upper case until the end of the stream, then sends a goodbye.
fn upper_lines() -> (String, JoinHandle<Vec<String>>) {
    server(|mut peer| {
        let mut received = Vec::new();
        let mut lines = BufReader::new(peer.try_clone().unwrap());
        let mut line = String::new();
        while let Ok(1..) = lines.read_line(&mut line) {
            // The client may have quit without waiting.
            let _ = peer.write_all(line.to_uppercase().as_bytes());
            received.push(std::mem::take(&mut line));
        }
        let _ = peer.write_all(b"bye\n");
        received
    })
}

/// A server that sends what the test passes to it, and closes when the test does.
fn scripted_peer() -> (String, mpsc::SyncSender<&'static [u8]>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::sync_channel::<&[u8]>(10);
    let (addr, peer) = server(move |mut peer: TcpStream| {
        for bytes in receiver {
            peer.write_all(bytes).unwrap();
        }
    });
    (addr, sender, peer)
}

#[test]
fn tutorial_conversation_ends_with_q() {
    let server = Tutorial::start(UPPER);
    let mut pty = Pty::start(&[&server.addr]);
    pty.press("hello\r");
    pty.wait_for("◂");
    pty.wait_for(" HELLO");
    pty.wait_for(" ms");
    // The prompt is below the reply again.
    pty.wait_for("▸ ");
    pty.press("straße\r");
    pty.wait_for_prompt_after(" STRASSE");
    pty.press("q\r");
    pty.wait_for("closed: 2 sent, 2 received, 14 B / 14 B, ");
    assert_eq!(pty.code(), Some(0));
    let shown = String::from_utf8(pty.output()).unwrap();
    assert!(
        shown.contains(&format!("connected {} in ", server.addr)),
        "{shown}"
    );
}

#[test]
fn tutorial_greeting_is_shown_and_ends_the_session() {
    let server = Tutorial::start(GREET);
    let mut pty = Pty::start_with(&[&server.addr], &[]);
    pty.wait_for("◂!");
    pty.wait_for(" Thank you for connecting (no newline)");
    pty.wait_for("closed by the peer: 0 sent, 1 received, 0 B / 24 B");
    assert_eq!(pty.code(), Some(0));
}

#[test]
fn q_and_colon_can_be_sent() {
    let (addr, received) = upper_lines();
    let mut pty = Pty::start(&[&addr]);
    for (typed, reply) in [("\\q", " Q"), ("\\:x", " :X"), ("", "◂")] {
        pty.press(&format!("{typed}\r"));
        pty.wait_for(reply);
        pty.wait_for(" ms");
    }
    pty.press("q\r");
    assert_eq!(pty.code(), Some(0));
    assert_eq!(received.join().unwrap(), ["q\n", ":x\n", "\n"]);
}

#[test]
fn no_q_option_sends_q_as_a_line() {
    let (addr, received) = upper_lines();
    let mut pty = Pty::start(&[&addr, "--no-q"]);
    pty.press("q\r");
    pty.wait_for_prompt_after(" Q");
    pty.press(":q\r");
    assert_eq!(pty.code(), Some(0));
    assert_eq!(received.join().unwrap(), ["q\n"]);
}

#[test]
fn ctrl_d_half_closes_and_later_replies_are_shown() {
    let (addr, received) = upper_lines();
    let mut pty = Pty::start(&[&addr]);
    assert!(pty.is_raw());
    pty.press("last\r");
    pty.wait_for_prompt_after(" LAST");
    pty.press(CTRL_D);
    pty.wait_for(" bye");
    pty.wait_for("closed by the peer: 1 sent, 2 received");
    assert_eq!(pty.code(), Some(0));
    assert_eq!(received.join().unwrap(), ["last\n"]);
}

#[test]
fn second_ctrl_d_quits_while_the_peer_stays() {
    let (addr, sender, peer) = scripted_peer();
    let mut pty = Pty::start(&[&addr]);
    pty.press(CTRL_D);
    pty.wait_for_prompt_after("(FIN)");
    pty.press("too late\r");
    pty.wait_for_prompt_after("not sent: the sending side");
    pty.press(CTRL_D);
    assert_eq!(pty.code(), Some(0));
    drop(sender);
    peer.join().unwrap();
}

#[test]
fn ctrl_c_clears_the_line_and_twice_exits_with_130() {
    let (addr, received) = upper_lines();
    let mut pty = Pty::start(&[&addr]);
    pty.press(&format!("never sent{CTRL_C}"));
    pty.wait_for_prompt_after("press Ctrl-C again to quit");
    pty.press("sent\r");
    pty.wait_for_prompt_after(" SENT");
    pty.press(CTRL_C);
    pty.wait_for_prompt_after("press Ctrl-C again to quit");
    pty.press(CTRL_C);
    assert_eq!(pty.code(), Some(130));
    assert_eq!(received.join().unwrap(), ["sent\n"]);
}

#[test]
fn signal_restores_the_terminal() {
    for signal in [Signal::TERM, Signal::HUP] {
        let (addr, sender, peer) = scripted_peer();
        let mut pty = Pty::start(&[&addr]);
        pty.press("half a li");
        pty.wait_for("half a li");
        pty.signal(signal);
        assert_eq!(pty.code(), Some(130));
        drop(sender);
        peer.join().unwrap();
    }
}

#[test]
fn signal_that_ends_the_process_restores_the_terminal_first() {
    for signal in [
        Signal::QUIT,
        Signal::ALARM,
        Signal::USR1,
        Signal::USR2,
        Signal::ABORT,
    ] {
        let (addr, sender, peer) = scripted_peer();
        let mut pty = Pty::start(&[&addr]);
        pty.press("half a li");
        pty.wait_for("half a li");
        assert!(pty.is_raw());
        pty.signal(signal);
        assert_eq!(pty.ended_by_signal(), Some(signal.as_raw()), "{signal:?}");
        drop(sender);
        peer.join().unwrap();
    }
}

#[test]
fn peer_close_mid_line_shows_the_rest_and_ends() {
    let (addr, sender, peer) = scripted_peer();
    let mut pty = Pty::start(&[&addr]);
    sender.send(b"one\n").unwrap();
    pty.wait_for_prompt_after(" one");
    pty.press("half a li");
    pty.wait_for("half a li");
    sender.send(b"two\nthr").unwrap();
    drop(sender);
    pty.wait_for(" two");
    pty.wait_for(" thr (no newline)");
    pty.wait_for("closed by the peer: 0 sent, 3 received, 0 B / 11 B");
    assert_eq!(pty.code(), Some(0));
    peer.join().unwrap();
}

#[test]
fn peer_close_with_a_reply_due_exits_with_6() {
    let (addr, peer) = server(|mut peer| {
        peer.read_exact(&mut [0; 6]).unwrap();
    });
    let mut pty = Pty::start(&[&addr]);
    pty.press("hello\r");
    pty.wait_for("without a reply");
    assert_eq!(pty.code(), Some(6));
    peer.join().unwrap();
}

/// A terminal executes escape sequences: a peer must not be able to send it any.
#[test]
fn peer_bytes_never_reach_the_terminal_raw() {
    let (addr, sender, peer) = scripted_peer();
    let mut pty = Pty::start(&[&addr]);
    let evil: &[u8] = b"\x1b]0;evil\x07\x1b[2J\xc2\x9b31m\xe2\x80\xae\xff\rend\n";
    sender.send(evil).unwrap();
    pty.wait_for_prompt_after(r"\x1b]0;evil\x07\x1b[2J\u{9b}31m\u{202e}\xff\rend");
    pty.press(":hex on\r");
    pty.wait_for("replies as hex");
    sender.send(evil).unwrap();
    pty.wait_for_prompt_after("1b 5d 30 3b");
    pty.press(":hex off\r:frame chunk\r");
    pty.wait_for("framing chunk, a typed line has no newline");
    sender.send(evil).unwrap();
    pty.wait_for_prompt_after(r"\rend\n");
    pty.press("q\r");
    assert_eq!(pty.code(), Some(0));
    let shown = pty.output();
    for raw in [
        &b"\x1b]0"[..],
        b"\x07",
        b"\x1b[2J",
        b"\xc2\x9b",
        b"\xe2\x80\xae",
        b"\xff",
    ] {
        let found = shown.windows(raw.len()).any(|window| window == raw);
        assert!(!found, "{raw:x?} reached the terminal");
    }
    drop(sender);
    peer.join().unwrap();
}

#[test]
fn prompt_commands_work_as_documented() {
    let (addr, received) = upper_lines();
    let mut pty = Pty::start(&[&addr]);
    let dir = tempfile::tempdir().unwrap();
    let (letter, saved) = (dir.path().join("letter"), dir.path().join("saved"));
    fs::write(&letter, "from a file\n").unwrap();

    pty.press(":help\r");
    pty.wait_for_prompt_after(":save PATH");
    pty.press(":send 61 62 0a\r");
    pty.wait_for_prompt_after(" AB");
    pty.press(&format!(":file {}\r", letter.display()));
    pty.wait_for_prompt_after("letter, 12 B");
    pty.press(":newline off\rno end\r");
    pty.press(":send 0a\r");
    pty.wait_for_prompt_after(" NO END");
    pty.press(":nonsense\r");
    pty.wait_for("invalid command :nonsense: expected :hex");
    pty.press("\x1d"); // Ctrl-] begins a command
    pty.press("stat\r");
    pty.wait_for_prompt_after("3 sent, 3 received, 22 B / 22 B");
    pty.press(&format!(":save {}\r", saved.display()));
    pty.wait_for_prompt_after("saved 7 lines");
    pty.press(":fin\r");
    pty.wait_for(" bye");
    assert_eq!(pty.code(), Some(0));
    assert_eq!(
        received.join().unwrap(),
        ["ab\n", "from a file\n", "no end\n"]
    );

    let text = fs::read_to_string(&saved).unwrap();
    for part in [r" ▸ ab\n", r" ◂ AB\n", r" ◂ FROM A FILE\n"] {
        assert!(text.contains(part), "{text}");
    }
    let mode = fs::metadata(&saved).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn rst_command_resets_the_connection() {
    let (addr, peer) = server(|mut peer| peer.read(&mut [0]).unwrap_err().kind());
    let mut pty = Pty::start(&[&addr]);
    pty.press(":rst\r");
    pty.wait_for("reset by us");
    assert_eq!(pty.code(), Some(0));
    assert_eq!(peer.join().unwrap(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn history_is_per_target_and_private() {
    let (addr, _) = upper_lines();
    let mut pty = Pty::start(&[&addr]);
    pty.press("remember me\r");
    pty.wait_for_prompt_after(" REMEMBER ME");
    pty.press(" but not this\r");
    pty.wait_for(" BUT NOT THIS");
    // Up, then Enter.
    pty.press("\x1b[A\r");
    pty.wait_for_prompt_after(" REMEMBER ME");
    pty.press("q\r");
    assert_eq!(pty.code(), Some(0));

    let dir = pty.state.path().join("echoic/history");
    let file = dir.join(format!("tcp_{}", addr.replace(':', "_")));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("remember me"), "{text}");
    assert!(!text.contains("but not this"), "{text}");
    for (path, mode) in [(&file, 0o600), (&dir, 0o700)] {
        let permissions = fs::metadata(path).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{}", path.display());
    }
}

#[test]
fn no_history_option_stores_nothing() {
    let (addr, _) = upper_lines();
    let mut pty = Pty::start(&[&addr, "--no-history"]);
    pty.press("forget me\r");
    pty.wait_for_prompt_after(" FORGET ME");
    pty.press("q\r");
    assert_eq!(pty.code(), Some(0));
    assert_eq!(fs::read_dir(pty.state.path()).unwrap().count(), 0);
}

#[test]
fn explain_prints_above_the_prompt() {
    let (addr, _) = upper_lines();
    let mut pty = Pty::start(&[&addr, "--explain"]);
    pty.press("hello\r");
    pty.wait_for(r"send(b'hello\n') = 6");
    pty.wait_for_prompt_after(r"recv(65536) = b'HELLO\n'");
    pty.press("q\r");
    pty.wait_for("shutdown(SHUT_WR)");
    assert_eq!(pty.code(), Some(0));
}

#[test]
fn no_color_disables_colours() {
    for (environment, coloured) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let (addr, _) = upper_lines();
        let mut pty = Pty::start_with(&[&addr], environment);
        pty.wait_for("▸ ");
        pty.press("hello\r");
        pty.wait_for(" HELLO");
        pty.press("q\r");
        assert_eq!(pty.code(), Some(0));
        let shown = String::from_utf8_lossy(&pty.output()).into_owned();
        assert_eq!(shown.contains("\x1b[36m◂"), coloured, "{shown}");
    }
}

/// A dumb terminal gets lines, and no prompt is redrawn.
#[test]
fn dumb_terminal_works_without_escapes() {
    let (addr, received) = upper_lines();
    let mut pty = Pty::start_with(&[&addr], &[("TERM", "dumb")]);
    pty.wait_for("▸ ");
    pty.press("hello\n");
    pty.wait_for("◂ HELLO");
    pty.press("q\n");
    assert_eq!(pty.code(), Some(0));
    assert_eq!(received.join().unwrap(), ["hello\n"]);
    assert!(!pty.output().contains(&b'\x1b'));
}

/// A tab is an ordinary character; there is no completion.
#[test]
fn tab_is_sent_and_long_reply_truncated() {
    let (addr, received) = upper_lines();
    let mut pty = Pty::start(&[&addr]);
    pty.press("a\tb\r");
    pty.wait_for_prompt_after(r" A\tB");
    let long = "x".repeat(3000);
    pty.press(&format!("{long}{long}\r"));
    pty.wait_for("X…(+1.9 KiB)");
    pty.press("q\r");
    assert_eq!(pty.code(), Some(0));
    assert_eq!(
        received.join().unwrap(),
        ["a\tb\n".to_owned(), format!("{long}{long}\n")]
    );
}

/// Many replies that arrive while lines are entered neither stop the editor nor get lost.
#[test]
fn reply_flood_while_typing_is_shown_completely() {
    const LINES: usize = 20_000;
    const TYPED: usize = 50;
    let (addr, peer) = server(|mut peer| {
        let mut asked = [0; 3];
        peer.read_exact(&mut asked).unwrap();
        peer.write_all(numbered("line", LINES).as_bytes()).unwrap();
        let mut lines = BufReader::new(peer.try_clone().unwrap());
        let mut received = String::new();
        for _ in 0..TYPED {
            lines.read_line(&mut received).unwrap();
        }
        peer.write_all(b"enough\n").unwrap();
        lines.read_to_string(&mut received).unwrap();
        received
    });
    let mut pty = Pty::start(&[&addr]);
    pty.press("go\r");
    pty.wait_for(" line 0");
    for i in 0..TYPED {
        pty.press(&format!("typed {i}\r"));
    }
    pty.wait_for(&format!(" line {}", LINES - 1));
    pty.wait_for_prompt_after(" enough");
    pty.press(CTRL_D);
    pty.wait_for("closed by the peer");
    assert_eq!(peer.join().unwrap(), numbered("typed", TYPED));
    let shown = String::from_utf8(pty.output()).unwrap();
    let digits = |rest: &str| {
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .map(str::to_owned)
    };
    let numbers: Vec<_> = shown.split(" line ").skip(1).filter_map(digits).collect();
    let in_order: Vec<_> = (0..LINES).map(|i| i.to_string()).collect();
    let wrong = numbers
        .iter()
        .zip(&in_order)
        .find(|(shown, sent)| shown != sent);
    assert_eq!(wrong, None, "lost, doubled or out of order");
    assert_eq!(numbers.len(), LINES);
    assert_eq!(pty.code(), Some(0));
}

fn numbered(word: &str, count: usize) -> String {
    let lines: Vec<_> = (0..count).map(|i| format!("{word} {i}\n")).collect();
    lines.concat()
}
