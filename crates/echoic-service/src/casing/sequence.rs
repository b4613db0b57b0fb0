//! What stands at the start of some bytes: a character, something that is none, or the beginning of one.

/// No character of UTF-8 has more bytes, so no more than one byte less is ever held.
pub(super) const LONGEST: usize = 4;

/// The first sequence of some bytes, as [`slice::utf8_chunks`] would cut it off.
#[derive(Clone, Copy)]
pub(super) enum Sequence {
    /// A whole character.
    Char(char),
    /// This many bytes are no UTF-8, whatever follows.
    Invalid(usize),
    /// All the bytes there are begin a character, and it lacks some.
    Unfinished,
}

impl Sequence {
    /// Reads the sequence that `bytes` starts with.
    pub(super) fn at_start(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(LONGEST)];
        let (valid, invalid) = match str::from_utf8(bytes) {
            Ok(all) => (all, None),
            Err(error) => {
                let valid = str::from_utf8(&bytes[..error.valid_up_to()]);
                (valid.unwrap_or_default(), error.error_len())
            }
        };
        match (valid.chars().next(), invalid) {
            (Some(first), _) => Self::Char(first),
            (None, Some(len)) => Self::Invalid(len),
            (None, None) => Self::Unfinished,
        }
    }

    /// How many of the bytes are decided by it.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Char(char) => char.len_utf8(),
            Self::Invalid(len) => len,
            Self::Unfinished => 0,
        }
    }

    /// Appends what it becomes to `out`; `bytes` are those it was read from.
    pub(super) fn write(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Char(char) => write_upper(char, out),
            Self::Invalid(len) => out.extend_from_slice(&bytes[..len]),
            Self::Unfinished => {}
        }
    }
}

/// Appends the upper case of one character, which may be up to three characters.
#[inline]
pub(super) fn write_upper(char: char, out: &mut Vec<u8>) {
    let mut upper = char.to_uppercase();
    match (upper.len(), upper.next()) {
        (1, Some(one)) => write(one, out),
        (_, first) => first
            .into_iter()
            .chain(upper)
            .for_each(|char| write(char, out)),
    }
}

/// One arm for each length: a copy of constant length is an instruction or two, any other a call.
#[inline]
fn write(char: char, out: &mut Vec<u8>) {
    let mut utf8 = [0; LONGEST];
    match *char.encode_utf8(&mut utf8).as_bytes() {
        [a] => out.push(a),
        [a, b] => out.extend_from_slice(&[a, b]),
        [a, b, c] => out.extend_from_slice(&[a, b, c]),
        ref four => out.extend_from_slice(four),
    }
}
