//! An expected reply, searched for in a stream as it arrives.

use std::{fmt, str::FromStr};

use echoic_core::{
    escape,
    framing::{Framing, Splitter},
};
use memchr::memmem;

use crate::pattern::{CHARACTER_BYTES_MAX, Pattern};

/// What a reply must contain: text, or `/REGEX/`.
#[derive(Clone, Debug)]
pub enum Expected {
    /// These bytes.
    Text(Vec<u8>),
    /// A match of this expression.
    Pattern(Pattern),
}

impl Expected {
    /// Returns whether a match may depend on the bytes after it, and so has to wait for them.
    pub fn looks_around(&self) -> bool {
        matches!(self, Self::Pattern(pattern) if pattern.looks_around())
    }

    /// Returns whether a whole message meets it.
    pub fn is_in(&self, message: &[u8]) -> bool {
        match self {
            Self::Text(text) => memmem::find(message, text).is_some(),
            Self::Pattern(pattern) => pattern.is_in(message),
        }
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = text
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'));
        if let Some(regex) = inner.filter(|inner| !inner.is_empty()) {
            return Pattern::new(regex).map(Self::Pattern).map_err(|error| {
                format!(
                    "invalid expression {}: {error}",
                    escape::text(text.as_bytes())
                )
            });
        }
        match escape::parse(text) {
            Ok(bytes) if bytes.is_empty() => {
                Err("invalid expectation \"\": expected text or /REGEX/".to_owned())
            }
            Ok(bytes) => Ok(Self::Text(bytes)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(bytes) => write!(f, "{}", escape::text(bytes)),
            Self::Pattern(pattern) => {
                write!(f, "/{}/", escape::text(pattern.source().as_bytes()))
            }
        }
    }
}

impl Expected {
    /// Returns the end of a sentence on a reply that did not contain the text: how to write it as an expression, if it looks
    /// like one.
    pub fn expression_hint(&self) -> String {
        let text = match self {
            Self::Text(_) => self.to_string(),
            Self::Pattern(_) => return String::new(),
        };
        let looks_like_one = text.starts_with('^')
            || text.ends_with('$')
            || [".*", ".+", "[0-9", "[a-z", "[A-Z"]
                .iter()
                .any(|part| text.contains(part));
        if looks_like_one && Pattern::new(&text).is_ok() {
            format!("; a regular expression is written between slashes: '/{text}/'")
        } else {
            String::new()
        }
    }
}

/// Searches what a peer sends for an [`Expected`]. The verdict does not depend on how the stream was cut into reads.
///
/// The stream is searched as one text. Each datagram, and each message of a declared framing, is also one text, so that
/// its edges count as such.
#[derive(Debug)]
pub struct ReplySearch {
    expected: Expected,
    stream: Window,
    messages: Messages,
    is_met: bool,
}

/// How whole messages are found.
#[derive(Debug)]
enum Messages {
    /// Only the stream is searched.
    None,
    /// Each read is a datagram; datagrams form no stream.
    Datagrams,
    /// A declared framing divides the stream. The bytes are those of an unfinished message.
    Framed(Splitter, Vec<u8>),
}

/// Bytes by which the searched window moves on. A match of up to this length is always found.
const STEP_BYTES: usize = 512 << 10;

/// The last bytes of the stream.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    /// Start of the search in `bytes`. The character before it tells anchors where a line or a word begins.
    from: usize,
    /// Bytes since the window last moved on.
    since_step: usize,
}

impl ReplySearch {
    /// Searches a stream whose messages `framing` divides.
    pub fn of_stream(expected: Expected, framing: Framing) -> Self {
        let is_needed = framing.is_declared() && expected.looks_around();
        let messages = if is_needed {
            Messages::Framed(Splitter::new(framing, STEP_BYTES), Vec::new())
        } else {
            Messages::None
        };
        Self::new(expected, messages)
    }

    /// Searches datagrams, each on its own.
    pub fn of_datagrams(expected: Expected) -> Self {
        Self::new(expected, Messages::Datagrams)
    }

    fn new(expected: Expected, messages: Messages) -> Self {
        Self {
            expected,
            stream: Window::default(),
            messages,
            is_met: false,
        }
    }

    /// Returns whether the bytes so far meet the expectation, whatever follows.
    pub fn is_met(&self) -> bool {
        self.is_met
    }

    /// Searches the bytes of one read.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if let Messages::Datagrams = self.messages {
            self.is_met = self.is_met || self.expected.is_in(bytes);
            return;
        }
        self.search_messages(bytes);
        while !self.is_met && !bytes.is_empty() {
            // The window moves on at fixed places of the stream, wherever the reads end.
            let (now, later) = bytes.split_at(bytes.len().min(self.stream.until_step()));
            bytes = later;
            self.stream.add(now);
            self.is_met = self.stream.is_certain(&self.expected);
            self.stream.step();
        }
    }

    /// The stream has ended, so nothing follows.
    pub fn finish(&mut self) {
        if self.is_met || matches!(self.messages, Messages::Datagrams) {
            return;
        }
        let mut is_met = self.stream.is_met_at_end(&self.expected);
        if let Messages::Framed(splitter, rest) = &mut self.messages {
            let mut spans = Vec::new();
            splitter.end_of_input(rest, &mut spans);
            is_met = is_met || !spans.is_empty() && self.expected.is_in(rest);
        }
        self.is_met = is_met;
    }

    /// Begins a new search: the next reply must match on its own. The rest of an unfinished message still belongs to it.
    pub fn clear(&mut self) {
        self.stream = Window::default();
        self.is_met = false;
    }

    fn search_messages(&mut self, bytes: &[u8]) {
        let Messages::Framed(splitter, rest) = &mut self.messages else {
            return;
        };
        rest.extend_from_slice(bytes);
        let mut spans = Vec::new();
        let split = splitter.split(rest, &mut spans);
        let mut bodies = spans
            .iter()
            .map(|span| &rest[span.body_start as usize..span.body_end as usize]);
        self.is_met = self.is_met || bodies.any(|body| self.expected.is_in(body));
        rest.drain(..split.consumed);
        if split.violation.is_some() {
            self.messages = Messages::None;
        }
    }
}

impl Window {
    /// Bytes that may be added before the window moves on; at least one.
    fn until_step(&self) -> usize {
        STEP_BYTES - self.since_step
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.since_step += bytes.len();
    }

    /// Drops the oldest bytes once enough were added.
    fn step(&mut self) {
        if self.since_step < STEP_BYTES {
            return;
        }
        self.since_step = 0;
        let begin = self.bytes.len() - STEP_BYTES;
        let kept = begin.saturating_sub(CHARACTER_BYTES_MAX);
        self.bytes.drain(..kept);
        self.from = begin - kept;
    }

    fn is_certain(&mut self, expected: &Expected) -> bool {
        match expected {
            Expected::Text(_) => self.is_met_at_end(expected),
            Expected::Pattern(pattern) => pattern.is_in_any_case(&mut self.bytes, self.from),
        }
    }

    fn is_met_at_end(&self, expected: &Expected) -> bool {
        match expected {
            Expected::Text(text) => memmem::find(&self.bytes[self.from..], text).is_some(),
            Expected::Pattern(pattern) => pattern.is_in_rest(&self.bytes, self.from),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether `pieces` meet the expectation before the end of the stream, and after it.
    fn met(expected: &str, framing: &str, pieces: &[&[u8]]) -> (bool, bool) {
        let expected = expected.parse().unwrap();
        let mut search = ReplySearch::of_stream(expected, framing.parse().unwrap());
        for piece in pieces {
            search.push(piece);
        }
        let before = search.is_met();
        search.finish();
        (before, search.is_met())
    }

    #[test]
    fn expected_text_or_regex_may_arrive_in_pieces() {
        for (expected, pieces, met_before_end) in [
            ("HELLO", &[&b"xHEL"[..], b"LOx"][..], true),
            ("/^H.*O$/", &[b"HEL", b"LO\n"], true),
            ("/^H.*O$/", &[b"HEL", b"LO"], false),
            ("/^HELLO$/", &[b"one\r\nHELLO\r\ntwo\n"], true),
            ("/(?-u)\\xff/", &[&[0xff]], true),
            ("a\\x00b", &[b"a\0b"], true),
            ("/usr", &[b"/usr/bin"], true),
        ] {
            assert_eq!(
                met(expected, "chunk", pieces),
                (met_before_end, true),
                "{expected}"
            );
        }
        assert_eq!(met("HELLO", "chunk", &[b"hello"]), (false, false));
        assert_eq!(met("/^OK$/", "chunk", &[b"OK", b": no"]), (false, false));
    }

    #[test]
    fn message_of_a_declared_framing_has_edges_of_its_own() {
        assert_eq!(met("/^OK$/", "u8", &[b"\x02O", b"K"]), (true, true));
        assert_eq!(met("/^OK$/", "nul", &[b"OK\0"]), (true, true));
        assert_eq!(met("/^OK$/", "nul", &[b"no\0OK"]), (false, true));
        assert_eq!(met("/^OK$/", "fixed:2", &[b"OKOK"]), (true, true));
        assert_eq!(met("/^OK$/", "chunk", &[b"\x02OK"]), (false, false));
    }

    #[test]
    fn datagram_is_searched_alone() {
        let mut search = ReplySearch::of_datagrams("/^OK$/".parse().unwrap());
        search.push(b"OK: no");
        search.push(b"O");
        search.push(b"K");
        search.finish();
        assert!(!search.is_met());
        search.push(b"OK");
        assert!(search.is_met());
    }

    #[test]
    fn invalid_expectation_is_rejected() {
        for text in ["", "/(/", "\\q"] {
            assert!(text.parse::<Expected>().is_err(), "{text}");
        }
    }

    #[test]
    fn window_is_bounded_and_its_start_is_no_edge() {
        let mut search = ReplySearch::of_stream(r"/^x|\Ax|\bx/".parse().unwrap(), Framing::Chunk);
        search.push(b"y");
        for _ in 0..12 {
            search.push(&vec![b'x'; 100_000]);
        }
        assert!(search.stream.bytes.len() <= 2 * STEP_BYTES + CHARACTER_BYTES_MAX);
        search.finish();
        assert!(!search.is_met());
        search.push(b" x");
        assert!(search.is_met());
        search.clear();
        assert!(!search.is_met());
    }

    proptest! {
        #[test]
        fn verdict_does_not_depend_on_the_cuts(
            pattern in prop::sample::select(vec![
                "/^a$/", r"/a\b/", r"/a\B/", r"/a\z/", r"/\Aa/", "/(?-m)a$/", "/a.*b/", r"/\r$/", r"/é\b/", "/^$/", "ab",
            ]),
            framing in prop::sample::select(vec!["chunk", "line", "crlf", "nul", "u8", "fixed:2"]),
            stream in "[ab é\r\n\0\x01\x02-]{0,12}",
            cuts in prop::collection::vec(0..20_usize, 0..5),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let bytewise: Vec<_> = bytes.chunks(1).collect();
            let (_, whole) = met(pattern, framing, &[bytes]);
            prop_assert_eq!(met(pattern, framing, &pieces).1, whole);
            prop_assert_eq!(met(pattern, framing, &bytewise).1, whole);
            // What was met before the end stays so.
            let (early, late) = met(pattern, framing, &pieces);
            prop_assert!(!early || late);
            if framing == "chunk" {
                let expected: Expected = pattern.parse().unwrap();
                prop_assert_eq!(whole, expected.is_in(bytes));
            }
        }
    }
}
