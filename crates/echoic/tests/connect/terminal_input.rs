//! `connect` with a terminal as its input only: `echoic connect HOST:PORT | tee log`.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpListener,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::io::ioctl_fionread;

use crate::{SOON, echoic, ended, terminal::terminal};

/// Around 100 ms after the close the program stops reading; the shell gets what is typed later.
#[test]
fn line_typed_as_the_peer_closes_is_left_to_the_shell_or_exits_with_6() {
    let (mut unsent, mut left) = (0, 0);
    for round in 0..60 {
        let (code, has_line) = type_after_close(Duration::from_millis(85 + round % 30));
        match code {
            6 => unsent += 1,
            0 => {
                assert!(has_line, "round {round}: exit code 0, and the line is gone");
                left += 1;
            }
            code => panic!("round {round}: exit code {code}"),
        }
    }
    assert_eq!(unsent + left, 60);
}

/// Types a line some time after the peer has closed. Returns the exit code, and whether the terminal still has the line.
fn type_after_close(pause: Duration) -> (i32, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut keyboard, input): (File, _) = terminal();
    let mut process = echoic()
        .arg(listener.local_addr().unwrap().to_string())
        .stdin(input.try_clone().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"hi\n").unwrap();
    let mut greeting = [0; 3];
    let mut output = process.stdout.take().unwrap();
    output.read_exact(&mut greeting).unwrap();
    drop(peer);
    thread::sleep(pause);
    keyboard.write_all(b"typed\n").unwrap();
    let code = ended(&mut process).code().unwrap();
    // The terminal passes a line on a moment after it was typed.
    let deadline = Instant::now() + if code == 0 { SOON } else { Duration::ZERO };
    loop {
        let has_line = ioctl_fionread(&input).unwrap() > 0;
        if has_line || Instant::now() >= deadline {
            return (code, has_line);
        }
        thread::sleep(Duration::from_millis(1));
    }
}
