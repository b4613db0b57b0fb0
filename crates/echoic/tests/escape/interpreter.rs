//! A terminal emulator that records what it would execute.

use std::collections::BTreeSet;

use vte::{Params, Parser, Perform};

/// A terminal that records every action except printing text and setting colours.
#[derive(Debug, Default)]
pub(crate) struct Interpreter {
    /// Whether the prompt's line editing is allowed.
    edits: bool,
    executed: BTreeSet<String>,
}

/// The colours used by `term.rs` and by clap's help, and their reset.
const COLOURS: [u16; 9] = [0, 1, 2, 4, 31, 32, 33, 34, 36];

impl Interpreter {
    /// Creates a terminal that allows line editing.
    pub(crate) fn at_a_prompt() -> Self {
        Self {
            edits: true,
            ..Self::default()
        }
    }

    /// Returns the actions that a terminal would take for `shown`.
    pub(crate) fn about(shown: &[u8]) -> BTreeSet<String> {
        Self::default().after(shown)
    }

    pub(crate) fn after(mut self, shown: &[u8]) -> BTreeSet<String> {
        Parser::new().advance(&mut self, shown);
        self.executed
    }

    fn note(&mut self, what: String) {
        self.executed.insert(what);
    }
}

impl Perform for Interpreter {
    fn print(&mut self, c: char) {
        let hidden = matches!(c,
            '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
        if hidden {
            self.note(format!("hidden {:04x}", c as u32));
        }
    }

    fn execute(&mut self, byte: u8) {
        if !b"\r\n".contains(&byte) {
            self.note(format!("control {byte:02x}"));
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _: bool, action: char) {
        let numbers: Vec<u16> = params.iter().flatten().copied().collect();
        let coloured = action == 'm'
            && intermediates.is_empty()
            && numbers.iter().all(|number| COLOURS.contains(number));
        // Sequences that rustyline uses: the cursor, erasing, bracketed paste, and synchronized output.
        let edited = self.edits
            && match (intermediates, action) {
                (b"", 'C' | 'A' | 'B' | 'D' | 'K' | 'J') => true,
                (b"?", 'h' | 'l') => numbers == [2004] || numbers == [2026],
                _ => false,
            };
        if !coloured && !edited {
            let intermediates = intermediates.escape_ascii();
            self.note(format!("CSI {intermediates}{numbers:?}{action}"));
        }
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        self.note(format!("ESC {byte:02x}"));
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        self.note(format!("OSC {}", params[0].escape_ascii()));
    }

    fn hook(&mut self, _: &Params, _: &[u8], _: bool, action: char) {
        self.note(format!("DCS {action}"));
    }
}
