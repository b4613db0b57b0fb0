//! The text that the generator sends, and the replies it expects.

/// Least bytes of text before it repeats; enough to differ, little enough for the cache.
const SPAN: usize = 64 * 1024;
/// Three letters number this many messages.
const MOST: usize = 26 * 26 * 26;

/// An endless sequence of different lines of one size, with its upper case.
///
/// The sequence repeats after more than twice the messages that can be in flight, so that a reply
/// lost, doubled or out of order never matches. Connections start at different places in it.
#[derive(Debug)]
pub(crate) struct Text {
    asked: Vec<u8>,
    answered: Vec<u8>,
    size: usize,
    period: usize,
}

impl Text {
    /// Lines of `size` bytes (4 at least), of which `depth` (4096 at most) can be in flight.
    pub(crate) fn new(size: usize, depth: usize) -> Self {
        let period = (SPAN / size).max(2 * depth + 1).min(MOST);
        let mut asked = Vec::with_capacity((period + depth) * size);
        for number in 0..period + depth {
            line(number % period, size, &mut asked);
        }
        let answered = asked.to_ascii_uppercase();
        Self {
            asked,
            answered,
            size,
            period,
        }
    }

    /// Bytes in each line, the newline included.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Offset in the sequence at which the stream of one connection starts, in bytes.
    pub(crate) fn start(&self, connection: usize) -> u64 {
        (connection % self.period * self.size) as u64
    }

    /// Returns `length` bytes to send from an offset in the sequence; at most `depth` lines.
    pub(crate) fn asked(&self, at: u64, length: usize) -> &[u8] {
        &self.asked[self.range(at, length)]
    }

    /// Returns `length` bytes of expected replies from an offset in the sequence; at most `depth` lines.
    pub(crate) fn answered(&self, at: u64, length: usize) -> &[u8] {
        &self.answered[self.range(at, length)]
    }

    fn range(&self, at: u64, length: usize) -> std::ops::Range<usize> {
        let from = (at % (self.period * self.size) as u64) as usize;
        from..from + length
    }
}

fn line(number: usize, size: usize, out: &mut Vec<u8>) {
    let letters = b"abcdefghijklmnopqrstuvwxyz ";
    let digits = [number / (26 * 26), number / 26 % 26, number % 26];
    let start = out.len();
    out.extend(digits.iter().map(|digit| letters[*digit]));
    let mut state = number as u32;
    while out.len() < start + size - 1 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.push(letters[(state >> 24) as usize % letters.len()]);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn lines_have_their_size_and_are_distinct() {
        for (size, depth) in [(4, 1), (4, 4096), (64, 256), (65_536, 3)] {
            let text = Text::new(size, depth);
            let mut seen = HashSet::new();
            for number in 0..=2 * depth {
                let line = text.asked((number * size) as u64, size);
                assert_eq!(memchr::memchr(b'\n', line), Some(size - 1));
                assert!(
                    seen.insert(line.to_vec()),
                    "line {number} of {size} bytes repeats"
                );
                assert_eq!(
                    text.answered((number * size) as u64, size),
                    line.to_ascii_uppercase()
                );
            }
        }
    }

    #[test]
    fn run_wraps_around_the_end_of_the_period() {
        let text = Text::new(64, 16);
        let period = (text.period * text.size) as u64;
        let crossing = text.asked(period - 64, 128);
        assert_eq!(&crossing[64..], text.asked(0, 64));
    }
}
