//! Decodes the first UTF-8 sequence of a slice: a character, invalid bytes, or an unfinished character.

/// Maximum length of a UTF-8 character in bytes. An unfinished one is at least a byte shorter.
pub(super) const UTF8_LEN_MAX: usize = 4;

/// The first sequence of a slice, delimited as by [`slice::utf8_chunks`].
#[derive(Clone, Copy)]
pub(super) enum Sequence {
    /// A whole character.
    Char(char),
    /// This many bytes are invalid UTF-8, whatever follows.
    Invalid(usize),
    /// All bytes of the slice are the prefix of a character.
    Unfinished,
}

impl Sequence {
    /// Decodes the first sequence of `bytes`.
    pub(super) fn at_start(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(UTF8_LEN_MAX)];
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

    /// Returns the length of the sequence; 0 if it is unfinished.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Char(char) => char.len_utf8(),
            Self::Invalid(len) => len,
            Self::Unfinished => 0,
        }
    }

    /// Appends the upper case of the sequence to `out`; `bytes` is the slice it was decoded from.
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

/// Appends a character. One arm for each length: a copy of constant length is inlined, any other is a call.
#[inline]
fn write(char: char, out: &mut Vec<u8>) {
    let mut utf8 = [0; UTF8_LEN_MAX];
    match *char.encode_utf8(&mut utf8).as_bytes() {
        [a] => out.push(a),
        [a, b] => out.extend_from_slice(&[a, b]),
        [a, b, c] => out.extend_from_slice(&[a, b, c]),
        ref four => out.extend_from_slice(four),
    }
}
