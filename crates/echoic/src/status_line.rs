//! A line at the bottom of the terminal, below all other output. There is at most one, of `serve`.
//!
//! Whatever prints on the terminal meanwhile removes the line first and draws it again afterwards ([`above`]), so that the lines
//! above stay in the terminal's own scrollback as if there were no such line.

use std::{
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::stdio;

/// Moves to the start of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[K";

static LINE: Mutex<Line> = Mutex::new(Line {
    text: None,
    is_inside_line: false,
});

struct Line {
    /// `None` while there is no status line. It may have colour codes, and no other controls.
    text: Option<String>,
    /// What was printed last did not end at a newline, so there is no room for the status line.
    is_inside_line: bool,
}

/// Draws the line in place of the one before. It must fit into the width of the terminal.
pub(crate) fn set(text: String) {
    let mut line = lock();
    if line.is_inside_line {
        line.text = Some(text);
        return;
    }
    write(&format!("{CLEAR_LINE}{text}"));
    line.text = Some(text);
}

/// Removes the line.
pub(crate) fn remove() {
    let mut line = lock();
    if line.text.take().is_some() && !line.is_inside_line {
        write(CLEAR_LINE);
    }
}

/// Clears the screen and draws the line again. The terminal keeps what has scrolled out of it.
pub(crate) fn clear_screen() {
    let line = lock();
    let text = line.text.as_deref().unwrap_or_default();
    write(&format!("\x1b[H\x1b[2J{text}"));
}

/// Has `print` print above the line. `ends_line` says whether what it prints ends at a newline.
pub(crate) fn above<T>(ends_line: bool, print: impl FnOnce() -> T) -> T {
    let mut line = lock();
    if line.text.is_none() {
        drop(line);
        return print();
    }
    if !line.is_inside_line {
        write(CLEAR_LINE);
    }
    let printed = print();
    line.is_inside_line = !ends_line;
    if let (Some(text), true) = (&line.text, ends_line) {
        write(text);
    }
    printed
}

fn lock() -> MutexGuard<'static, Line> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(text: &str) {
    // If the terminal is gone, so is the line.
    let _ = stdio::errors().write_all(text.as_bytes());
}

/// A stream of the terminal whose output goes above the line.
#[derive(Debug)]
pub(crate) struct Above<W>(pub(crate) W);

impl<W: Write> Write for Above<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let ends_line = bytes.last().is_none_or(|last| *last == b'\n');
        above(ends_line, || self.0.write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
