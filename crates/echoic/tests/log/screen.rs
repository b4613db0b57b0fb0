//! `log` on a terminal of a given width.

use std::process::Stdio;

use rustix::termios::{Winsize, tcsetwinsize};

use crate::harness::{Home, Lines, SOON, plain, terminal, wait_for_end};

/// What `log` prints with its standard output on a terminal.
#[derive(Debug)]
pub(crate) struct OnScreen {
    pub(crate) code: Option<i32>,
    /// Lines of standard output, without colours.
    pub(crate) out: Vec<String>,
    /// Standard error.
    pub(crate) err: String,
}

/// Runs `log ARGS` to its end on a terminal of that many columns.
#[track_caller]
pub(crate) fn show(home: &Home, columns: u16, args: &[&str]) -> OnScreen {
    let (ours, theirs) = terminal();
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&ours, size).unwrap();
    let out = Lines::of(ours);
    let mut command = home.echoic(&[&["log"], args].concat());
    command.stdout(theirs).stderr(Stdio::piped());
    let mut log = command.spawn().unwrap();
    // The command has the program's side of the terminal, which must be closed for the output to end.
    drop(command);
    let err = Lines::of(log.stderr.take().unwrap());
    let code = wait_for_end(&mut log, SOON).expect("it ends").code();
    let text = |line: &String| plain(line).trim_end_matches('\r').to_owned();
    OnScreen {
        code,
        out: out.all().iter().map(text).collect(),
        err: err.all().join("\n"),
    }
}
