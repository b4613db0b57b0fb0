//! Message templates: placeholders are filled in for every request, determined by the seed and the request number.

use std::{fmt, io::Write, str::FromStr, sync::Arc};

use echoic_core::units::{Bytes, UnitError};
use rand::{Rng, RngExt, SeedableRng, distr::Distribution, rngs::SmallRng};
use thiserror::Error;

use super::sizes::Sizes;

/// A message with placeholders in `{ }`; `{{` and `}}` are literal braces.
///
/// | | |
/// |---|---|
/// | `{seq}` | the number of the request, unique within a run |
/// | `{conn}` | the number of its connection |
/// | `{now}` | due time in nanoseconds since 1970 |
/// | `{rand:N}` | N random letters and digits; `{rand:N:hex}` hexadecimal digits |
/// | `{re:REGEX}` | a random text that matches the expression |
#[derive(Clone, Debug)]
pub struct Template {
    segments: Vec<Segment>,
    text: String,
}

#[derive(Clone, Debug)]
enum Segment {
    Literal(Vec<u8>),
    Sequence,
    Connection,
    Now,
    Random(usize, &'static [u8]),
    Regex(Arc<rand_regex::Regex>),
    /// Pads the whole message to a length, with letters.
    Padding(Sizes, Arc<[u8]>),
}

/// Values of the placeholders for one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct TemplateValues {
    /// Value of `{seq}`; also seeds random placeholders.
    pub number: u64,
    /// Value of `{conn}`.
    pub connection: u32,
    /// Value of `{now}`.
    pub unix_nanos: u64,
    /// Seed of random placeholders.
    pub seed: u64,
}

/// Error from parsing a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidTemplate {
    /// Unknown placeholder.
    #[error(
        "invalid placeholder {{{0}}}: expected {{seq}}, {{conn}}, {{now}}, {{rand:N}}, {{rand:N:hex}} or {{re:REGEX}}, or {{{{ for a literal brace"
    )]
    Unknown(String),
    /// Invalid size of a random placeholder.
    #[error("{0}, in {{rand:SIZE}}")]
    Size(UnitError),
    /// Unmatched brace.
    #[error("unmatched {{ or }}; write {{{{ or }}}} for a literal brace")]
    Unbalanced,
    /// Invalid regular expression, or one that cannot be generated from.
    #[error("{{re:{regex}}} cannot be generated from: {why}")]
    Regex {
        /// The expression.
        regex: String,
        /// The error.
        why: String,
    },
}

const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &[u8] = b"0123456789abcdef";
/// Maximum number of random characters in one placeholder.
const RANDOM_MAX: usize = 1 << 20;
/// Maximum number of repetitions of `*` and `+` in a regular expression.
const REPEAT_MAX: u32 = 16;
/// Number of different padding letters, which repeat in longer messages.
const PADDING_BYTES: usize = 4096;

impl Template {
    /// Creates a template of fixed bytes.
    pub fn literal(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            segments: vec![Segment::Literal(bytes)],
        }
    }

    /// Creates a template of the request number and letters, with a given total length. A length shorter than the number cuts
    /// it.
    pub fn sized(sizes: Sizes, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let letters =
            (0..PADDING_BYTES).map(|_| b"abcdefghijklmnopqrstuvwxyz"[random.random_range(0..26)]);
        Self {
            text: format!("{{seq}} and letters, {sizes} bytes"),
            segments: vec![
                Segment::Sequence,
                Segment::Literal(b" ".into()),
                Segment::Padding(sizes, letters.collect()),
            ],
        }
    }

    /// Returns the message if it is constant.
    pub fn fixed(&self) -> Option<&[u8]> {
        match &*self.segments {
            [] => Some(b""),
            [Segment::Literal(bytes)] => Some(bytes),
            _ => None,
        }
    }

    /// Returns the length of the message if it is constant.
    pub fn bytes(&self) -> Option<usize> {
        match (self.fixed(), &*self.segments) {
            (Some(fixed), _) => Some(fixed.len()),
            (None, [.., Segment::Padding(sizes, _)]) => sizes.fixed(),
            (None, segments) => segments.iter().try_fold(0, |sum, segment| match segment {
                Segment::Literal(bytes) => Some(sum + bytes.len()),
                Segment::Random(count, _) => Some(sum + count),
                _ => None,
            }),
        }
    }

    /// Returns the literal segments.
    pub fn literals(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(bytes) => Some(&**bytes),
            _ => None,
        })
    }

    /// Returns the bytes before the request number, if the message has one at a fixed position.
    pub fn before_number(&self) -> Option<&[u8]> {
        let cut = self
            .segments
            .iter()
            .any(|segment| matches!(segment, Segment::Padding(sizes, _) if sizes.min() < 21));
        match &*self.segments {
            _ if cut => None,
            [Segment::Sequence, rest @ ..] if !may_start_with_digit(rest) => Some(b""),
            [Segment::Literal(before), Segment::Sequence, rest @ ..]
                if !may_start_with_digit(rest) =>
            {
                Some(before)
            }
            _ => None,
        }
    }

    /// Appends the message to `out`.
    pub fn fill(&self, values: &TemplateValues, out: &mut Vec<u8>) {
        let start = out.len();
        let seed = values.seed ^ values.number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = SmallRng::seed_from_u64(seed);
        for segment in &self.segments {
            match segment {
                Segment::Literal(bytes) => out.extend_from_slice(bytes),
                Segment::Sequence => write_decimal(values.number, out),
                Segment::Connection => write_decimal(values.connection.into(), out),
                Segment::Now => write_decimal(values.unix_nanos, out),
                Segment::Random(count, alphabet) => {
                    out.extend(
                        (0..*count).map(|_| alphabet[random.random_range(0..alphabet.len())]),
                    );
                }
                Segment::Regex(regex) => {
                    let text: Vec<u8> = regex.sample(&mut random);
                    out.extend_from_slice(&text);
                }
                Segment::Padding(sizes, letters) => {
                    let length = start + sizes.draw(&mut random);
                    pad(out, length, letters, random.next_u32() as usize);
                }
            }
        }
    }
}

/// Returns whether digits may follow, which would be read as part of the number.
fn may_start_with_digit(rest: &[Segment]) -> bool {
    match rest.first() {
        None => false,
        Some(Segment::Literal(bytes)) => bytes.first().is_none_or(u8::is_ascii_digit),
        Some(_) => true,
    }
}

fn pad(out: &mut Vec<u8>, length: usize, letters: &[u8], from: usize) {
    out.truncate(length);
    let mut from = from % letters.len();
    while out.len() < length {
        let rest = &letters[from..];
        let part = &rest[..rest.len().min(length - out.len())];
        out.extend_from_slice(part);
        from = 0;
    }
}

fn write_decimal(number: u64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("invariant: writing to a Vec cannot fail");
}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let mut segments = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.extend_from_slice(&rest.as_bytes()[..at]);
            let brace = rest.as_bytes()[at];
            rest = &rest[at + 1..];
            if rest.as_bytes().first() == Some(&brace) {
                literal.push(brace);
                rest = &rest[1..];
                continue;
            }
            let end = (brace == b'{').then(|| closing_brace(rest)).flatten();
            let end = end.ok_or(InvalidTemplate::Unbalanced)?;
            if !literal.is_empty() {
                segments.push(Segment::Literal(std::mem::take(&mut literal)));
            }
            segments.push(parse_placeholder(&rest[..end])?);
            rest = &rest[end + 1..];
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            segments.push(Segment::Literal(literal));
        }
        Ok(Self {
            segments,
            text: text.to_owned(),
        })
    }
}

/// Finds the brace that closes one opened before `text`; regular expressions contain braces too.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn parse_placeholder(inside: &str) -> Result<Segment, InvalidTemplate> {
    let unknown = || InvalidTemplate::Unknown(inside.to_owned());
    let count = |text: &str| {
        let count = Bytes::within(text, 0..=RANDOM_MAX as u64);
        count
            .map(|count| count as usize)
            .map_err(InvalidTemplate::Size)
    };
    match inside.split_once(':') {
        None if inside == "seq" => Ok(Segment::Sequence),
        None if inside == "conn" => Ok(Segment::Connection),
        None if inside == "now" => Ok(Segment::Now),
        Some(("rand", arguments)) => match arguments.split_once(':') {
            None => Ok(Segment::Random(count(arguments)?, ALPHANUMERIC)),
            Some((number, "hex")) => Ok(Segment::Random(count(number)?, HEX)),
            Some(_) => Err(unknown()),
        },
        Some(("re", regex)) => match rand_regex::Regex::compile(regex, REPEAT_MAX) {
            Ok(compiled) => Ok(Segment::Regex(Arc::new(compiled))),
            Err(why) => Err(InvalidTemplate::Regex {
                regex: regex.to_owned(),
                why: why.to_string(),
            }),
        },
        _ => Err(unknown()),
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &Template, number: u64) -> String {
        let mut out = Vec::new();
        let values = TemplateValues {
            number,
            connection: 3,
            unix_nanos: 5,
            seed: 1,
        };
        template.fill(&values, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn template_placeholders_are_filled_in() {
        let template: Template = "{{{seq}}} {conn} {now} x".parse().unwrap();
        assert_eq!(filled(&template, 7), "{7} 3 5 x");
        let template: Template = "{rand:16:hex} {re:[a-f]{8}(x|y)}".parse().unwrap();
        let text = filled(&template, 7);
        let shape = regex::Regex::new("^[0-9a-f]{16} [a-f]{8}[xy]$").unwrap();
        assert!(shape.is_match(&text), "{text}");
    }

    #[test]
    fn message_depends_only_on_seed_and_number() {
        let template: Template = "{rand:20} {re:[a-z]+}".parse().unwrap();
        assert_eq!(filled(&template, 7), filled(&template, 7));
        assert_ne!(filled(&template, 7), filled(&template, 8));
    }

    #[test]
    fn sized_template_has_the_requested_size() {
        for size in [0, 1, 3, 64, 10_000] {
            let template = Template::sized(size.to_string().parse().unwrap(), 1);
            assert_eq!(filled(&template, 123_456).len(), size);
        }
        let template = Template::sized("40".parse().unwrap(), 1);
        assert!(filled(&template, 17).starts_with("17 "));
    }

    #[test]
    fn position_of_the_sequence_number_is_known() {
        let before = |text: &str| {
            let template: Template = text.parse().unwrap();
            template.before_number().map(<[u8]>::to_vec)
        };
        assert_eq!(before("hello {seq}"), Some(b"hello ".to_vec()));
        assert_eq!(before("{seq} {rand:5}"), Some(Vec::new()));
        // The end of the number would be ambiguous.
        assert_eq!(before("{seq}{conn}"), None);
        assert_eq!(before("{seq}0"), None);
        assert_eq!(before("{conn} {seq}"), None);
        assert_eq!(before("hello"), None);
        assert_eq!(
            Template::sized("9".parse().unwrap(), 0).before_number(),
            None
        );
        assert_eq!(
            Template::sized("64".parse().unwrap(), 0).before_number(),
            Some(&b""[..])
        );
    }

    #[test]
    fn invalid_template_is_rejected_with_a_reason() {
        for (text, why) in [
            (
                "{sequence}",
                "invalid placeholder {sequence}: expected {seq}, ",
            ),
            ("{rand:x}", "invalid size x: "),
            ("{rand:9999999}", "at most 1M, in {rand:SIZE}"),
            ("{rand:5:oct}", "invalid placeholder"),
            ("{seq", "unmatched"),
            ("seq}", "unmatched"),
            ("{re:[a-z}", "cannot be generated"),
            ("{re:[z-a]}", "cannot be generated"),
            ("{re:a\\b}", "cannot be generated"),
        ] {
            let error = text
                .parse::<Template>()
                .map(|t| filled(&t, 0))
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
