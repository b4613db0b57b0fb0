//! A line of text that is typed at the status line.

/// Most characters of a line.
const CHARS_MAX: usize = 500;

/// A line while it is typed.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) text: String,
    /// Bytes of a character whose rest has not come yet.
    partial: Vec<u8>,
}

/// What a key did to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// It goes on.
    More,
    /// It is complete.
    Entered,
    /// It was given up.
    Cancelled,
}

impl Entry {
    pub(super) fn new(text: String) -> Self {
        Self {
            text,
            partial: Vec::new(),
        }
    }

    /// Takes a byte of the terminal.
    pub(super) fn add(&mut self, byte: u8) -> Typed {
        match byte {
            b'\r' | b'\n' => return Typed::Entered,
            // Escape, Ctrl-D, Ctrl-G
            0x1b | 0x04 | 0x07 => return Typed::Cancelled,
            // Backspace, Delete
            0x08 | 0x7f => _ = self.text.pop(),
            // Ctrl-U
            0x15 => self.text.clear(),
            0..0x20 => {}
            _ => self.add_text(byte),
        }
        Typed::More
    }

    fn add_text(&mut self, byte: u8) {
        self.partial.push(byte);
        match str::from_utf8(&self.partial) {
            Ok(text) => {
                let is_visible = |c: &char| !c.is_control();
                if self.text.chars().count() < CHARS_MAX {
                    self.text.extend(text.chars().filter(is_visible));
                }
                self.partial.clear();
            }
            // An incomplete character is no error yet.
            Err(error) if error.error_len().is_none() => {}
            Err(_) => self.partial.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_edited_by_characters() {
        let mut entry = Entry::default();
        for byte in "rep:stra\u{df}x\x7f".bytes() {
            assert_eq!(entry.add(byte), Typed::More);
        }
        assert_eq!(entry.text, "rep:straß");
        assert_eq!(entry.add(0x08), Typed::More);
        assert_eq!(entry.text, "rep:stra");
        assert_eq!(entry.add(0xff), Typed::More);
        assert_eq!(entry.add(b'\r'), Typed::Entered);
        assert_eq!(entry.add(0x1b), Typed::Cancelled);
        entry.add(0x15);
        assert_eq!(entry.text, "");
    }
}
