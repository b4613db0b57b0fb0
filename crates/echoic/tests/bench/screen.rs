//! A terminal emulator for the control sequences that `bench` uses.

use vte::{Params, Parser, Perform};

/// The visible lines and the cursor's line.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    lines: Vec<String>,
    at: usize,
    /// Whether the terminal wraps long lines; a wrapped line would break our count of lines.
    wraps: Option<bool>,
    /// Unknown control sequences.
    pub(crate) strange: Vec<String>,
    /// Lines that were erased.
    pub(crate) erased: Vec<String>,
}

impl Screen {
    /// Returns the screen after all of `shown`.
    pub(crate) fn after(shown: &[u8]) -> Self {
        let mut screen = Self::default();
        Parser::new().advance(&mut screen, shown);
        screen
    }

    /// Returns what remains visible.
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Whether wrapping is on again, as it was before.
    pub(crate) fn is_as_before(&self) -> bool {
        self.wraps != Some(false)
    }

    fn line(&mut self) -> &mut String {
        if self.lines.len() <= self.at {
            self.lines.resize(self.at + 1, String::new());
        }
        &mut self.lines[self.at]
    }
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        self.line().push(c);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => self.at += 1,
            b'\r' => {}
            _ => self.strange.push(format!("control {byte:02x}")),
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _: bool, action: char) {
        let numbers: Vec<u16> = params.iter().flatten().copied().collect();
        match (intermediates, numbers.as_slice(), action) {
            (b"", [up], 'A') => self.at = self.at.saturating_sub((*up).into()),
            (b"", [0], 'J') => {
                let erased = self.lines.split_off(self.at.min(self.lines.len()));
                self.erased.extend(erased);
            }
            (b"?", [7], 'l' | 'h') => self.wraps = Some(action == 'h'),
            (b"", _, 'm') => {}
            _ => self.strange.push(format!("CSI {numbers:?}{action}")),
        }
    }
}
