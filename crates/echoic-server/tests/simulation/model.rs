//! The model: the exchanges that a stream of bytes must give, computed as simply as possible.

use echoic_core::framing::Framing;

use super::plan::Serving;

/// The greeting of [`Serving::Greet`].
pub(super) const GREETING: &[u8] = b"Thank you for connecting";

/// The exchanges of a conversation, from the bytes that its peer sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    /// Each request as received and its reply as sent.
    pub(super) exchanges: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the unfinished message.
    pub(super) unfinished: Vec<u8>,
    /// The message after the last exchange is longer than the limit.
    pub(super) too_long: bool,
    /// The stream ended inside a message that had announced its length.
    pub(super) incomplete: bool,
}

impl Model {
    /// `received` are all bytes of the peer; `ended` is whether its stream ended after them. Under `chunk` all of it is
    /// one exchange here, because the model does not know the reads.
    pub(super) fn of(
        serving: Serving,
        framing: Framing,
        max: usize,
        received: &[u8],
        ended: bool,
    ) -> Self {
        let mut model = Self::default();
        if serving == Serving::Greet {
            let length = match framing {
                Framing::Prefix(_) => vec![0, GREETING.len() as u8],
                _ => Vec::new(),
            };
            model
                .exchanges
                .push((Vec::new(), [&length, GREETING].concat()));
            return model;
        }
        let mut rest = received;
        while !rest.is_empty() {
            let Some((header, body, terminator)) = first(framing, rest) else {
                break;
            };
            if body > max && framing != Framing::Chunk {
                model.too_long = true;
                break;
            }
            let whole = header + body + terminator;
            if rest.len() < whole {
                break;
            }
            model.answer(serving, &rest[..whole], header);
            rest = &rest[whole..];
        }
        let delimited = matches!(framing, Framing::Line | Framing::Nul);
        model.too_long |= delimited && rest.len() > max;
        if model.too_long {
            return model;
        }
        if ended && delimited && !rest.is_empty() {
            model.answer(serving, rest, 0);
        } else {
            model.unfinished = rest.to_vec();
            model.incomplete = ended && !rest.is_empty();
        }
        model
    }

    fn answer(&mut self, serving: Serving, message: &[u8], header: usize) {
        let reply = match serving {
            Serving::Echo | Serving::Spawned(_) => message.to_vec(),
            Serving::Upper => {
                let (header, body) = message.split_at(header);
                [header, &body.to_ascii_uppercase()].concat()
            }
            Serving::Discard | Serving::Greet => Vec::new(),
        };
        self.exchanges.push((message.to_vec(), reply));
    }

    /// The bytes of all replies.
    pub(super) fn replies(&self) -> Vec<u8> {
        self.exchanges
            .iter()
            .flat_map(|(_, reply)| reply.clone())
            .collect()
    }
}

/// Lengths of header, body and terminator of the message that `bytes` begin with, as soon as they are known.
fn first(framing: Framing, bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let until = |end: u8| Some((0, bytes.iter().position(|byte| *byte == end)?, 1));
    match framing {
        Framing::Chunk => Some((0, bytes.len(), 0)),
        Framing::Line => until(b'\n'),
        Framing::Nul => until(0),
        Framing::Fixed(n) => Some((0, n.get() as usize, 0)),
        Framing::Prefix(_) => {
            let length = bytes.get(..2)?;
            Some((2, usize::from(length[0]) * 256 + usize::from(length[1]), 0))
        }
        other => unreachable!("{other} is not drawn"),
    }
}
